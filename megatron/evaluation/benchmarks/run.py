"""Runs benchmarks with one model: a score for each benchmark and language, kept as soon as it is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.evaluation.benchmarks.checks import check_metrics
from megatron.evaluation.benchmarks.choices import ask_choices
from megatron.evaluation.benchmarks.data import BenchmarkData, Items, chosen_languages
from megatron.evaluation.benchmarks.generation import ask_generation, new_tokens
from megatron.evaluation.benchmarks.likelihood import ask_texts
from megatron.evaluation.benchmarks.manifest import BenchmarkDataError
from megatron.evaluation.benchmarks.outcome import Finish, Outcome, RunOptions
from megatron.evaluation.benchmarks.parity import keep_parity
from megatron.evaluation.benchmarks.rescore import rescore
from megatron.evaluation.benchmarks.scoring import definition_of_items, scored_by
from megatron.evaluation.keeper import Keeper
from megatron.evaluation.language_model import LanguageModel
from megatron.evaluation.metrics.registry import MetricSettings
from megatron.evaluation.results import IncompleteError, ResultsError, ResultsFolder, Score
from megatron.parallel.process import Peers
from megatron.utils.log import get_logger, progress

logger = get_logger(__name__)

_ASK: Mapping[str, Callable[[LanguageModel, BenchmarkConfig, str, Items, RunOptions], Finish]] = {
    "choices": ask_choices, "generation": ask_generation, "text": ask_texts,
}  # fmt: skip


class _Job(NamedTuple):
    """One benchmark in one language, and all that decides its score besides the model."""

    benchmark: BenchmarkConfig
    data: BenchmarkData
    language: str
    settings: dict[str, Any]


def run_suite(
    model: LanguageModel,
    benchmarks: Sequence[BenchmarkConfig],
    *,
    data: Path,
    results: ResultsFolder | None,
    languages: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    metric_settings: MetricSettings | None = None,
    peers: Peers | None = None,
    show_progress: bool = True,
) -> list[Score]:
    """Score a model on benchmarks. Every process of its layout calls this with the same arguments but ``results``.

    A score whose settings (data, definition, shots, seed, limit, metrics, length of the model) are already in the
    results is not made again. Where only its metrics differ, it is made of the answers that are kept there.

    Args:
        model: answers; loaded once for all benchmarks.
        benchmarks: definitions, of different names.
        data: folder of prepared data.
        results: where scores are kept; None in processes that are not the main one, or where nothing is to be kept.
        languages: corpus codes (``swh_Latn``) or languages (``swh``); all by default.
        limit: so many of the first items of each language only.
        seed: of shots and of sampling.
        metric_settings: files that some metrics need.
        peers: the processes of the layout, so that the main one can tell the others what is done already.
        show_progress: whether the main process draws a progress bar.

    Returns:
        the scores of all benchmarks and languages asked for, those made earlier too, in their order; nothing in
        processes that are not the main one.

    Raises:
        ValueError: data is missing, or a metric or what it needs; all of these at once, before anything is run.
        IncompleteError: some languages could not be scored, at the end.
    """
    options = RunOptions(limit, seed, metric_settings if metric_settings is not None else MetricSettings(seed=seed))
    peers = peers if peers is not None else Peers()
    planned = plan_suite(
        benchmarks, data=data, languages=languages, metrics=options.metrics, tells=model.is_main
    )
    jobs = [_Job(*each, _settings(model, *each, options)) for each in planned]
    keeper = Keeper(results, peers)
    there = keeper.there([(job.benchmark.name, job.language, job.settings) for job in jobs])
    scores: list[Score] = []
    problems: list[str] = []
    num_kept = 0
    bar = progress(
        zip(jobs, there, strict=True), description="benchmarks", total=len(jobs), unit="language",
        disable=not (show_progress and model.is_main),
    )  # fmt: skip
    for job, earlier in bar:
        if earlier is not None:
            scores += earlier
            continue
        begun = time.perf_counter()
        try:
            if peers.from_main(partial(_score_kept, job, results, options, scores)):
                num_kept += 1
                continue
            items = job.data.items(job.language)
            finish = _ASK[job.benchmark.kind](model, job.benchmark, job.language, items, options)
            scores += keeper.keep(partial(_made, job, finish, items.unpaired, begun))
        except ValueError as error:
            problems.append(f"{job.benchmark.name}, {job.language}: {error}")
            logger.error("%s", problems[-1])
    if num_kept and model.is_main:
        logger.info("%d scores are made of answers that were kept: the model was not asked again", num_kept)
    for benchmark in benchmarks:
        if benchmark.parity_with is not None:
            peers.from_main(partial(_keep_parity, benchmark, results, scores))
    if problems:
        raise IncompleteError(problems, scores)
    return scores


def _keep_parity(benchmark: BenchmarkConfig, results: ResultsFolder | None, scores: list[Score]) -> None:
    if results is not None:
        keep_parity(benchmark, results, scores)


def _made(job: _Job, finish: Finish, unpaired: int, begun: float) -> tuple[Score, Sequence[Mapping[str, Any]]]:
    """Make a score of what the model answered."""
    outcome = finish()
    return _to_score(job, outcome, unpaired, time.perf_counter() - begun), outcome.items


def _score_kept(job: _Job, results: ResultsFolder | None, options: RunOptions, scores: list[Score]) -> bool:
    """Make a score of answers that are kept, where these are what the model would be asked for; return whether."""
    before = None if results is None else results.of_same_items(job.benchmark.name, job.language, job.settings)
    if results is None or before is None:
        return False
    try:
        scores.append(rescore(before, job.benchmark, results, options.metrics))
    except ResultsError as error:
        logger.warning("%s", error)
        return False
    return True


class Planned(NamedTuple):
    """One benchmark in one language, with data that is there."""

    benchmark: BenchmarkConfig
    data: BenchmarkData
    language: str


def plan_suite(
    benchmarks: Sequence[BenchmarkConfig],
    *,
    data: Path,
    languages: Sequence[str] | None,
    metrics: MetricSettings,
    tells: bool,
) -> list[Planned]:
    """Return everything that there is to do, before there is a model.

    Args:
        benchmarks: as in :func:`run_suite`, like what follows.
        data: see there.
        languages: see there.
        metrics: see there.
        tells: whether languages without data are told.

    Raises:
        ValueError: everything that stands in the way.
    """
    problems: list[str] = []
    planned: list[Planned] = []
    names = [benchmark.name for benchmark in benchmarks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"benchmarks are given twice: {', '.join(twice)}")
    for benchmark in benchmarks:
        try:
            check_metrics(benchmark, metrics)
            there = BenchmarkData(benchmark, data)
        except ValueError as error:
            problems.append(f"{benchmark.name}: {error}")
            continue
        chosen, missing = chosen_languages(there.languages, languages)
        missing = [code for code in missing if code != benchmark.pivot]
        if tells:
            _tell_missing(benchmark, there, missing, languages)
        planned += [Planned(benchmark, there, language) for language in chosen]
    if not problems and not planned:
        problems.append(f"no benchmark has data of the languages asked for: {', '.join(languages or ()) or 'all'}")
    if problems:
        raise BenchmarkDataError("\n".join(problems))
    return planned


def _tell_missing(
    benchmark: BenchmarkConfig, there: BenchmarkData, missing: Sequence[str], languages: Sequence[str] | None
) -> None:
    """List the languages without data, and how many there are."""
    lacking = {code: split for code, split in there.lacking.items() if languages is None or code in missing}
    absent = [code for code in missing if code not in lacking]
    if absent:
        logger.warning("%s has no data of %d languages: %s", benchmark.name, len(absent), ", ".join(absent))
    if lacking:
        told = ", ".join(f"{code} ({split})" for code, split in lacking.items())
        logger.warning("%s lacks a part of the data of %d languages: %s", benchmark.name, len(lacking), told)


def _settings(
    model: LanguageModel,
    benchmark: BenchmarkConfig,
    there: BenchmarkData,
    language: str,
    options: RunOptions,
) -> dict[str, Any]:
    """Return all that decides a score besides the model."""
    found: dict[str, Any] = {
        "data": there.hashes(language),
        "definition": definition_of_items(benchmark, language),
        "limit": options.limit,
        "model_tokens": model.max_tokens,
        **scored_by(benchmark, language, options.metrics),
    }
    if benchmark.kind != "text":
        found |= {
            "shots": benchmark.shots,
            "seed": options.seed if benchmark.shots or benchmark.sampling.temperature else None,
        }
    if benchmark.kind == "generation":
        found |= {"maximum_tokens": new_tokens(model, benchmark), "sampling": benchmark.sampling.model_dump()}
    return found


def _to_score(job: _Job, outcome: Outcome, unpaired: int, seconds: float) -> Score:
    benchmark = job.benchmark
    flags = [*(["contaminated"] if benchmark.contaminated else []), *outcome.flags]
    flags += [f"unpaired={unpaired}"] if unpaired else []
    flags += [f"limit={job.settings['limit']}"] if job.settings["limit"] is not None else []
    return Score(
        benchmark=benchmark.name,
        language=job.language,
        metrics=outcome.metrics,
        main=outcome.main,
        higher_is_better=outcome.higher_is_better,
        items=len(outcome.items),
        flags=tuple(flags),
        settings=job.settings,
        seconds=seconds,
    )
