"""Runs benchmarks of lm-evaluation-harness on a model, language by language, and keeps every score as it comes."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from megatron.evaluation.harness.adapter import Scorer, harness_model
from megatron.evaluation.harness.installed import VERSION, HarnessError, lm_eval
from megatron.evaluation.harness.outcome import items_of, metrics_of
from megatron.evaluation.harness.plan import plan_jobs
from megatron.evaluation.harness.tasks import Job, load_task, task_manager
from megatron.evaluation.keeper import Keeper
from megatron.evaluation.language_model import LanguageModel
from megatron.evaluation.results import IncompleteError, ResultsFolder, Score
from megatron.parallel.process import Peers
from megatron.utils.log import get_logger, progress

logger = get_logger(__name__)


@dataclasses.dataclass(frozen=True)
class HarnessOptions:
    """How lm-evaluation-harness is run.

    Attributes:
        limit: at most so many questions of each language; for trials only.
        num_fewshot: shots by benchmark, where they are not to be the default.
        maximum_tokens: most new tokens where a task names no number; 256 is lm-evaluation-harness's own.
        seed: of the choice of shots; 1234 is lm-evaluation-harness's own.
    """

    limit: int | None = None
    num_fewshot: Mapping[str, int] = dataclasses.field(default_factory=dict)
    maximum_tokens: int = 256
    seed: int = 1234

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise HarnessError(f"limit = {self.limit}; it must be 1 or more, or be left out")
        if self.maximum_tokens < 1:
            raise HarnessError(f"maximum_tokens = {self.maximum_tokens}; it must be 1 or more")


def run_harness(
    model: LanguageModel,
    *,
    data: Path,
    results: ResultsFolder | None = None,
    tasks: Sequence[str] | None = None,
    languages: Sequence[str] | None = None,
    options: HarnessOptions | None = None,
    peers: Peers | None = None,
    show_progress: bool = True,
) -> list[Score]:
    """Evaluate a model with lm-evaluation-harness on local files; no network is used.

    Every process of a layout calls this with the same arguments but ``results``, and enters every forward pass.

    Args:
        model: scores and writes.
        data: holds ``<benchmark>/<xxx_Ssss>/{train,dev,test}.jsonl``.
        results: keeps scores and items as soon as they are known; what it already has with the same settings is not
            done again. None in processes that are not the main one, or where nothing is to be kept.
        tasks: names in ``BENCHMARKS``; all that have been prepared by default.
        languages: corpus codes, or languages without a script (``swh``); all that have data by default.
        options: shots, limits and seeds.
        peers: the processes of the layout, so that the main one can tell the others what is done already.
        show_progress: whether the main process draws a progress bar.

    Returns:
        One score for each benchmark and language, also those that were there before; nothing in processes that are not
        the main one.

    Raises:
        HarnessError: lm_eval is not installed; an unknown name; files that are missing or wrong, all of them together.
        IncompleteError: some languages could not be scored, at the end; such as questions longer than the model.
    """
    options, peers = options or HarnessOptions(), peers or Peers()
    manager = task_manager()
    if version("lm_eval") != VERSION:
        logger.warning("lm_eval is %s, this is made for %s: prompts may differ", version("lm_eval"), VERSION)
    shots = options.num_fewshot
    jobs = plan_jobs(data, tasks=tasks, languages=languages, num_fewshot=shots, tells=model.is_main)
    settings = [_settings(job, model.max_tokens, options) for job in jobs]
    keeper = Keeper(results, peers)
    there = keeper.there([(job.name, job.language, how) for job, how in zip(jobs, settings, strict=True)])
    scores: list[Score] = []
    problems: list[str] = []
    bar = progress(
        zip(jobs, settings, there, strict=True), description="lm-evaluation-harness", total=len(jobs), unit="language",
        disable=not (show_progress and model.is_main),
    )  # fmt: skip
    for job, how, earlier in bar:
        if earlier is not None:
            scores += earlier
            continue
        try:
            with _quiet():
                found = _evaluate(job, model, manager, how, options)
            scores += keeper.keep(partial(_told, *found))
        except ValueError as error:
            problems.append(str(error))
            logger.error("%s", error)
    if problems:
        raise IncompleteError(problems, scores)
    return scores


def _told(score: Score, items: list[dict[str, Any]]) -> tuple[Score, list[dict[str, Any]]]:
    told = f" ({', '.join(score.flags)})" if score.flags else ""
    logger.info("%s %s: %s %.4f of %d%s", score.benchmark, score.language, score.main, score.value, score.items, told)
    return score, items


def _evaluate(
    job: Job, model: LanguageModel, manager: Any, settings: Mapping[str, Any], options: HarnessOptions
) -> tuple[Score, list[dict[str, Any]]]:
    started = time.monotonic()
    scorer = Scorer(model, maximum_tokens=options.maximum_tokens, seed=options.seed)
    task = load_task(job, manager, seed=options.seed)
    # Not `simple_evaluate`: it returns nothing to processes with a LOCAL_RANK, and asks the machine about itself for
    # seconds at every call. One bootstrap sample only switches standard errors on; those of means are exact.
    evaluate = lm_eval("evaluator").evaluate
    try:
        found = evaluate(lm=harness_model(scorer), task_dict=task, limit=options.limit, bootstrap_iters=1)
    except ValueError as error:
        raise HarnessError(f"{job.name}, {job.language}: {error}") from error
    items = items_of(found["samples"][job.task_name])
    score = Score(
        benchmark=job.name,
        language=job.language,
        metrics=metrics_of(found["results"][job.task_name]),
        main=job.benchmark.main,
        higher_is_better=True,
        items=len(items),
        flags=tuple(
            f"{name}={value}" for name, value in (("shortened", scorer.shortened), ("limit", options.limit)) if value
        ),
        settings=settings,
        seconds=round(time.monotonic() - started, 3),
    )
    return score, items


def _settings(job: Job, context_tokens: int, options: HarnessOptions) -> dict[str, Any]:
    return {
        "library": f"lm_eval {version('lm_eval')}",
        "task": job.task_name,
        "num_fewshot": job.num_fewshot,
        "seed": options.seed,
        "limit": options.limit,
        "maximum_tokens": options.maximum_tokens,
        "context_tokens": context_tokens,
        "test": job.test.fingerprint,
        "shots": None if job.shots is None else job.shots.fingerprint,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what lm_eval and datasets tell and draw of every task and language off the screen, errors apart.

    lm_eval draws a bar for each task and has no option against it; its own name for the bar is another as long as this
    lasts, and tqdm stays as it is.
    """
    import datasets

    their_task = lm_eval("api.task")
    their_bar = getattr(their_task, "tqdm", None)
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    before = [found.level for found in loggers]
    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    for found in loggers:
        found.setLevel(logging.ERROR)
    their_task.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        their_task.tqdm = their_bar
        for found, level in zip(loggers, before, strict=True):
            found.setLevel(level)
        if bars:
            datasets.enable_progress_bars()
