"""Benchmarks that ask how likely texts are."""

from __future__ import annotations

from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.evaluation.benchmarks.data import Items
from megatron.evaluation.benchmarks.fields import check_fields
from megatron.evaluation.benchmarks.outcome import Finish, RunOptions, outcome_of
from megatron.evaluation.language_model import LanguageModel
from megatron.evaluation.results import LOSSY
from megatron.evaluation.texts import score_texts


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
    check_fields(benchmark, language, items, records, names=())
    scores = score_texts(model, [record["text"] for record in records])
    flags = (LOSSY,) if any(not score.lossless for score in scores) else ()
    found = [{"id": record["id"], **score._asdict()} for record, score in zip(records, scores, strict=True)]
    return lambda: outcome_of(benchmark, language, found, flags, options.metrics)
