from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.tokenizer.base import TokenizerError
from megatron.tokenizer.load import load_tokenizer, tokenizer_type_of
from megatron.tokenizer.measure import counts, words
from megatron.tokenizer.measure.counts import Example, LanguageCounts, ParallelCounts, Side, keep_example
from megatron.tokenizer.measure.figures import byte_premium_of, figures_of, gini, group_of, mean
from megatron.tokenizer.measure.measured import Language
from megatron.tokenizer.measure.measurer import Measurer, MeasureSettings, Text
from megatron.tokenizer.measure.source import Loaded, TokenizerSource, loaded
from megatron.tokenizer.measure.words import WordCollector, words_of


def text(content: str, place: str = "file:1") -> Text:
    return Text(content, content.encode(), place)


def write_ranks(path: Path, *merges: str) -> Path:
    tokens = [bytes([byte]) for byte in range(256)] + [merge.encode() for merge in merges]
    path.write_bytes(b"".join(base64.b64encode(token) + f" {rank}\n".encode() for rank, token in enumerate(tokens)))
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A byte-level tokenizer with two merges: every count can be worked out by hand."""
    path = write_ranks(tmp_path_factory.mktemp("small") / "tokenizer.model", "ab", " ab")
    return Loaded.of(load_tokenizer("TiktokenTokenizer", path))


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A SentencePiece model without byte pieces: what it has not seen becomes the unknown token."""
    path = tmp_path_factory.mktemp("lossy") / "tokenizer.model"
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["ab ab abc", "cab bca"] * 20), model_writer=file, vocab_size=12,
            model_type="bpe", minloglevel=2, hard_vocab_limit=False,
        )  # fmt: skip
    return Loaded.of(load_tokenizer("SPMTokenizer", path))


def measured(
    tokenizers: Sequence[Loaded], batches: Sequence[Sequence[Text]], *, script: str = "Latn", **how: float
) -> LanguageCounts:
    measurer = Measurer(tokenizers, MeasureSettings(**how), script=script)  # type: ignore[arg-type]
    for batch in batches:
        measurer.add(batch)
    return measurer.counts()


def test_every_count_is_the_one_worked_out_by_hand(small: Loaded) -> None:
    # "ab", " ab", then blank and the two bytes of é: 5 tokens; "ab": 1 token.
    found = measured([small], [[text("ab ab é"), text("ab")]], context_tokens=2)
    assert vars(found.text) == {"documents": 2, "bytes": 10, "characters": 9, "words": 4}
    assert vars(found.tokens[0]) == {
        "tokens": 6, "unk_tokens": 0, "byte_tokens": 2, "overflowing": 1, "windows": 4, "checked": 2, "failures": 0,
    }  # fmt: skip
    language = Language("xxx_Latn", "Latn", is_language=True, corpus=found)
    figures = figures_of(language, 0)
    assert figures.tokens_per_word == 6 / 4
    assert figures.tokens_per_character == 6 / 9
    assert figures.bytes_per_token == 10 / 6
    assert figures.byte_share == 2 / 6
    assert figures.whole_words == 1 / 2  # of ab and é
    assert figures.overflow_share == 1 / 2 and figures.windows == 4 / 2
    assert figures.failure_share == 0 and math.isnan(figures.premium)


def test_lengths_are_those_of_the_documents(small: Loaded, lossy: Loaded) -> None:
    measurer = Measurer([small, lossy], MeasureSettings(), script="Latn")
    lengths = measurer.add([text("ab ab"), text(" "), text("cab")])
    assert lengths[0].tolist() == [2, 1, 2]
    assert lengths[1].tolist() == [len(lossy.tokenizer.encode(each)) for each in ("ab ab", " ", "cab")]
    assert measurer.add([]).shape == (2, 0)


def test_unknown_tokens_and_texts_that_do_not_come_back_are_counted_with_examples(lossy: Loaded) -> None:
    batch = [text(f"ab 雪{'b' * number}", f"file:{number}") for number in range(9)] + [text("ab abc")]
    found = measured([lossy], [batch])
    tokens = found.tokens[0]
    assert tokens.unk_tokens == 9 and tokens.checked == 10 and tokens.failures == 9
    assert len(found.examples[0]) == counts.KEPT_EXAMPLES
    example = next(iter(found.examples[0].values()))
    assert "雪" in example.text and "雪" not in example.decoded and example.place.startswith("file:")


def test_a_share_of_the_round_trips_depends_on_the_texts_alone(lossy: Loaded) -> None:
    batch = [text(f"ab {number}") for number in range(400)]
    part = measured([lossy], [batch], round_trip_share=0.25).tokens[0]
    assert 60 < part.checked < 140
    assert measured([lossy], [[each] for each in reversed(batch)], round_trip_share=0.25).tokens[0] == part
    assert measured([lossy], [batch], round_trip_share=0.0).tokens[0].checked == 0


def test_words_are_only_looked_at_where_they_are_written_apart(small: Loaded) -> None:
    found = measured([small], [[text("ab ab")]], script="Thai")
    language = Language("tha_Thai", "Thai", is_language=True, corpus=found)
    assert math.isnan(figures_of(language, 0).tokens_per_word) and math.isnan(figures_of(language, 0).whole_words)


def test_words_lose_the_signs_around_them_and_are_whole_after_a_blank_or_at_the_start(small: Loaded) -> None:
    collector = WordCollector()
    collector.add(["ab,", "(ab)", "a", "abab", "12", "--", "x" * 101, "don't"])
    sample = collector.sample([small])
    assert len(sample.hashes) == 4  # ab, a, abab, don't
    assert int(sample.whole.sum()) == 2  # ab and a; without letters or too long is no word
    assert words_of("ሰው፡ልጅ ab") == ["ሰው", "ልጅ", "ab"]


def test_what_is_remembered_of_words_is_bounded(small: Loaded) -> None:
    collector = WordCollector()
    for number in range(50):
        collector.add([f"{number}{'x' * 1_000_000}", f"{'-' * 200}ab{number}"])
    assert sum(map(len, collector._seen)) < 1000
    assert len(collector.sample([small]).hashes) == 50  # ab0, ab1, ...


def test_a_single_unknown_token_is_no_whole_word(lossy: Loaded) -> None:
    collector = WordCollector()
    collector.add(["雪", "ab"])
    assert lossy.tokenizer.encode("雪")[-1] == lossy.tokenizer.unk_id
    assert int(collector.sample([lossy]).whole.sum()) == int(len(lossy.tokenizer.encode("ab")) == 1)


WORDS = st.text(alphabet="abcé雪 ", min_size=0, max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(WORDS, st.integers(0, 3)), max_size=12), st.permutations(range(4)))
def test_counts_of_parts_add_up_to_those_of_the_whole(
    small: Loaded, lossy: Loaded, parts: list[tuple[str, int]], order: list[int]
) -> None:
    both = [small, lossy]
    documents = [(text(content, f"file:{number}"), part) for number, (content, part) in enumerate(parts)]
    whole = measured(both, [[each for each, _ in documents]])
    total = LanguageCounts.empty(2)
    for part in order:
        mine = measured(both, [[each] for each, number in documents if number == part])
        total.add(LanguageCounts.from_json(mine.to_json()))
    assert total.to_json() == whole.to_json()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.text(alphabet="abcdefgh", min_size=1, max_size=3), max_size=30), min_size=1, max_size=5))
def test_a_sample_of_words_is_the_same_however_the_text_is_divided(small: Loaded, groups: list[list[str]]) -> None:
    limit = words.SAMPLED_WORDS
    words.SAMPLED_WORDS = 5
    try:
        whole = WordCollector()
        whole.add(word for group in groups for word in group)
        merged = words.WordSample.empty(1)
        for group in reversed(groups):
            part = WordCollector()
            for word in group:
                part.add([word])
            merged = merged.merged(part.sample([small]))
        expected = whole.sample([small])
    finally:
        words.SAMPLED_WORDS = limit
    assert merged.to_json() == expected.to_json()
    assert len(expected.hashes) == min(5, len({word for group in groups for word in group}))


def test_examples_are_those_with_the_smallest_hashes() -> None:
    kept: dict[int, Example] = {}
    for digest in (9, 3, 7, 1, 8):
        keep_example(kept, digest, Example(f"b{digest}", "", ""))
    keep_example(kept, 3, Example("a", "", ""))
    assert {digest: each.place for digest, each in kept.items()} == {1: "b1", 3: "a", 7: "b7"}


def test_premiums_are_ratios_of_sums_and_groups_are_means_over_languages(small: Loaded) -> None:
    def language(code: str, tokens: int, size_bytes: int) -> Language:
        shared = ParallelCounts(2, 0, Side(size_bytes, 5, [tokens]), Side(20, 20, [10]))
        found = measured([small], [[text("ab")]])
        return Language(code, "Latn", is_language=True, parallel_text=found, parallel=shared)

    one, two = language("xxx_Latn", 30, 40), language("yyy_Latn", 10, 10)
    alone = Language("zzz_Latn", "Latn", is_language=True, corpus=measured([small], [[text("ab ab")]]))
    assert figures_of(one, 0).premium == 3 and byte_premium_of(one) == 2 and math.isnan(byte_premium_of(alone))
    group = group_of("Latn", [one, two, alone], 1)
    assert (group.languages, group.compared, group.documents, group.bytes) == (3, 2, 3, 2 + 2 + 5)
    assert group.figures[0].premium == 2 and group.highest == (3,) and group.byte_premium == 1.25
    assert group.figures[0].bytes_per_token == mean([2, 2, 5 / 2])


def test_gini_of_known_values() -> None:
    assert gini([1, 1, 1]) == 0 and gini([0, 0, 0, 1]) == 0.75 and gini([1, 3, math.nan]) == 0.25
    assert math.isnan(gini([])) and math.isnan(gini([0, 0]))


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=30))
def test_gini_is_half_the_relative_mean_difference(values: list[float]) -> None:
    array = np.array(values)
    expected = np.abs(array[:, None] - array[None, :]).mean() / 2 / array.mean()
    assert gini(values) == pytest.approx(expected, abs=1e-9)


def test_tokenizers_are_named_once_and_all_mistakes_told(tmp_path: Path) -> None:
    path = write_ranks(tmp_path / "tokenizer.model")
    sources = TokenizerSource.parse([f"one={path}", f"two={tmp_path}"])
    assert [source.name for source in sources] == ["one", "two"]
    with pytest.raises(TokenizerError) as error:
        TokenizerSource.parse([f"one={path}", f"one={path}", "nothing", f"a b={path}", "gone=/no/such"])
    message = str(error.value)
    assert "one is already" in message and "--tokenizer nothing: give NAME=PATH" in message
    assert "a b=" in message and "there is no /no/such" in message
    with pytest.raises(TokenizerError, match="no tokenizer is given"):
        TokenizerSource.parse([])


def test_the_kind_is_found_and_no_end_of_document_token_is_needed(
    tmp_path: Path, ranks_file: Path, sp_model: Path, hf_folder: Path
) -> None:
    assert tokenizer_type_of(ranks_file)[0] == "TiktokenTokenizer"
    assert tokenizer_type_of(sp_model)[0] == "SPMTokenizer"
    assert tokenizer_type_of(hf_folder) == ("HFTokenizer", hf_folder / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_bytes((hf_folder / "tokenizer.json").read_bytes())
    with pytest.raises(TokenizerError, match="nothing says which token ends documents"):
        load_tokenizer("HFTokenizer", tmp_path)
    alone = loaded(TokenizerSource("alone", tmp_path)).tokenizer
    assert alone.encode("free and equal") == load_tokenizer("HFTokenizer", hf_folder).encode("free and equal")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TokenizerError, match="holds neither"):
        tokenizer_type_of(tmp_path / "empty")


def test_settings_must_make_sense() -> None:
    for wrong in ({"context_tokens": 0}, {"round_trip_share": 1.1}, {"round_trip_share": -0.1}):
        with pytest.raises(TokenizerError, match="--context"):
            MeasureSettings(**wrong)  # type: ignore[arg-type]
