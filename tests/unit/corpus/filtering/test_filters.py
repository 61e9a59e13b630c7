"""The rules of stage filters, each with a text that breaks it and one that does not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.corpus_schema import FiltersConfig, Thresholds
from megatron.corpus.document import CorpusError
from megatron.corpus.filtering import language_id
from megatron.corpus.filtering.filters import RULES, Filters
from megatron.corpus.filtering.limits import DEFAULTS, limits_of
from megatron.corpus.filtering.measures import Measures
from megatron.corpus.languages import to_iso639_3
from megatron.languages.script import main_script

GOOD = "All human beings are born free and equal in dignity and rights, and should act in brotherhood."


def rule_of(text: str, code: str = "eng_Latn", source: str = "monolingual", **limits: float) -> str | None:
    settings = FiltersConfig(limits=Thresholds(**limits))  # type: ignore[arg-type]
    dropped = Filters(settings, code=code, source=source).check(text)
    assert dropped is None or dropped.rule in RULES
    return dropped.rule if dropped else None


@pytest.mark.parametrize(
    ("rule", "text", "limits"),
    [
        ("few_characters", "short", {}),
        ("many_characters", GOOD, {"max_characters": len(GOOD) - 1}),
        ("few_bytes", GOOD, {"min_bytes": len(GOOD) + 1}),
        ("many_bytes", GOOD, {"max_bytes": len(GOOD) - 1}),
        ("urls", "see https://example.org/a/long/path and www.example.org now", {}),
        ("punctuation", "-- :: // ?? !! ## a b c d e f", {}),
        ("digits", "12 345 678 90 12 345 and more", {}),
        ("character_run", GOOD + "z" * 101, {}),
        ("repeated_lines", "this is the line\n" * 9, {}),
        ("script", "это русский текст, а не английский", {}),
        ("character_share", "a b" + "ab" * 10 + "aac" * 40, {"max_repeated_ngrams": 1}),
        ("repeated_ngrams", GOOD * 4, {}),
    ],
)
def test_each_rule_drops_its_text_and_keeps_a_good_one(rule: str, text: str, limits: dict[str, float]) -> None:
    assert rule_of(GOOD) is None
    assert rule_of(text, **limits) == rule


def test_values_and_limits_are_told() -> None:
    dropped = Filters(FiltersConfig(), code="eng_Latn", source="monolingual").check("short")
    assert dropped is not None and (dropped.value, dropped.limit) == (5, 20)


def test_short_texts_and_labels_without_a_script_are_in_every_script() -> None:
    assert rule_of("это 1, 2, 3, 4, abc", min_characters=0, max_digits=1) is None
    assert rule_of("это русский текст, а не английский", code="und_Zyyy") is None


def test_later_limits_win() -> None:
    settings = FiltersConfig(
        limits=Thresholds(min_characters=1, max_digits=0.1),
        scripts={"Latn": Thresholds(min_characters=2)},
        languages={"eng_Latn": Thresholds(min_characters=3)},
        sources={"book": Thresholds(min_characters=4)},
    )
    assert limits_of(settings, "rus_Cyrl", "paper").min_characters == 1
    assert limits_of(settings, "deu_Latn", "paper").min_characters == 2
    assert limits_of(settings, "eng_Latn", "paper").min_characters == 3
    assert limits_of(settings, "eng_Latn", "book").min_characters == 4
    assert limits_of(settings, "eng_Latn", "book").max_digits == 0.1
    assert limits_of(settings, "eng_Latn", "book").max_urls == DEFAULTS.max_urls
    assert limits_of(FiltersConfig(), "zho_Hans", "book").min_characters == 5
    assert limits_of(FiltersConfig(), "jpn_Japn", "book").min_characters == 5


def test_code_has_limits_of_its_own() -> None:
    settings = FiltersConfig(limits=Thresholds(min_characters=1000))
    code = "def f(x):\n    return {'a': [x[0], (x[1] + 2) * 3]}\n"
    assert Filters(settings, code="zxx_Zyyy", source="code").check(code) is None
    settings = FiltersConfig(sources={"code": Thresholds(min_characters=1000)})
    assert str(Filters(settings, code="zxx_Zyyy", source="code").check(code)).startswith("few_characters")


def test_rules_without_a_model_are_told() -> None:
    settings = FiltersConfig(limits=Thresholds(max_perplexity=100, min_language_score=0.5, max_listed_words=0.1))
    filters = Filters(settings, code="eng_Latn", source="monolingual")
    assert filters.not_applied == ("listed_words", "language", "perplexity")
    assert Filters(FiltersConfig(), code="eng_Latn", source="monolingual").not_applied == ()


def test_word_lists_of_words_phrases_and_characters(tmp_path: Path) -> None:
    (tmp_path / "eng_Latn.txt").write_text("# comment\nBAD\nvery bad thing\n", encoding="utf-8")
    (tmp_path / "tha.txt").write_text("เลว\n", encoding="utf-8")
    settings = FiltersConfig(word_lists=str(tmp_path), limits=Thresholds(min_characters=0, max_listed_words=0.3))
    english = Filters(settings, code="eng_Latn", source="monolingual")
    assert english.check("a very bad thing") is not None
    assert english.check("a badge of thing very badly made") is None
    thai = Filters(settings, code="tha_Thai", source="monolingual")
    assert thai.check("คนเลว") is not None
    assert thai.check("คนดีที่อยู่ในบ้านเลว") is None
    assert Filters(settings, code="deu_Latn", source="monolingual").not_applied == ("listed_words",)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"])
def test_broken_word_lists_are_errors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "eng.txt").write_bytes(content)
    with pytest.raises(CorpusError, match=r"eng\.txt"):
        Filters(FiltersConfig(word_lists=str(tmp_path)), code="eng_Latn", source="monolingual")


def test_missing_models_are_errors(tmp_path: Path) -> None:
    for settings in (
        FiltersConfig(word_lists=str(tmp_path / "no")),
        FiltersConfig(language_model=str(tmp_path / "no")),
        FiltersConfig(perplexity_models=str(tmp_path / "no"), limits=Thresholds(max_perplexity=9)),
    ):
        with pytest.raises(CorpusError, match="no"):
            Filters(settings, code="eng_Latn", source="monolingual")


ARPA = """\\data\\
ngram 1=5
ngram 2=1

\\1-grams:
-2.0\t<unk>
-99\t<s>\t0.0
-1.0\t</s>
-1.0\tgood\t0.0
-1.0\ttext\t0.0

\\2-grams:
-1.0\tgood text

\\end\\
"""


@pytest.mark.parametrize("name", ["eng_Latn.arpa", "eng.arpa"])
def test_perplexity_is_that_of_the_model(tmp_path: Path, name: str) -> None:
    pytest.importorskip("kenlm")
    (tmp_path / name).write_text(ARPA)
    limits = Thresholds(min_characters=0, max_perplexity=11)
    settings = FiltersConfig(perplexity_models=str(tmp_path), limits=limits)
    filters = Filters(settings, code="eng_Latn", source="monolingual")
    assert filters.check("good text\ngood") is None
    dropped = filters.check("other words")
    assert dropped is not None and dropped.rule == "perplexity"
    assert dropped.value == pytest.approx(10 ** (5 / 3), rel=1e-4)


@given(st.text(alphabet=st.characters(), max_size=60) | st.text(alphabet="ab \n", max_size=60))
def test_measures_agree_with_plain_python(text: str) -> None:
    measures = Measures(text)
    run = longest = 0
    before = ""
    for character in text:
        run = 0 if character.isspace() else run + 1 if character == before else 1
        before, longest = character, max(longest, run)
    blank = {"\x1c", "\x1d", "\x1e", "\x1f"}  # Python's idea of white space, not Unicode's
    if blank.isdisjoint(text):
        assert measures.longest_run() == longest
        visible = [character for character in text * 5 if not character.isspace()]
        share = max(Counter(visible).values(), default=0) / max(len(visible), 1)
        assert Measures(text * 5).largest_share() == pytest.approx(share if len(text) >= 20 else 0)
    size, seen = 3, set()
    covered: set[int] = set()
    for start in range(len(text) - size + 1):
        if text[start : start + size] in seen:
            covered |= set(range(start, start + size))
        seen.add(text[start : start + size])
    assert measures.repeated_ngrams(size) == pytest.approx(len(covered) / len(text) if text else 0)


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_any_text_can_be_checked(text: str) -> None:
    for source in ("monolingual", "code"):
        Filters(FiltersConfig(limits=Thresholds(min_characters=0)), code="jpn_Jpan", source=source).check(text)


class FakeModel:
    """Predicts the same for every text, with the interface of the package."""

    def predict(self, text: str, k: int = 1, threshold: float = 0.0) -> tuple[tuple[str, ...], tuple[float, ...]]:
        assert "\n" not in text
        return ("__label__zho_Hans", "__label__yue_Hant", "__label__en"), (0.5, 0.3, 0.2)


@pytest.mark.parametrize(
    ("code", "score"),
    [("zho_Hani", 0.8), ("cmn_Hani", 0.5), ("yue_Hani", 0.8), ("eng_Latn", 0.2), ("eng_Cyrl", 0.2), ("zho_Latn", None)],
)
def test_labels_that_do_not_contradict_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, score: float | None
) -> None:
    path = tmp_path / "model.bin"
    path.touch()
    monkeypatch.setattr(language_id, "_load", lambda path, changed: FakeModel())
    scorer = language_id.find_scorer(str(path), code, to_iso639_3)
    assert (scorer and scorer("some\ntext")) == (score and pytest.approx(score))


def test_a_file_that_is_no_model_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("fasttext")
    (tmp_path / "model.bin").write_bytes(b"no model")
    with pytest.raises(CorpusError, match="fastText cannot read"):
        language_id.find_scorer(str(tmp_path / "model.bin"), "eng_Latn", to_iso639_3)


def test_defaults_keep_good_text(shared: Path) -> None:
    dropped: Counter[str] = Counter()
    articles = 0
    for file in sorted((shared / "data/udhr/raw").glob("*.jsonl")):
        records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        script = main_script("\n".join(record["text"] for record in records))
        code = f"{to_iso639_3(records[0]['original_code'])}_{script}"
        filters = Filters(FiltersConfig(), code=code, source="monolingual")
        articles += len(records)
        dropped.update(found.rule for record in records if (found := filters.check(record["text"])))
    assert articles > 8000
    assert set(dropped) <= {"few_characters"} and dropped.total() <= 6


def test_limits_that_no_corpus_meets_are_errors() -> None:
    for settings in (
        FiltersConfig(scripts={"Lattin": Thresholds(min_characters=1)}),
        FiltersConfig(languages={"swahili": Thresholds(min_characters=1)}),
    ):
        with pytest.raises(CorpusError, match="filters"):
            limits_of(settings, "swh_Latn", "book")


def test_limits_of_a_script_hold_for_its_variants() -> None:
    settings = FiltersConfig(scripts={"Hani": Thresholds(min_characters=7), "Hant": Thresholds(max_digits=0.1)})
    assert limits_of(settings, "zho_Hant", "book").min_characters == 7
    assert limits_of(settings, "zho_Hant", "book").max_digits == 0.1
    assert limits_of(settings, "zho_Hans", "book").max_digits == DEFAULTS.max_digits
    settings = FiltersConfig(languages={"jpn_Japn": Thresholds(min_characters=9)})
    assert limits_of(settings, "jpn_Jpan", "book").min_characters == 9


@pytest.mark.parametrize("characters", [60, 5_000, 200_000])
def test_repeats_are_found_in_texts_of_any_length(characters: int) -> None:
    random = np.random.default_rng(0)
    text = "".join(map(chr, random.integers(0x4E00, 0x9FFF, characters)))
    assert Measures(text).repeated_ngrams(20) == 0
    half = text[: characters // 2]
    assert Measures(half + "," + half).repeated_ngrams(20) == pytest.approx(0.5, abs=0.02)
    assert Measures(text + text[:25]).repeated_ngrams(20) == pytest.approx(25 / (characters + 25))
