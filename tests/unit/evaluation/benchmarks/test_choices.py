from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.config.architecture import Architecture
from megatron.config.benchmark_load import load_benchmark
from megatron.evaluation.benchmarks.choices import ask_choices, split_labels
from megatron.evaluation.benchmarks.data import Items
from megatron.evaluation.benchmarks.outcome import Outcome, RunOptions
from megatron.evaluation.language_model import Request
from megatron.model.llama import Llama
from megatron.tokenizer.base import Tokenizer
from megatron.tokenizer.load import load_model_file

from .models import ByteTokenizer, Prefers, Real, Uniform
from .upstream import SIB_LABELS

SIB = load_benchmark("sib200")
RECORDS = [{"id": str(n), "text": f"Text {n}", "label": SIB_LABELS[n % 7]} for n in range(21)]
ITEMS = Items(RECORDS[:14], RECORDS[14:], 0)
SHARED = Path(__file__).resolve().parents[5] / "shared" / "data" / "tokenizers"

# Where ends of prompts and beginnings of labels become other tokens: no blanks, marks, parts of characters.
_ENDS = (" ", "\n", "a", "th", "e", "ing", "日本", "語", "กา", "รณ์", "é", "e\u0301", "नि", "📚", '"', "is", "1")
_PIECES = st.lists(st.sampled_from(_ENDS), max_size=8).map("".join)


@functools.cache
def real_tokenizer(name: str) -> Tokenizer:
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (real tokenizers), which is not here")
    return load_model_file(SHARED / name / "tokenizer.model")


def ask(model: object, benchmark=SIB, items=ITEMS, **options: object) -> Outcome:  # type: ignore[no-untyped-def]
    return ask_choices(model, benchmark, "swh_Latn", items, RunOptions(**options))()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["llama2", "llama3"])
@settings(max_examples=150, deadline=None)
@given(prompt=_PIECES, labels=st.lists(_PIECES.filter(bool), min_size=2, max_size=4, unique=True))
def test_labels_are_compared_as_texts(name: str, prompt: str, labels: list[str]) -> None:
    tokenizer = real_tokenizer(name)
    split = split_labels(tokenizer, prompt, labels)
    assert all(split.labels)
    for label, ids in zip(labels, split.labels, strict=True):
        assert split.context + ids == tokenizer.encode(prompt + label)
    alone = tokenizer.encode(prompt)
    assert alone[: len(split.context)] == split.context
    # No longer prefix is shared by all, unless a label would be left with nothing.
    following = {ids[0] for ids in split.labels} | set(alone[len(split.context) : len(split.context) + 1])
    whole = len(split.context) == len(alone)
    assert whole or len(following) > 1 or min(map(len, split.labels)) == 1


def test_the_end_of_a_prompt_that_joins_a_label_is_part_of_it() -> None:
    tokenizer = real_tokenizer("llama3")
    split = split_labels(tokenizer, "The answer is ", ["yes", "no"])
    assert tokenizer.decode(split.context) == "The answer is"
    assert [tokenizer.decode(ids) for ids in split.labels] == [" yes", " no"]


def test_a_model_that_knows_the_answers_is_right_by_every_way_of_counting() -> None:
    right = {record["text"]: record["label"] for record in RECORDS}
    model = Prefers(lambda text: f" {right[text.rsplit(chr(34), 2)[1]]}" if text.count('"') else "nothing")
    outcome = ask(model)
    ways = ("accuracy", "accuracy_per_byte", "accuracy_per_token", "accuracy_pmi", "macro_f1")
    assert {name: outcome.metrics[name] for name in ways} == dict.fromkeys(ways, 1.0)
    sizes = [len(record["label"]) + 1 for record in RECORDS[:14]]
    assert outcome.metrics["answer_bits_per_byte"] == pytest.approx(14 * 0.5 / math.log(2) / sum(sizes))
    first = outcome.items[0]
    assert (first["output"], first["references"], first["nats"][SIB_LABELS[0]]) == (SIB_LABELS[0], [SIB_LABELS[0]], 0.5)


def test_a_uniform_model_prefers_short_labels_unless_length_is_taken_off() -> None:
    outcome = ask(Uniform())
    # Seven equally frequent labels; the shortest in bytes of those with six is `travel`, the first of equal ones.
    assert {item["output"] for item in outcome.items} == {"travel"}
    assert outcome.metrics["accuracy"] == pytest.approx(1 / 7)
    assert outcome.metrics["answer_bits_per_byte"] == pytest.approx(math.log2(258))
    # By byte and by token all are equal, so the first one is chosen; so it is where nothing has become likelier.
    for how in ("per_byte", "per_token", "pmi"):
        assert outcome.metrics[f"accuracy_{how}"] == pytest.approx(1 / 7)


def test_pmi_takes_off_what_a_label_has_without_the_item() -> None:
    class Biased(Uniform):
        def nats(self, request) -> float:  # type: ignore[no-untyped-def]
            prompt, text = self.tokenizer.decode(request.context), self.tokenizer.decode(request.continuation)
            bias = {" health": 1.0}.get(text, 5.0)
            return bias - (2.0 if "Text" in prompt and text == " sports" else 0.0)

    outcome = ask(Biased())
    assert {item["output"] for item in outcome.items} == {"health"}
    assert outcome.metrics["accuracy_pmi"] == pytest.approx(2 / 14)


def test_only_the_last_token_as_published() -> None:
    published = load_benchmark("sib200-published")
    tokenizer = real_tokenizer("llama2")
    model = Uniform(tokenizer=tokenizer)
    outcome = ask(model, published)
    assert outcome.metrics.keys() == {"accuracy"} and len(model.requests) == 14 * 7
    prompt = outcome.items[0]["prompt"]
    assert prompt.endswith('is\n') and list(model.requests[0].context) == tokenizer.encode(prompt)
    assert [list(request.continuation) for request in model.requests[:7]] == [
        tokenizer.encode(f" {label}")[-1:] for label in SIB_LABELS
    ]


def test_likelihoods_of_a_real_model_are_those_of_whole_texts() -> None:
    model = Llama(Architecture(258, 32, 48, 2, 4, 2, 8, 700))
    model.init_weights(seed=0)
    for parameter in model.parameters():
        parameter.data *= 8  # so that it has opinions
    real = Real(model, ByteTokenizer())  # type: ignore[arg-type]
    outcome = ask(real, items=Items(RECORDS[:2], RECORDS[14:], 0))
    for item in outcome.items:
        prompt = real.tokenizer.encode(item["prompt"])
        for label, nats in item["nats"].items():
            ids = [*prompt, *real.tokenizer.encode(f" {label}")]
            rows = real.log_probabilities(ids)
            each = rows[torch.arange(len(ids)), torch.tensor(ids)]
            assert nats == pytest.approx(-each[len(prompt) :].sum().item(), rel=1e-6)
        assert item["output"] == min(item["nats"], key=item["nats"].__getitem__)


def test_what_does_not_fit_is_left_out_and_counted() -> None:
    model = Uniform(max_tokens=230)
    outcome = ask(model)
    assert outcome.flags == ("shots_left_out=28",)
    assert all(item["shots_left_out"] == 2 for item in outcome.items)


def test_verbalised_labels_and_limit() -> None:
    words = {label: f"neno{number}" for number, label in enumerate(SIB_LABELS)}
    benchmark = SIB.model_copy(update={"label_texts": {"swh_Latn": words}})
    outcome = ask(Prefers(lambda text: "neno3"), benchmark, limit=5)
    assert [item["output"] for item in outcome.items] == ["sports"] * 5
    assert 'is neno' in outcome.items[0]["prompt"] and "is sports" not in outcome.items[0]["prompt"]


def test_an_unknown_label_is_told() -> None:
    with pytest.raises(ValueError, match=r"labels that the benchmark does not: \['cooking'\]"):
        ask(Uniform(), items=Items([{"id": "1", "text": "x", "label": "cooking"}], RECORDS, 0))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["sib200", "sib200-published"])
@pytest.mark.parametrize("is_broken", [lambda text: True, lambda text: text.endswith("ealth")])
def test_a_model_that_gives_no_numbers_has_no_score(name: str, value: float, is_broken: Callable[[str], bool]) -> None:
    class Broken(Uniform):
        def nats(self, request: Request) -> float:
            whole = self.tokenizer.decode([*request.context, *request.continuation])
            return value if is_broken(whole) or request.continuation == [ord("h")] else super().nats(request)

    with pytest.raises(ValueError, match=f"{name}, swh_Latn: the model gives values that are no numbers: "):
        ask(Broken(), load_benchmark(name))


def test_a_premise_that_gives_no_numbers_is_seen() -> None:
    class Broken(Uniform):
        def nats(self, request: Request) -> float:
            return super().nats(request) if "Text" in self.tokenizer.decode(request.context) else math.nan

    with pytest.raises(ValueError, match="7 of 105 likelihoods are infinite or NaN"):
        ask(Broken())
