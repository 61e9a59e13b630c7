"""Information parity: how well a model knows each language, on texts that say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.evaluation.metrics.likelihood import information_parity
from megatron.evaluation.results import ResultsFolder, Score, read_items
from megatron.utils.log import get_logger

logger = get_logger(__name__)


def parity_scores(benchmark: BenchmarkConfig, scores: Sequence[Score], folder: Path) -> list[Score]:
    """Return the parity of every language with the benchmark's reference, from the texts that both have.

    Args:
        benchmark: of kind ``text``, with ``parity_with``.
        scores: of a model; those of other benchmarks are passed over.
        folder: of its results, which hold the likelihood of every text.

    Returns:
        Scores of a benchmark that is called ``<name>-parity``; none, with a warning, where the reference has no score.
    """
    assert benchmark.parity_with is not None
    own = [score for score in scores if score.benchmark == benchmark.name]
    nats = {score.language: _nats(folder, score) for score in own}
    reference = nats.get(benchmark.parity_with)
    settings = {score.language: score.settings for score in own}
    if reference is None:
        told = f"{benchmark.name}: no information parity without {benchmark.parity_with}; add it to the languages"
        logger.warning("%s", told)
        return []
    found, alone = [], []
    for score in own:
        shared = sorted(reference.keys() & nats[score.language].keys())
        if not shared:
            alone.append(score.language)
            continue
        value = information_parity(
            [reference[each] for each in shared], [nats[score.language][each] for each in shared]
        )
        found.append(
            Score(
                benchmark=f"{benchmark.name}-parity",
                language=score.language,
                metrics={"information_parity": value},
                main="information_parity",
                higher_is_better=True,
                items=len(shared),
                flags=score.flags,
                settings={
                    "parity_with": benchmark.parity_with,
                    "reference": settings[benchmark.parity_with],
                    "texts": score.settings,
                },
            )
        )
    if alone:
        told = f"{benchmark.name}: no text is also one of {benchmark.parity_with} in {', '.join(alone)}"
        logger.warning("%s", told)
    return found


def keep_parity(benchmark: BenchmarkConfig, results: ResultsFolder, scores: list[Score]) -> list[Score]:
    """Keep the parity of every language, as far as it is not there, add it to the scores, and return what is new."""
    found = parity_scores(benchmark, scores, results.folder)
    new = [score for score in found if not results.has(score.benchmark, score.language, score.settings)]
    for score in new:
        results.add(score, [])
    scores += found
    return new


def _nats(folder: Path, score: Score) -> Mapping[str, float]:
    items = read_items(folder, score.benchmark, score.language)
    return {str(item["id"]): float(item["nats"]) for item in items if item["nats"] is not None}
