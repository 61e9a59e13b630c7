"""Benchmarks that choose among labels: the label whose whole text the model finds most likely."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.evaluation.benchmarks.data import Items, Record
from megatron.evaluation.benchmarks.fields import check_fields, label_problems
from megatron.evaluation.benchmarks.outcome import Finish, RunOptions, outcome_of, prompt_fields, prompt_flags
from megatron.evaluation.benchmarks.prompts import Prompt, PromptBuilder
from megatron.evaluation.language_model import LanguageModel, Request
from megatron.tokenizer.base import Tokenizer

# A tokenizer may join the end of a prompt and the beginning of a label into other tokens than it makes of each.
_JOINT_TOKENS = 8


class SplitLabels(NamedTuple):
    """A prompt and its labels as ids.

    Attributes:
        context: ids that the prompt and the prompt with any label begin with.
        labels: of each label the ids that follow: what is left of the prompt, and the label.
    """

    context: list[int]
    labels: list[list[int]]


def split_labels(tokenizer: Tokenizer, prompt: str, labels: Sequence[str]) -> SplitLabels:
    """Split the ids of prompt and label where labels can be compared as texts.

    Ids of a text do not begin with those of its beginning: the end of the prompt may become another token with each
    label. The split is at the longest prefix of ids that the prompt alone and the prompt with every label share, so
    each label is given the probability of the same text, the rest of the prompt and the label.
    """
    context, *whole = (ids.tolist() for ids in tokenizer.encode_batch([prompt, *(prompt + label for label in labels)]))
    length = min(map(len, (context, *whole)))
    for ids in whole:
        length = next((place for place in range(length) if ids[place] != context[place]), length)
    # Something must be left of every label to ask for.
    length = min(length, min(map(len, whole)) - 1)
    return SplitLabels(context[:length], [ids[length:] for ids in whole])


def ask_choices(
    model: LanguageModel, benchmark: BenchmarkConfig, language: str, items: Items, options: RunOptions
) -> Finish:
    """Ask a model for the label of every record. Every process calls this alike.

    Args:
        model: answers.
        benchmark: of kind ``choices``.
        language: corpus code.
        items: the records.
        options: of the run.

    Returns:
        what makes metrics of the answers.

    Raises:
        ValueError: records lack fields that the definition names, or have labels that it does not have; or the model's
            likelihoods are no numbers.
    """
    labels = list(benchmark.labels)
    records = options.first(items.test)
    tokenizer = model.tokenizer
    builder = PromptBuilder(benchmark, language, tokenizer, room=model.max_tokens, scripts=items.scripts)
    check_fields(benchmark, language, items, records, names=builder.names)
    right = [str(record.get(str(benchmark.reference))) for record in records]
    if unknown := [problem.text for problem in label_problems(benchmark, language, items, records)]:
        raise ValueError("\n".join(unknown))
    texts = [builder.label(label) for label in labels]
    reserve = 1 + max(len(tokenizer.encode(text)) for text in texts) + _JOINT_TOKENS
    builder = PromptBuilder(benchmark, language, tokenizer, room=model.max_tokens - reserve, scripts=items.scripts)
    prompts = builder.build_all(records, items.shots, seed=options.seed)
    requests_of = _last_token_requests if benchmark.scoring == "last-token" else _requests
    requests = [request for prompt in prompts for request in requests_of(tokenizer, prompt, texts)]
    premise = builder.premise()
    if premise is not None:
        requests += _requests(tokenizer, Prompt(premise, tokenizer.encode(premise)), texts)
    answers = model.likelihoods(requests)
    _check_numbers([answer.nats for answer in answers], benchmark, language)
    nats = _rows([answer.nats for answer in answers], len(labels))
    tokens = _rows([len(request.continuation) for request in requests], len(labels))
    before = None
    if premise is not None:
        before, _ = nats.pop(), tokens.pop()
    found = _Answers(records, right, prompts, texts, nats, tokens, before)
    return lambda: outcome_of(benchmark, language, _items(benchmark, found), prompt_flags(prompts), options.metrics)


def _check_numbers(nats: Sequence[float], benchmark: BenchmarkConfig, language: str) -> None:
    """Refuse what cannot be compared: the least of values that are no numbers is always the first label."""
    if broken := sum(not math.isfinite(value) for value in nats):
        raise ValueError(
            f"{benchmark.name}, {language}: the model gives values that are no numbers: {broken} of {len(nats)} "
            "likelihoods are infinite or NaN, so no label can be chosen; its weights are damaged, or overflow in the "
            "dtype that it is run in: take another checkpoint, or float32"
        )


class _Answers(NamedTuple):
    """What a model was asked and answered; rows have one value for each label."""

    records: Sequence[Record]
    right: Sequence[str]
    prompts: Sequence[Prompt]
    texts: Sequence[str]
    nats: Sequence[Sequence[float]]
    tokens: Sequence[Sequence[float]]
    before: Sequence[float] | None


def _rows(values: Sequence[float], length: int) -> list[Sequence[float]]:
    return [values[start : start + length] for start in range(0, len(values), length)]


def _requests(tokenizer: Tokenizer, prompt: Prompt, texts: Sequence[str]) -> list[Request]:
    split = split_labels(tokenizer, prompt.text, texts)
    context = split.context[prompt.cut_tokens :]
    return [Request(context, ids) for ids in split.labels]


def _last_token_requests(tokenizer: Tokenizer, prompt: Prompt, texts: Sequence[str]) -> list[Request]:
    return [Request(prompt.ids, tokenizer.encode(text)[-1:]) for text in texts]


def _items(benchmark: BenchmarkConfig, answers: _Answers) -> list[dict[str, Any]]:
    """Return what was asked and answered, with all that labels are compared by."""
    labels = list(benchmark.labels)
    shared: dict[str, Any] = {}
    if benchmark.scoring == "likelihood":
        shared["label_bytes"] = dict(zip(labels, (len(text.encode("utf-8")) for text in answers.texts), strict=True))
    if answers.before is not None:
        shared["premise_nats"] = dict(zip(labels, answers.before, strict=True))
    return [
        {
            "id": record["id"],
            **prompt_fields(prompt),
            "nats": dict(zip(labels, nats, strict=True)),
            **({"label_tokens": dict(zip(labels, tokens, strict=True))} if "label_bytes" in shared else {}),
            **shared,
            "references": [right],
        }
        for record, prompt, nats, tokens, right in zip(
            answers.records, answers.prompts, answers.nats, answers.tokens, answers.right, strict=True
        )
    ]
