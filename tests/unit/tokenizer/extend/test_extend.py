"""Extended tokenizers of both kinds: what is promised of them, seen with the libraries."""

from __future__ import annotations

import dataclasses
import json
import logging
import random
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.tokenizer.base import Tokenizer, TokenizerError
from megatron.tokenizer.extend.byte_level_old import ByteLevelOld
from megatron.tokenizer.extend.extend import ExtendSettings, extend_tokenizer
from megatron.tokenizer.extend.extension import Extension
from megatron.tokenizer.extend.gates import BrokenGatesError, changed_lines, guard_gate
from megatron.tokenizer.extend.old import OldTokenizer
from megatron.tokenizer.extend.sentencepiece_old import SentencePieceOld
from megatron.tokenizer.extend.source import Source, in_text, pivot_lines
from megatron.tokenizer.extend.words import script_of
from megatron.tokenizer.load import load_model_file, load_tokenizer
from megatron.utils.files import fingerprint_bytes

SETTINGS = ExtendSettings(
    new_tokens=150, size_multiple=32, alpha=0.3, max_held_out_changed=1.0, parallel=None, prepend_bos=False
)
KINDS = ("sp", "ranks", "json")


@pytest.fixture(scope="session")
def olds(sp_model: Path, ranks_file: Path, hf_ranks_folder: Path) -> dict[str, Path]:
    return {"sp": sp_model, "ranks": ranks_file, "json": hf_ranks_folder}


@pytest.fixture(scope="session")
def extended(
    tmp_path_factory: pytest.TempPathFactory, olds: dict[str, Path], sources: list[Source]
) -> dict[tuple[str, str], Path]:
    folders = {}
    for kind, guard in [*((kind, "pairs") for kind in KINDS), ("sp", "script"), ("ranks", "script")]:
        folder = tmp_path_factory.mktemp("extended") / kind
        extend_tokenizer(olds[kind], sources, folder, dataclasses.replace(SETTINGS, guard=guard))
        folders[kind, guard] = folder
    return folders


@lru_cache
def load(path: Path) -> Tokenizer:
    if path.is_dir():
        model = path / "tokenizer.model"
        return load_model_file(model) if model.exists() else load_tokenizer("HFTokenizer", path)
    return load_model_file(path)


@pytest.mark.parametrize("kind", KINDS)
def test_new_ids_follow_and_everything_is_written(
    extended: dict[tuple[str, str], Path], olds: dict[str, Path], kind: str
) -> None:
    old, folder = load(olds[kind]), extended[kind, "pairs"]
    new = load(folder)
    assert new.vocab_size % 32 == 0
    assert 150 <= new.vocab_size - old.vocab_size < 150 + 32
    assert (new.eod_id, new.bos_id, new.unk_id) == (old.eod_id, old.bos_id, old.unk_id)
    extension = Extension.load(folder)
    files = [path for path in (folder / "tokenizer.model", folder / "tokenizer.json") if path.exists()]
    assert extension.old_fingerprint == old.fingerprint and new.fingerprint in extension.new_fingerprints
    assert extension.new_fingerprints == [fingerprint_bytes(path.read_bytes()) for path in files]
    assert (extension.old_size, extension.new_size) == (old.vocab_size, new.vocab_size)
    for number, spelling in enumerate(extension.spellings, start=extension.old_size):
        if not new.byte_token_mask()[number]:
            assert old.decode([*spelling]) == new.decode([number])
    assert all(spelling for spelling in extension.spellings)
    assert not [path for path in folder.parent.iterdir() if path != folder]
    report = json.loads((folder / "extension_report.json").read_text())
    assert all(gate["passes"] for gate in report["gates"])
    assert report["facts"]["new_size"] == new.vocab_size
    rows = (folder / "extension_report.tsv").read_text().splitlines()
    assert len(rows) == 1 + len(report["corpora"]) == 7


def test_old_pieces_are_untouched_and_the_new_ones_score_less(
    extended: dict[tuple[str, str], Path], sp_model: Path
) -> None:
    from sentencepiece import sentencepiece_model_pb2

    data = (extended["sp", "pairs"] / "tokenizer.model").read_bytes()
    assert data.startswith(sp_model.read_bytes())
    old = sentencepiece_model_pb2.ModelProto.FromString(sp_model.read_bytes())  # type: ignore[attr-defined]
    new = sentencepiece_model_pb2.ModelProto.FromString(data)  # type: ignore[attr-defined]
    scores = [piece.score for piece in new.pieces[len(old.pieces) :]]
    assert min(piece.score for piece in old.pieces) > scores[0]
    assert scores == sorted(set(scores), reverse=True)
    assert new.trainer_spec == old.trainer_spec
    assert new.normalizer_spec == old.normalizer_spec


@pytest.mark.parametrize("kind", ["ranks", "json"])
def test_the_rest_of_tokenizer_json_is_unchanged(
    extended: dict[tuple[str, str], Path], hf_ranks_folder: Path, kind: str
) -> None:
    old = json.loads((hf_ranks_folder / "tokenizer.json").read_text())
    new = json.loads((extended[kind, "pairs"] / "tokenizer.json").read_text())
    assert {**new, "model": None} == {**old, "model": None}
    assert {**new["model"], "vocab": 0, "merges": 0} == {**old["model"], "vocab": 0, "merges": 0}
    specials = {token["content"]: token["id"] for token in old["added_tokens"]}
    kept = {text: number for text, number in new["model"]["vocab"].items() if number < max(specials.values()) + 1}
    assert kept == {**old["model"]["vocab"], **specials}
    library = tokenizers.Tokenizer.from_file(str(extended[kind, "pairs"] / "tokenizer.json"))
    assert {text: library.token_to_id(text) for text in specials} == specials
    assert library.encode("<|end_of_text|>").ids == [specials["<|end_of_text|>"]]
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        assert (extended[kind, "pairs"] / name).read_bytes() == (hf_ranks_folder / name).read_bytes()


@pytest.mark.parametrize("guard", ["pairs", "script"])
@pytest.mark.parametrize("kind", ["sp", "ranks"])
def test_pivot_texts_keep_their_ids_and_the_others_get_shorter(
    extended: dict[tuple[str, str], Path], olds: dict[str, Path], sources: list[Source], kind: str, guard: str
) -> None:
    old, new = load(olds[kind]), load(extended[kind, guard])
    lines = list(pivot_lines(sources))
    assert len(lines) > 40
    for text in [*lines, "\n".join(lines), "\n\n".join(lines)]:
        assert new.encode(text) == old.encode(text)
    for source in sources:
        if not source.is_pivot and (guard == "pairs" or source.code != "fin_Latn"):
            before, after = (sum(len(one.encode(text)) for text in source.read()) for one in (old, new))
            assert after < (1 if source.code == "fin_Latn" else 0.9) * before, source.code


@pytest.mark.parametrize("kind", ["sp", "ranks"])
def test_what_the_guard_has_not_seen_changes_as_often_as_is_told(
    tmp_path: Path, olds: dict[str, Path], sources: list[Source], kind: str
) -> None:
    def share_of(old: OldTokenizer[Any], lines: Sequence[str]) -> tuple[float, float]:
        # A few of the tokens that change these lines.
        joined = sorted(old.joined(form for line in lines for form in in_text(line)))
        tokens = joined[:: len(joined) // 9]
        tokens = [token for token in tokens if token not in old.unreachable(tokens)]
        changed, total, _ = changed_lines(old.tokenizer, old.write(tokens, tmp_path / kind, prepend_bos=False), lines)
        return guard_gate(old, tokens, lines, at_most=1.0).value, changed / total

    lines = [line for source in sources for text in source.read() for line in text.split("\n") if line]
    if kind == "sp":
        told, measured = share_of(SentencePieceOld(olds[kind], tokenizer=load(olds[kind]), longest=16), lines)
    else:
        told, measured = share_of(ByteLevelOld(olds[kind], tokenizer=load(olds[kind]), longest=16), lines)
    assert 0 < told == measured < 1


@pytest.mark.parametrize("kind", ["sp", "ranks"])
@given(draw=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_any_text_of_guarded_words_keeps_its_ids(
    extended: dict[tuple[str, str], Path], olds: dict[str, Path], sources: list[Source], kind: str, draw: random.Random
) -> None:
    # Not only the very lines: their words in any order, each with its space, have the neighbours that were seen.
    words = {word for line in pivot_lines([sources[0]]) for word in line.split()[1:]}
    text = " ".join(["", *draw.choices(sorted(words), k=8)])
    assert load(extended[kind, "pairs"]).encode(f"\n{text}") == load(olds[kind]).encode(f"\n{text}")


LETTERS = "".join(
    chr(number)
    for number in range(0x3000)
    if unicodedata.category(chr(number)) not in ("Cn", "Cs", "Co") and script_of(chr(number)) in ("Latn", "Zyyy")
)


@pytest.mark.parametrize("kind", ["sp", "ranks"])
@given(text=st.text(alphabet=st.sampled_from(LETTERS), max_size=30))
@settings(deadline=None, max_examples=200)
def test_the_script_guard_keeps_every_text_of_the_script(
    extended: dict[tuple[str, str], Path], olds: dict[str, Path], kind: str, text: str
) -> None:
    old, new = load(olds[kind]), load(extended[kind, "script"])
    assert new.encode(text) == old.encode(text)


@pytest.mark.parametrize("kind", KINDS)
def test_libraries_agree_on_any_text(
    extended: dict[tuple[str, str], Path], sources: list[Source], texts: list[str], kind: str
) -> None:
    transformers = pytest.importorskip("transformers")
    folder = extended[kind, "pairs"]
    ours, theirs = load(folder), transformers.AutoTokenizer.from_pretrained(str(folder))
    everything = [*texts, *(text for source in sources for text in source.read()), "x<s>y", "<|end_of_text|>", "  a  "]
    for text in everything:
        ids = theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert ids == list(ours.encode(text)), text
        assert ours.decode(ids) == text
    if kind == "sp":
        processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        assert [processor.encode(text) for text in everything] == [ours.encode(text) for text in everything]
    else:
        json_again = load_tokenizer("HFTokenizer", folder)
        json_again.save(folder.parent / "again", prepend_bos=False)
        again = load_tokenizer("HFTokenizer", folder.parent / "again")
        assert [again.encode(text) for text in everything] == [ours.encode(text) for text in everything]


@pytest.mark.parametrize("kind", ["ranks", "json"])
def test_tiktoken_gives_the_same_ids(
    extended: dict[tuple[str, str], Path], ranks_file: Path, sources: list[Source], kind: str
) -> None:
    from megatron.tokenizer.extend.byte_level_content import bytes_of
    from megatron.tokenizer.tiktoken_tokenizer import LLAMA3_PATTERN

    content = json.loads((extended[kind, "pairs"] / "tokenizer.json").read_text())
    special = {token["content"] for token in content["added_tokens"]}
    ranks = {bytes_of(text): number for text, number in content["model"]["vocab"].items() if text not in special}
    encoding = tiktoken.Encoding("x", pat_str=LLAMA3_PATTERN, mergeable_ranks=ranks, special_tokens={})
    new = load(extended[kind, "pairs"])
    for source in sources:
        for text in source.read():
            assert encoding.encode_ordinary(text) == new.encode(text)


@pytest.mark.parametrize("kind", ["sp", "ranks"])
def test_the_order_of_corpora_says_nothing(
    tmp_path: Path, extended: dict[tuple[str, str], Path], olds: dict[str, Path], sources: list[Source], kind: str
) -> None:
    extend_tokenizer(olds[kind], sources[::-1], tmp_path / "out", SETTINGS)
    assert load(tmp_path / "out").fingerprint == load(extended[kind, "pairs"]).fingerprint


def test_a_token_that_is_a_part_of_an_old_one_keeps_the_old_one(tmp_path: Path) -> None:
    # "abc" is a token whose only split needs "bc"; "ab" will be new, and "abc" then has a second split.
    import base64

    tokens = [*(bytes([byte]) for byte in range(256)), b"bc", b"abc"]
    lines = [base64.b64encode(token) + f" {rank}\n".encode() for rank, token in enumerate(tokens)]
    (tmp_path / "tokenizer.model").write_bytes(b"".join(lines))
    sources = [
        Source("p", "eng_Latn", lambda: ["q r s"], is_pivot=True),
        Source("x", "xxx_Latn", lambda: ["abab abd abcab abe"] * 9),
    ]
    extend_tokenizer(
        tmp_path / "tokenizer.model", sources, tmp_path / "out", ExtendSettings(new_tokens=2, size_multiple=1)
    )
    content = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert content["model"]["vocab"]["ab"] == 258 + 256
    assert content["model"]["merges"][:3] == [["b", "c"], ["a", "bc"], ["ab", "c"]]


@pytest.mark.parametrize("kind", ["sp", "ranks"])
def test_a_broken_gate_writes_nothing(
    tmp_path: Path, olds: dict[str, Path], sources: list[Source], kind: str
) -> None:
    strict = dataclasses.replace(SETTINGS, max_unused=0.0, max_held_out_changed=0.0, hold_out=11)
    with pytest.raises(BrokenGatesError, match=r"(?s)1 gates are broken.*pivot lines changed  .*unused.*BROKEN"):
        extend_tokenizer(olds[kind], sources, tmp_path / "out", strict)
    assert list(tmp_path.iterdir()) == []


def test_more_tokens_than_the_texts_give_is_an_error_that_says_how_many(
    tmp_path: Path, sp_model: Path, sources: list[Source]
) -> None:
    told = r"give [\d,]+ new tokens, not 50,020: give --new-tokens \d+ or less"
    with pytest.raises(TokenizerError, match=told) as error:
        extend_tokenizer(sp_model, sources, tmp_path / "out", dataclasses.replace(SETTINGS, new_tokens=50_000))
    assert "smaller --size-multiple" not in str(error.value)
    coarse = dataclasses.replace(SETTINGS, new_tokens=50_000, size_multiple=50_000)
    with pytest.raises(TokenizerError, match=r"give more text, or a smaller --size-multiple$"):
        extend_tokenizer(sp_model, sources, tmp_path / "out", coarse)
    possible = int(str(error.value).split("--new-tokens ")[1].split()[0])
    extend_tokenizer(sp_model, sources, tmp_path / "out", dataclasses.replace(SETTINGS, new_tokens=possible))
    assert load(tmp_path / "out").vocab_size == 700 + possible


def test_characters_come_first_and_what_has_no_room_is_told(
    tmp_path: Path, sp_model: Path, sources: list[Source], caplog: pytest.LogCaptureFixture
) -> None:
    few = dataclasses.replace(SETTINGS, new_tokens=4, size_multiple=1)
    with caplog.at_level(logging.INFO, logger="megatron"):
        report = extend_tokenizer(sp_model, sources, tmp_path / "out", few)
    wanted = 2 * (4 + report.facts["characters_without_room"])
    assert "4 of the 4 new tokens are single characters, which leaves few for parts of words, and" in caplog.text
    assert caplog.text.count(f"give --new-tokens {wanted} or more") == 1
    assert "learning twice: first without a tenth" in caplog.text
    assert (report.facts["new_tokens"], report.facts["new_characters"]) == (4, 4)
    assert report.facts["characters_without_room"] > 20
    assert any("there was no room for" in line for line in report.lines())
    caplog.clear()
    enough = dataclasses.replace(SETTINGS, new_tokens=wanted)
    extend_tokenizer(sp_model, sources, tmp_path / "enough", enough)
    assert "single characters" not in caplog.text
    wide = dataclasses.replace(SETTINGS, character_coverage=0.5)
    chosen = extend_tokenizer(sp_model, sources, tmp_path / "wide", wide).facts["new_characters"]
    full = json.loads((tmp_path / "out" / "extension_report.json").read_text())["facts"]["characters_without_room"] + 4
    assert 0 < chosen < full / 2


def test_all_mistakes_are_told_at_once(tmp_path: Path, sp_model: Path, sources: list[Source]) -> None:
    wrong = ExtendSettings(new_tokens=0, alpha=2, guard="x", weights={"abc_Latn": -1}, parallel="no")
    with pytest.raises(TokenizerError) as error:
        extend_tokenizer(sp_model, sources[2:], tmp_path / "out", wrong)
    for part in ("new_tokens 0", "alpha 2", "guard x", "abc_Latn: no corpus", "abc_Latn -1", "parallel no", "no pivot"):
        assert part in str(error.value)
    (tmp_path / "out").mkdir()
    with pytest.raises(TokenizerError, match="is there already"):
        extend_tokenizer(sp_model, sources, tmp_path / "out", SETTINGS)


def test_a_factor_gives_a_language_more_tokens(tmp_path: Path, sp_model: Path, sources: list[Source]) -> None:
    def greek(weights: dict[str, float], name: str) -> int:
        settings = dataclasses.replace(SETTINGS, weights=weights)
        report = extend_tokenizer(sp_model, sources, tmp_path / name, settings)
        return len(report.new_tokens["Grek"])

    assert greek({"ell_Grek": 20}, "more") > greek({}, "equal")


@pytest.mark.parametrize(("kind", "most"), [("sp", 3), ("ranks", 9)])
def test_no_token_is_longer_than_is_asked(
    tmp_path: Path, olds: dict[str, Path], sources: list[Source], kind: str, most: int
) -> None:
    old = load(olds[kind])
    extend_tokenizer(olds[kind], sources, tmp_path / "out", dataclasses.replace(SETTINGS, longest=3))
    new = load(tmp_path / "out")
    texts = [new.decode([number]).removeprefix(" ") for number in range(old.vocab_size, new.vocab_size)]
    lengths = [len(text) if kind == "sp" else len(text.encode()) for text in texts if "\ufffd" not in text]
    assert most - 1 <= max(lengths) <= most
