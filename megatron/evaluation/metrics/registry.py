"""All metrics by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from megatron.config.problems import did_you_mean
from megatron.evaluation.metrics import bertscore, classification, diversity, rouge, surface, translation
from megatron.evaluation.metrics.texts import MetricError, MetricSettings, Texts

__all__ = [
    "METRICS", "Metric", "MetricError", "MetricSettings", "Texts", "check", "compute", "metric", "not_computed",
    "signature",
]  # fmt: skip


class Metric(NamedTuple):
    """A metric.

    Attributes:
        name: of the metric.
        higher_is_better: whether larger values are better; of diversity, up to what people write.
        needs_references: whether it compares with right answers.
        compute: the value; not a number where there is nothing to compute it of.
    """

    name: str
    higher_is_better: bool
    needs_references: bool
    compute: Callable[[Texts], float]


#: Every metric by its name.
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        found.name: found
        for found in (
            Metric("accuracy", True, True, classification.accuracy),
            Metric("macro_f1", True, True, classification.macro_f1),
            Metric("exact_match", True, True, classification.exact_match),
            Metric("chrf++", True, True, translation.chrf),
            Metric("bleu", True, True, translation.bleu),
            Metric("spbleu-flores200", True, True, translation.spbleu_flores200),
            Metric("rouge_l", True, True, rouge.rouge_l),
            Metric("self_bleu", False, False, diversity.self_bleu),
            Metric("self_bleu_published", False, False, diversity.self_bleu_published),
            Metric("distinct_1", True, False, diversity.distinct_1),
            Metric("distinct_2", True, False, diversity.distinct_2),
            Metric("repetition_4", False, False, diversity.repetition_4),
            Metric("empty_rate", False, False, surface.empty_rate),
            Metric("off_target_rate", False, False, surface.off_target_rate),
            Metric("bertscore", True, True, bertscore.bertscore),
        )
    }
)

_TOKENS = "tokens:nfc, lower case, words or clusters"
_AT_MOST_HALF_EMPTY = "empty:at most half"
# What decides a value besides the texts. Raise the version where a change of ours changes values.
_SIGNATURES: Mapping[str, str | Callable[[str | None, MetricSettings], str]] = MappingProxyType(
    {
        "accuracy": "version:1",
        "macro_f1": "labels:outputs and references|version:1",
        "exact_match": "trim:blanks|case:mixed|version:1",
        "chrf++": translation.chrf_signature,
        "bleu": translation.bleu_signature,
        "spbleu-flores200": translation.spbleu_signature,
        "rouge_l": f"f:1|refs:best|{_TOKENS}|version:1",
        "self_bleu": diversity.self_bleu_signature,
        "self_bleu_published": diversity.self_bleu_published_signature,
        "distinct_1": f"over:all outputs|{_AT_MOST_HALF_EMPTY}|{_TOKENS}|version:2",
        "distinct_2": f"over:all outputs|{_AT_MOST_HALF_EMPTY}|{_TOKENS}|version:2",
        "repetition_4": f"over:each output with 4 tokens|{_AT_MOST_HALF_EMPTY}|{_TOKENS}|version:2",
        "empty_rate": "empty:nothing visible|version:1",
        "off_target_rate": "over:outputs with letters|version:1",
        "bertscore": bertscore.bertscore_signature,
    }
)


def metric(name: str) -> Metric:
    """Return the metric of a name.

    Raises:
        MetricError: there is none.
    """
    found = METRICS.get(name)
    if found is None:
        known = ", ".join(sorted(METRICS))
        raise MetricError(" ".join(filter(None, (f"no metric is called {name!r}.", did_you_mean(name, METRICS),
                                                 f"There are {known}"))))  # fmt: skip
    return found


def compute(names: Sequence[str], texts: Texts) -> dict[str, float]:
    """Return the value of each metric by its name; not a number where there is nothing to compute it of.

    Raises:
        MetricError: a name is no metric's, or a metric lacks a package or a file that the settings name.
    """
    metrics = [metric(name) for name in names]
    return {found.name: found.compute(texts) for found in metrics}


def check(names: Sequence[str], settings: MetricSettings) -> None:
    """Find out what :func:`compute` would miss, before texts are written for it.

    Raises:
        MetricError: names are no metrics', or files and packages are missing; all of these at once.
    """
    problems = []
    needs = {"spbleu-flores200": translation.check_spbleu, "bertscore": bertscore.check_bertscore}
    for name in dict.fromkeys(names):
        try:
            metric(name)
            if name in needs:
                needs[name](settings)
        except MetricError as error:
            problems.append(str(error))
    if problems:
        raise MetricError("\n".join(problems))


def not_computed(names: Sequence[str], settings: MetricSettings) -> list[str]:
    """Return those metrics that are not numbers, whatever the texts, because the settings name no file for them."""
    files = {"spbleu-flores200": settings.spbleu_model, "bertscore": settings.bertscore_model}
    return [name for name in names if name in files and files[name] is None]


def signature(name: str, *, language: str | None = None, settings: MetricSettings | None = None) -> str:
    """Return in one line what decides the values of a metric besides the texts, to be recorded with them.

    Args:
        name: the metric's.
        language: corpus code of the outputs, where the metric depends on it; without it the rule is named.
        settings: those that it is computed with.

    Raises:
        MetricError: a name is no metric's, or a file that the settings name is missing.
    """
    found = _SIGNATURES[metric(name).name]
    if isinstance(found, str):
        return found
    return found(language.partition("_")[2] if language else None, settings or MetricSettings())
