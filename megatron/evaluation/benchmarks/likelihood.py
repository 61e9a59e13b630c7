"""Benchmarks that ask how likely texts are."""

from __future__ import annotations

from collections.abc import Sequence

from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.evaluation.benchmarks.data import Items, Record
from megatron.evaluation.benchmarks.outcome import Finish, Outcome, RunOptions
from megatron.evaluation.language_model import LanguageModel
from megatron.evaluation.results import LOSSY
from megatron.evaluation.texts import TextScore, score_texts, text_metrics


def ask_texts(
    model: LanguageModel, benchmark: BenchmarkConfig, language: str, items: Items, options: RunOptions
) -> Finish:
    """Score every text. Every process calls this alike.

    Args:
        model: scores.
        benchmark: of kind ``text``.
        language: corpus code.
        items: records with a ``text``.
        options: of the run.

    Returns:
        what makes metrics of the scores.

    Raises:
        ValueError: a record has no text.
    """
    records = options.first(items.test)
    if lacking := sum(not isinstance(record.get("text"), str) for record in records):
        raise ValueError(f"{benchmark.name}, {language}: {lacking} records have no field 'text'")
    scores = score_texts(model, [record["text"] for record in records])
    return lambda: _outcome(records, scores)


def _outcome(records: Sequence[Record], scores: Sequence[TextScore]) -> Outcome:
    metrics = text_metrics(scores)
    found = [{"id": record["id"], **score._asdict()} for record, score in zip(records, scores, strict=True)]
    return Outcome(metrics, found, (LOSSY,) if metrics["lossy"] else ())
