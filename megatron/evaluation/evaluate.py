"""Evaluates a model on benchmarks of all kinds; it is loaded once."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from megatron.checkpoint.folder import ModelFolder, open_folder
from megatron.checkpoint.storage import LocalStorage
from megatron.config.benchmark_load import load_benchmarks, split_names
from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.config.problems import did_you_mean
from megatron.evaluation.benchmarks.checks import item_problems
from megatron.evaluation.benchmarks.data import chosen_languages
from megatron.evaluation.benchmarks.run import Planned, plan_suite, run_suite
from megatron.evaluation.code.judge import REFUSED, check_languages
from megatron.evaluation.code.problems import read_problems
from megatron.evaluation.code.run import CodeOptions, run_code
from megatron.evaluation.engine_model import EngineModel, identity_of, open_engine_model
from megatron.evaluation.harness.benchmarks import BENCHMARKS as HARNESS
from megatron.evaluation.harness.plan import plan_jobs
from megatron.evaluation.harness.run import HarnessOptions, run_harness
from megatron.evaluation.harness.tasks import task_manager
from megatron.evaluation.metrics.registry import MetricSettings
from megatron.evaluation.results import IncompleteError, ResultsFolder, Score
from megatron.monitor.summary import macro_mean
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import Peers
from megatron.utils.files import exclusive
from megatron.utils.log import get_logger
from megatron.utils.table import text_table

logger = get_logger(__name__)


@dataclasses.dataclass(frozen=True)
class EvaluationRun:
    """What is evaluated on what.

    Attributes:
        model: Hugging Face folder, checkpoint or save folder.
        name: what the model is called in reports.
        tasks: benchmarks, suites or files of definitions. What has not been prepared of a suite is told and left out.
        data: folder of prepared data.
        results: folder of the results; what is there already is not done again. None for ``evaluation`` in the model's
            folder, or ``evaluation/step<N>`` beside a checkpoint. A trial with ``limit`` has a folder of its own in it.
        languages: corpus codes or languages; None for all.
        limit: only so many of the first items of each language.
        seed: of shots and of sampling; 0 stands for lm-evaluation-harness's own, 1234, in its benchmarks.
        batch_tokens: most tokens in one forward pass of text that is scored.
        batch_size: texts that are written at the same time.
        window_tokens: see :class:`megatron.evaluation.engine_model.EngineModel`.
        metrics: files that some metrics need.
        num_fewshot: shots of lm-evaluation-harness's benchmarks, where they are not to be the default.
        programs: benchmarks whose answers are programs, which are run: name to the file of its problems.
        num_samples: programs for each problem.
        allow_code_execution: whether they may be.
    """

    model: str
    name: str
    tasks: Sequence[str]
    data: Path
    results: Path | None
    languages: Sequence[str] | None = None
    limit: int | None = None
    seed: int = 0
    batch_tokens: int = 8192
    batch_size: int = 16
    window_tokens: int | None = None
    metrics: MetricSettings = dataclasses.field(default_factory=MetricSettings)
    num_fewshot: Mapping[str, int] = dataclasses.field(default_factory=dict)
    programs: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    num_samples: int = 20
    allow_code_execution: bool = False


def evaluate(run: EvaluationRun, *, mesh: Mesh, peers: Peers, execution: Execution) -> list[Score]:
    """Score a model on all tasks; every process of a layout calls this with the same arguments.

    Returns:
        All scores, in the main process; nothing in the others.

    Raises:
        ValueError: a name, data, the model or the folder of results is not what it should be; before anything is run.
        IncompleteError: some languages could not be scored, at the end.
    """
    benchmarks, harness = _chosen(run, tells=peers.is_main)
    options = HarnessOptions(
        limit=run.limit, num_fewshot=run.num_fewshot, **({"seed": run.seed} if run.seed else {})
    )
    peers.from_main(lambda: _check(run, benchmarks, harness, options))
    folder = open_folder(run.model, peers=peers)
    place = _results_folder(run, folder)
    opened: list[ResultsFolder] = []
    with ExitStack() as stack:

        def open_results() -> None:
            stack.enter_context(exclusive(place / ".lock"))
            identity = identity_of(folder, name=run.name, precision=str(execution.dtype).removeprefix("torch."))
            opened.append(ResultsFolder(place, model=identity))

        # A folder of another model, or one that is in use, ends all processes before anything is loaded.
        peers.from_main(open_results)
        model = open_engine_model(
            folder,
            mesh=mesh,
            peers=peers,
            execution=execution,
            batch_tokens=run.batch_tokens,
            batch_size=run.batch_size,
            window_tokens=run.window_tokens,
        )
        scores: list[Score] = []
        failed: list[str] = []
        for part in _parts(run, model, benchmarks, harness, options, opened[0] if opened else None, peers):
            try:
                scores += part()
            except IncompleteError as error:
                scores += error.scores
                failed += error.problems
    if failed:
        raise IncompleteError(failed, scores)
    return scores


def _parts(
    run: EvaluationRun,
    model: EngineModel,
    benchmarks: Sequence[BenchmarkConfig],
    harness: Sequence[str],
    options: HarnessOptions,
    results: ResultsFolder | None,
    peers: Peers,
) -> Iterator[Callable[[], Sequence[Score]]]:
    if benchmarks:
        yield lambda: run_suite(
            model,
            benchmarks,
            data=run.data,
            results=results,
            languages=run.languages,
            limit=run.limit,
            seed=run.seed,
            metric_settings=dataclasses.replace(run.metrics, seed=run.seed),
            peers=peers,
        )
    if harness:
        yield lambda: run_harness(
            model,
            data=run.data,
            results=results,
            tasks=harness,
            languages=run.languages,
            options=options,
            peers=peers,
        )
    for name, problems in run.programs.items():
        yield partial(_programs, run, model, name, problems, results, peers)


def _programs(
    run: EvaluationRun, model: EngineModel, name: str, problems: Path, results: ResultsFolder | None, peers: Peers
) -> list[Score]:
    options = CodeOptions(seed=run.seed, limit=run.limit, num_samples=run.num_samples)
    score = run_code(
        model,
        name=name,
        problems=problems,
        allow_code_execution=True,
        results=results,
        options=options,
        peers=peers,
    )
    return [] if score is None else [score]


def _chosen(run: EvaluationRun, *, tells: bool) -> tuple[list[BenchmarkConfig], list[str]]:
    """Return the benchmarks of both kinds; of suites those that have been prepared."""
    own, harness = split_names(run.tasks, others=HARNESS)
    named = set(run.tasks)
    benchmarks = load_benchmarks(own)
    lacking = [each.name for each in benchmarks if each.name not in named and not (run.data / each.data).is_dir()]
    # A path names a benchmark as well.
    lacking = [name for name in lacking if not any(Path(task).stem == name for task in named)]
    lacking += [name for name in harness if name not in named and not (run.data / HARNESS[name].data).is_dir()]
    if lacking and tells:
        logger.warning("not prepared in %s, and left out: %s", run.data, ", ".join(lacking))
    benchmarks = [each for each in benchmarks if each.name not in lacking]
    harness = [name for name in harness if name not in lacking]
    if not (benchmarks or harness or run.programs):
        raise ValueError(f"{run.data} has data of no benchmark that was asked for; see tools/prepare_benchmark.py")
    return benchmarks, harness


def _check(
    run: EvaluationRun, benchmarks: Sequence[BenchmarkConfig], harness: Sequence[str], options: HarnessOptions
) -> None:
    """Find what stands in the way of any of the benchmarks before a model is loaded."""
    problems = []

    def attempt(look: Callable[[], object]) -> None:
        try:
            look()
        except ValueError as error:
            problems.append(str(error))

    planned: list[Planned] = []
    if benchmarks:
        attempt(
            lambda: planned.extend(
                plan_suite(benchmarks, data=run.data, languages=run.languages, metrics=run.metrics, tells=False)
            )
        )
    problems += item_problems(planned, limit=run.limit)
    problems += _unknown_languages(run, benchmarks, harness)
    if harness:
        attempt(task_manager)
        attempt(
            lambda: plan_jobs(
                run.data, tasks=harness, languages=run.languages, num_fewshot=options.num_fewshot, tells=False
            )
        )
    if run.programs and not run.allow_code_execution:
        problems.append(REFUSED)
    elif run.programs:
        attempt(lambda: [check_languages(read_problems(path).languages) for path in run.programs.values()])
    if problems:
        raise ValueError("\n".join(problems))


def _unknown_languages(
    run: EvaluationRun, benchmarks: Sequence[BenchmarkConfig], harness: Sequence[str]
) -> list[str]:
    """Find languages that no benchmark has."""
    known = {code for name in harness for code in HARNESS[name].languages}
    for benchmark in benchmarks:
        folder = run.data / benchmark.data
        known |= {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
    missing = chosen_languages(sorted(known), run.languages)[1] if known else []
    return [f"--languages {code}: no benchmark has it. {did_you_mean(code, known)}".strip() for code in missing]


def _results_folder(run: EvaluationRun, folder: ModelFolder) -> Path:
    if run.results is not None:
        place = run.results
    elif not isinstance(folder.place, LocalStorage):
        raise ValueError("a folder of this machine is needed for the results of a model in an object store: --output")
    elif folder.step is None:
        place = folder.place.path / "evaluation"
    else:  # beside the checkpoint, which may be removed one day
        place = folder.place.path.parent / "evaluation" / f"step{folder.step}"
    # A trial must not take the place of whole results.
    return place if run.limit is None else place / f"limit-{run.limit}"


def score_table(scores: Sequence[Score]) -> str:
    """Return one line for each benchmark: its languages, the mean of its main metric over them, and the time."""
    rows: list[tuple[str, ...]] = []
    for name in dict.fromkeys(score.benchmark for score in scores):
        found = [score for score in scores if score.benchmark == name]
        rows.append(
            (
                name,
                f"{len(found):,}",
                f"{sum(score.items for score in found):,}",
                found[0].main,
                f"{macro_mean(score.value for score in found):.4f}",
                f"{sum(score.seconds for score in found):,.1f}",
                _flags(found),
            )
        )
    heading = ("benchmark", "languages", "items", "metric", "mean", "seconds", "flags: languages")
    return text_table([heading, *rows], ruled=True)


def _flags(scores: Sequence[Score]) -> str:
    counts = Counter(flag.partition("=")[0] for score in scores for flag in score.flags)
    return ", ".join(f"{name}: {count}" for name, count in counts.items())
