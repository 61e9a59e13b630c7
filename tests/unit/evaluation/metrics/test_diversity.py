from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.evaluation.metrics.diversity import (
    bleu_with_others,
    distinct_1,
    distinct_2,
    repetition_4,
    self_bleu,
    self_bleu_published,
)
from megatron.evaluation.metrics.ngrams import ngrams
from megatron.evaluation.metrics.texts import MetricSettings, Texts, warn_once

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d.", "ไท", "(x)"]), max_size=12).map(" ".join)
MANY = st.lists(WORDS, min_size=2, max_size=7)


def texts(*outputs: str, language: str = "eng_Latn", **settings: int) -> Texts:
    return Texts(outputs, [[] for _ in outputs], language, MetricSettings(**settings))  # type: ignore[arg-type]


@settings(deadline=None)
@given(MANY, st.sampled_from(["13a", "char"]))
def test_self_bleu_is_sacrebleu_with_all_others_as_references(outputs: list[str], tokenizer: str) -> None:
    expected = [
        sacrebleu.sentence_bleu(output, outputs[:index] + outputs[index + 1 :], tokenize=tokenizer).score
        for index, output in enumerate(outputs)
    ]
    assert bleu_with_others(outputs, tokenizer) == pytest.approx(expected)


@settings(deadline=None)
@given(MANY)
def test_the_published_form_is_what_sacrebleu_makes_of_one_list(outputs: list[str]) -> None:
    expected = [
        sacrebleu.BLEU().corpus_score([output], [outputs[:index] + outputs[index + 1 :]]).score
        for index, output in enumerate(outputs)
    ]
    assert self_bleu_published(texts(*outputs)) == pytest.approx(sum(expected) / len(expected))


def test_an_exact_copy_is_seen_by_the_right_form_only() -> None:
    copies = texts("one two three four", "five six seven eight", "five six seven eight")
    assert self_bleu(copies) == pytest.approx(200 / 3)
    assert self_bleu_published(copies) == 0.0


def test_self_bleu_takes_the_tokenizer_of_the_script() -> None:
    outputs = ("人人生而自由在尊嚴上", "人人生而自由在權利上")
    assert self_bleu(texts(*outputs, language="cmn_Hani")) > 50
    assert self_bleu(texts(*outputs, language="eng_Latn")) == 0


def test_of_many_texts_the_same_ones_are_taken_every_time(caplog: pytest.LogCaptureFixture) -> None:
    warn_once.cache_clear()
    outputs = [f"text number {number} of {number % 7} {number % 5}" for number in range(60)]
    values = [self_bleu(texts(*outputs, self_bleu_texts=20, seed=seed)) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert [record.message for record in caplog.records] == ["eng_Latn: Self-BLEU is of 20 texts, chosen from 60"]
    different = [f"a{number} b{number} c{number} d{number}" for number in range(60)]
    assert self_bleu(texts(*different, self_bleu_texts=30)) == 0  # no text is taken twice
    assert self_bleu(texts(*outputs, self_bleu_texts=60)) == self_bleu(texts(*outputs, self_bleu_texts=60, seed=1))


def test_one_text_has_no_others() -> None:
    for metric in (self_bleu, self_bleu_published):
        assert math.isnan(metric(texts("alone"))) and math.isnan(metric(texts()))
    assert self_bleu_published(texts("", "")) == 0.0


NOTHING = st.sampled_from(["", " ", "\n\t", "\u200b", "\u200b\u200b\ufeff", "\x00"])


@settings(deadline=None)
@given(st.lists(NOTHING, max_size=8), st.lists(WORDS.filter(str.strip), max_size=6), st.randoms())
def test_empty_outputs_gain_nothing(empty: list[str], written: list[str], random: Random) -> None:
    mixed = [*empty, *written]
    random.shuffle(mixed)
    for metric in (self_bleu, distinct_1, distinct_2, repetition_4):
        value = metric(texts(*mixed))
        if len(empty) > len(written):
            assert math.isnan(value)
        else:
            assert value == pytest.approx(metric(texts(*written)), nan_ok=True)


def test_a_model_that_writes_nothing_has_no_diversity() -> None:
    for outputs in (("",) * 20, ("a b c d e", *("",) * 19), ("<skipped>",) * 20, ("a", "")):
        assert math.isnan(self_bleu(texts(*outputs)))
    for rest in ("", "...", "?!"):
        once = texts("a b c d e", *(rest,) * 19)
        assert all(math.isnan(metric(once)) for metric in (distinct_1, distinct_2, repetition_4))
    assert self_bleu(texts("one two three", "one two three", "", "")) == pytest.approx(100)


def test_empty_outputs_take_no_place_among_the_texts_that_are_chosen() -> None:
    written = [f"text number {number} of {number % 7}" for number in range(30)]
    alone = self_bleu(texts(*written, self_bleu_texts=20))
    assert self_bleu(texts(*written, *("",) * 30, self_bleu_texts=20)) == alone


TOKENS = st.lists(st.lists(st.sampled_from("abc"), max_size=10), max_size=6)


@settings(deadline=None)
@given(TOKENS, st.integers(1, 5))
def test_ngrams_are_numbered_as_their_tokens_say(tokens: list[list[str]], order: int) -> None:
    expected = [
        (index, tuple(text[start : start + order]))
        for index, text in enumerate(tokens)
        for start in range(len(text) - order + 1)
    ]
    *_, found = ngrams(tokens, order)
    assert found.text.tolist() == [index for index, _ in expected]
    numbers = dict(zip((gram for _, gram in expected), found.number.tolist(), strict=True))
    assert [numbers[gram] for _, gram in expected] == found.number.tolist()
    assert len(set(numbers.values())) == len(numbers)


@settings(deadline=None)
@given(TOKENS)
def test_shares_are_counted_by_definition(tokens: list[list[str]]) -> None:
    outputs = texts(*map(" ".join, tokens))
    if 2 * tokens.count([]) > len(tokens):
        assert all(math.isnan(metric(outputs)) for metric in (distinct_1, distinct_2, repetition_4))
        return
    for order, metric in ((1, distinct_1), (2, distinct_2)):
        grams = [tuple(text[i : i + order]) for text in tokens for i in range(len(text) - order + 1)]
        assert metric(outputs) == (len(set(grams)) / len(grams) if grams else pytest.approx(math.nan, nan_ok=True))
    counts = [Counter(tuple(text[i : i + 4]) for i in range(len(text) - 3)) for text in tokens]
    shares = [1 - len(count) / count.total() for count in counts if count]
    expected = sum(shares) / len(shares) if shares else math.nan
    assert repetition_4(outputs) == pytest.approx(expected, nan_ok=True)


def test_repetition_within_a_text_of_a_script_without_blanks() -> None:
    assert repetition_4(texts("ไทยไทยไทยไทย", language="tha_Thai")) == pytest.approx(1 - 3 / 9)
    assert repetition_4(texts("la la la la la", "no text of this kind")) == 0.25
    assert math.isnan(repetition_4(texts("", "a b c")))
