"""All that stands in the way of asking benchmarks in any of their languages, found before there is a model."""

from __future__ import annotations

from collections.abc import Sequence

from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.config.problems import did_you_mean
from megatron.evaluation.benchmarks.data import BenchmarkData
from megatron.evaluation.benchmarks.fields import field_problems, label_problems
from megatron.evaluation.benchmarks.prompts import given_texts
from megatron.evaluation.metrics.likelihood import TEXT_METRICS
from megatron.evaluation.metrics.registry import MetricError, MetricSettings, check

_LANGUAGES_SHOWN = 5


def item_problems(planned: Sequence[tuple[BenchmarkConfig, BenchmarkData, str]], *, limit: int | None) -> list[str]:
    """Read the records of every benchmark in every language, and compare them with what the definition names.

    What is wrong alike in many languages of a benchmark is told once, with the first of them and their number.

    Args:
        planned: what will be asked: definition, its data, language.
        limit: so many of the first records of each language only; those of shots are all looked at.
    """
    first: dict[tuple[str, ...], str] = {}
    languages: dict[tuple[str, ...], list[str]] = {}
    for benchmark, data, language in planned:
        try:
            items = data.items(language)
        except ValueError as error:
            first.setdefault((benchmark.data, str(error)), str(error))
            continue
        records = items.test[:limit]
        names = given_texts(benchmark, language, items.scripts) if benchmark.kind != "text" else {}
        for found in (
            *field_problems(benchmark, language, items, records, names=names),
            *label_problems(benchmark, language, items, records),
        ):
            key = (benchmark.name, *found.of)
            first.setdefault(key, found.text)
            languages.setdefault(key, []).append(language)
    return [f"{text}{_others(languages.get(key, []))}" for key, text in first.items()]


def _others(languages: Sequence[str]) -> str:
    others = languages[1:]
    more = ", ..." if len(others) > _LANGUAGES_SHOWN else ""
    told = ", ".join(others[:_LANGUAGES_SHOWN])
    return f" The same in {len(others)} other languages: {told}{more}" if others else ""


def check_metrics(benchmark: BenchmarkConfig, settings: MetricSettings) -> None:
    """Find out whether the metrics of a definition can be computed.

    Raises:
        MetricError: names are no metrics', or files and packages are missing; with the place of the definition.
    """
    place = benchmark.place("metrics")
    if benchmark.kind != "text":
        try:
            check(benchmark.metrics, settings)
        except MetricError as error:
            raise MetricError("\n".join(f"{place}: metrics: {line}" for line in str(error).splitlines())) from None
        return
    if unknown := [name for name in benchmark.metrics if name not in TEXT_METRICS]:
        fix = did_you_mean(unknown[0], TEXT_METRICS) or f"There are {', '.join(TEXT_METRICS)}"
        raise MetricError(f"{place}: metrics: texts have no metric {', '.join(map(repr, unknown))}. {fix}")
