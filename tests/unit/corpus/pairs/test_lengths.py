import orjson
import pytest

from megatron.corpus.pairs.lengths import length, length_ratio
from megatron.languages.script import main_script


def test_lengths_are_in_characters_of_english():
    assert length("hello", "Latn") == 5
    assert length("你好", "Hani") == pytest.approx(2 / 0.27)
    assert length_ratio(2, 8) == length_ratio(8, 2) == 1.5
    assert length_ratio(100, 400) > 3


def test_translations_of_one_text_are_equally_long_in_every_script(shared):
    """The Declaration of Human Rights; what is left are differences between languages of the Latin script."""
    lengths, characters = {}, {}
    for path in sorted((shared / "data" / "udhr" / "raw").glob("*.jsonl")):
        texts = [orjson.loads(line)["text"] for line in path.read_bytes().splitlines()]
        text = "\n".join(texts)
        if len(texts) >= 29:  # all thirty articles, with or without the preamble
            lengths[path.stem] = length(text, main_script(text))
            characters[path.stem] = len(text)
    ordered = sorted(lengths.values())
    assert len(ordered) > 200
    middle = ordered[len(ordered) // 2]
    assert sum(0.67 < value / middle < 1.5 for value in ordered) > 0.92 * len(ordered)
    names = ("eng", "cmn_hans", "jpn", "amh", "mya", "div", "tha", "arb", "hin", "rus", "ell_monotonic", "bod", "iii")
    some = [lengths[name] for name in names]
    assert max(some) / min(some) < 1.7
    assert max(characters[name] for name in names) / min(characters[name] for name in names) > 6
