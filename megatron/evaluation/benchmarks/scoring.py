"""Makes metrics of items, of those that a model has just answered and of those that are kept alike.

All that a metric needs is in the items, so that metrics can be made again without the model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from megatron.config.benchmark_schema import DEFAULT, BenchmarkConfig
from megatron.evaluation.benchmarks.prompts import nearest
from megatron.evaluation.metrics.likelihood import TextScore, ratio, text_metrics
from megatron.evaluation.metrics.registry import METRICS, MetricSettings, Texts, compute, metric, signature
from megatron.utils.files import fingerprint_bytes

Item = Mapping[str, Any]

_ONLY_DOTS = re.compile(r"\.*")
# Metrics of texts, of which less is better.
_LESS_IS_BETTER = ("bits_per_byte", "bits_per_character", "nats", "lossy")
# Keys that change no item: where the data came from, what is said about it, and how items are counted.
_NOT_OF_ITEMS = {"name", "contaminated", "languages", "format", "metrics", "empty_outputs", "parity_with"}


class Scored(NamedTuple):
    """Items and what they come to.

    Attributes:
        metrics: values by name.
        main: the metric that stands for the benchmark.
        higher_is_better: whether larger values of it are better.
        items: with what each of them counts.
    """

    metrics: dict[str, float]
    main: str
    higher_is_better: bool
    items: list[dict[str, Any]]


def score_items(benchmark: BenchmarkConfig, language: str, items: Sequence[Item], settings: MetricSettings) -> Scored:
    """Compute a benchmark's metrics.

    Args:
        benchmark: its metrics, and which items are left out.
        language: corpus code.
        items: as the model answered them; of kind ``generation`` with ``output`` and ``references``, of ``choices``
            with the numbers of each label (``nats``, ``label_bytes``, ``label_tokens``, ``premise_nats``) and
            ``references``, of ``text`` with the fields of a :class:`TextScore`.
        settings: what some metrics need.

    Raises:
        ValueError: the benchmark's main metric is none that its kind has.
    """
    metrics, counted = _KINDS[benchmark.kind](benchmark, language, items, settings)
    main = benchmark.metrics[0]
    if main not in metrics:
        raise ValueError(f"{benchmark.name}: its main metric, {main}, is none of {', '.join(sorted(metrics))}")
    better = metric(main).higher_is_better if main in METRICS else main not in _LESS_IS_BETTER
    return Scored(metrics, main, better, counted)


def definition_of_items(benchmark: BenchmarkConfig, language: str) -> str:
    """Return a hash of all of a definition that decides what a model is asked in a language, and what items keep."""
    definition = benchmark.model_dump(mode="json", exclude=_NOT_OF_ITEMS)
    # What other languages are asked by changes nothing here.
    for key in ("label_texts", "language_names"):
        definition[key] = {code: text for code, text in definition[key].items() if code in (language, benchmark.pivot)}
    definition["wording"] = {
        name: texts.get(nearest(language, texts), texts[DEFAULT]) for name, texts in definition["wording"].items()
    }
    return fingerprint_bytes(orjson.dumps(definition, option=orjson.OPT_SORT_KEYS))


def scored_by(benchmark: BenchmarkConfig, language: str, settings: MetricSettings) -> dict[str, Any]:
    """Return all that decides a score besides its items, by the names in ``SCORED_BY`` of ``results.py``."""
    found: dict[str, Any] = {"main_metric": benchmark.metrics[0]}
    if benchmark.kind == "text":
        return found
    written_in = output_language(benchmark, language)
    found["metrics"] = {name: signature(name, language=written_in, settings=settings) for name in benchmark.metrics}
    return found | ({"empty_outputs": benchmark.empty_outputs} if benchmark.kind == "generation" else {})


def output_language(benchmark: BenchmarkConfig, language: str) -> str:
    """Return the language that outputs should be in: the pivot's where a benchmark translates into it."""
    return benchmark.pivot if benchmark.pivot is not None and benchmark.direction == "into" else language


_Counted = tuple[dict[str, float], list[dict[str, Any]]]


def _generation(benchmark: BenchmarkConfig, language: str, items: Sequence[Item], settings: MetricSettings) -> _Counted:
    leave_out = benchmark.empty_outputs == "leave-out"
    left_out = [leave_out and _ONLY_DOTS.fullmatch(item["output"]) is not None for item in items]
    counted = [item for item, is_out in zip(items, left_out, strict=True) if not is_out]
    texts = Texts(
        [item["output"].strip() for item in counted],
        [item["references"] for item in counted],
        output_language(benchmark, language),
        settings,
    )
    metrics = compute(benchmark.metrics, texts)
    if leave_out:
        metrics["left_out"] = float(sum(left_out))
    plain = [{name: value for name, value in item.items() if name != "counted"} for item in items]
    return metrics, [
        {**item, **({"counted": False} if is_out else {})} for item, is_out in zip(plain, left_out, strict=True)
    ]


def _choices(benchmark: BenchmarkConfig, language: str, items: Sequence[Item], settings: MetricSettings) -> _Counted:
    """Choose by each way of counting, and compute the metrics."""
    labels = list(benchmark.labels)
    chosen = {
        name: [min(labels, key=row.__getitem__) for row in rows]  # the first of equal ones
        for name, rows in _ways(benchmark, items).items()
    }
    outputs, references = chosen["accuracy"], [item["references"] for item in items]
    metrics = compute(benchmark.metrics, Texts(outputs, references, language, settings))
    for name, found in chosen.items():
        metrics[name] = compute(["accuracy"], Texts(found, references, language, settings))["accuracy"]
    if benchmark.scoring == "likelihood":
        metrics["answer_bits_per_byte"] = _answer_bits_per_byte(items)
    return metrics, [{**item, "output": output} for item, output in zip(items, outputs, strict=True)]


def _ways(benchmark: BenchmarkConfig, items: Sequence[Item]) -> dict[str, list[Mapping[str, float]]]:
    """Return what is least for the label that is chosen, by the name of its accuracy."""
    ways: dict[str, list[Mapping[str, float]]] = {"accuracy": [item["nats"] for item in items]}
    if benchmark.scoring == "likelihood":
        for name, sizes in (("accuracy_per_byte", "label_bytes"), ("accuracy_per_token", "label_tokens")):
            ways[name] = [
                {label: nats / item[sizes][label] for label, nats in item["nats"].items()} for item in items
            ]
    if benchmark.premise is not None:
        # How much likelier a label has become (domain-conditional PMI, Holtzman et al., arXiv 2104.08315).
        ways["accuracy_pmi"] = [
            {label: nats - item["premise_nats"][label] for label, nats in item["nats"].items()} for item in items
        ]
    return ways


def _answer_bits_per_byte(items: Sequence[Item]) -> float:
    """Return the bits that the right answers take per byte, which moves before accuracy does."""
    right = [(item, item["references"][0]) for item in items]
    nats = math.fsum(item["nats"][label] for item, label in right)
    return ratio(nats, math.log(2) * sum(item["label_bytes"][label] for item, label in right))


def _text(_benchmark: BenchmarkConfig, _language: str, items: Sequence[Item], _settings: MetricSettings) -> _Counted:
    scores = [TextScore(**{field: item[field] for field in TextScore._fields}) for item in items]
    return text_metrics(scores), [dict(item) for item in items]


_KINDS: Mapping[str, Callable[[BenchmarkConfig, str, Sequence[Item], MetricSettings], _Counted]] = MappingProxyType(
    {"choices": _choices, "generation": _generation, "text": _text}
)
