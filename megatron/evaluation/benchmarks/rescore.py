"""Makes scores again of the answers that lie in a folder of results, without the model that gave them."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from megatron.config.benchmark_load import load_benchmarks, names_in
from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.evaluation.benchmarks.parity import keep_parity
from megatron.evaluation.benchmarks.scoring import definition_of_items, score_items, scored_by
from megatron.evaluation.metrics.registry import MetricError, MetricSettings, check, not_computed
from megatron.evaluation.results import ResultsError, ResultsFolder, Score, items_settings, read_model
from megatron.utils.files import exclusive


def rescore(score: Score, benchmark: BenchmarkConfig, results: ResultsFolder, settings: MetricSettings) -> Score:
    """Make a score of the answers that are kept, and keep it with all else that was recorded of the first one.

    Args:
        score: in the results.
        benchmark: whose metrics are wanted; it must ask what the score's definition asks.
        results: hold the answers.
        settings: what some metrics need.

    Raises:
        ResultsError: the answers are gone, torn, incomplete or not those of the score.
        MetricError: a value that is there could not be made again, because a file that its metric needs is not named.
    """
    items = results.items(score)
    if lost := [name for name in not_computed(benchmark.metrics, settings) if _is_there(score, name)]:
        raise MetricError(
            f"{score.benchmark}, {score.language}: the value of {', '.join(lost)} would be lost; name the files that "
            "it needs (--spbleu-model, --bertscore-model)"
        )
    try:
        scored = score_items(benchmark, score.language, items, settings)
    except (KeyError, TypeError, AttributeError) as error:
        raise ResultsError(
            f"the items of {score.benchmark} in {score.language} are not those of its kind, {benchmark.kind} "
            f"({error!r}); evaluate the model again"
        ) from None
    new = dataclasses.replace(
        score,
        metrics=scored.metrics,
        main=scored.main,
        higher_is_better=scored.higher_is_better,
        settings={**items_settings(score.settings), **scored_by(benchmark, score.language, settings)},
    )
    return results.add(new, scored.items)


class Rescored(NamedTuple):
    """What became of the scores in a folder.

    Attributes:
        scores: made again.
        as_they_were: how many scores were of the wanted metrics already, by benchmark.
        undefined: how many scores are of benchmarks that no definition was given of, by benchmark.
        problems: why others could not be made again; they are as they were.
    """

    scores: list[Score]
    as_they_were: Counter[str]
    undefined: Counter[str]
    problems: list[str]

    def lines(self) -> Iterator[str]:
        """Yield what was done, for people."""
        again = Counter(score.benchmark for score in self.scores)
        for name in sorted({*again, *self.as_they_were}):
            yield f"{name}: {again[name]} scores made again, {self.as_they_were[name]} were as wanted"
        for name, count in sorted(self.undefined.items()):
            yield f"{name}: {count} scores left as they are; there is no definition of it (--definitions)"


def rescore_folder(
    folder: Path,
    *,
    definitions: Sequence[str] | None = None,
    metrics: Sequence[str] = (),
    settings: MetricSettings | None = None,
) -> Rescored:
    """Make all scores in a folder again of their answers, where other metrics are wanted than they have.

    Args:
        folder: of results.
        definitions: names or files of benchmarks, or suites; by default those of all benchmarks in the folder that come
            with the project. Others are left alone.
        metrics: of benchmarks in which the model writes, besides those that they name.
        settings: what some metrics need.

    Raises:
        ValueError: there are no results, a definition or a metric is unknown, or a file that a metric needs is not what
            it should be; before anything is written.
        InUseError: a run is writing to the folder.
    """
    settings, model = settings or MetricSettings(), read_model(folder)
    with exclusive(folder / ".lock"):
        results = ResultsFolder(folder, model=model)
        there = Counter(score.benchmark for score in results.scores())
        names = definitions if definitions is not None else [name for name in names_in() if name in there]
        benchmarks = {each.name: _with(each, metrics) for each in load_benchmarks(names)}
        if absent := sorted(benchmarks.keys() - there.keys()) if definitions is not None else []:
            raise ResultsError(f"{folder} has no scores of {', '.join(absent)}; it has those of {', '.join(there)}")
        check([name for each in benchmarks.values() if each.kind != "text" for name in each.metrics], settings)
        found = Rescored([], Counter(), Counter(), [])
        for score in results.scores():
            benchmark = benchmarks.get(score.benchmark)
            if benchmark is None:
                found.undefined[score.benchmark] += 1
                continue
            try:
                _rescore_one(score, benchmark, results, settings, found)
            except ValueError as error:
                found.problems.append(str(error))
        _rescore_parity(benchmarks.values(), results, found)
    return found


def _with(benchmark: BenchmarkConfig, metrics: Sequence[str]) -> BenchmarkConfig:
    if benchmark.kind != "generation":
        return benchmark
    return benchmark.model_copy(update={"metrics": tuple(dict.fromkeys((*benchmark.metrics, *metrics)))})


def _rescore_one(
    score: Score, benchmark: BenchmarkConfig, results: ResultsFolder, settings: MetricSettings, found: Rescored
) -> None:
    whose = f"{score.benchmark}, {score.language}"
    if "main_metric" not in score.settings:
        raise ResultsError(f"{whose}: its settings do not tell its items from its metrics; evaluate the model again")
    if score.settings.get("definition") != definition_of_items(benchmark, score.language):
        raise ResultsError(
            f"{whose}: the definition asks for other answers than those that are kept; evaluate the model again"
        )
    wanted = {**items_settings(score.settings), **scored_by(benchmark, score.language, settings)}
    if results.has(score.benchmark, score.language, wanted):
        found.as_they_were[score.benchmark] += 1
    else:
        found.scores.append(rescore(score, benchmark, results, settings))


def _rescore_parity(benchmarks: Iterable[BenchmarkConfig], results: ResultsFolder, found: Rescored) -> None:
    """Keep up the parities, which are made of other scores."""
    for benchmark in benchmarks:
        if benchmark.parity_with is not None:
            scores = results.scores()
            new = keep_parity(benchmark, results, scores)
            there = found.undefined.pop(f"{benchmark.name}-parity", 0)
            found.scores.extend(new)
            found.as_they_were[f"{benchmark.name}-parity"] += max(0, there - len(new))


def _is_there(score: Score, metric: str) -> bool:
    return math.isfinite(score.metrics.get(metric, math.nan))
