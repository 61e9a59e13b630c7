"""Evaluates a model on benchmarks of all kinds; it is loaded once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from megatron.checkpoint.folder import open_folder
from megatron.config.benchmark_load import load_benchmarks, split_names
from megatron.evaluation.benchmarks.run import run_suite
from megatron.evaluation.code.judge import REFUSED
from megatron.evaluation.code.languages import CodeError
from megatron.evaluation.code.run import CodeOptions, run_code
from megatron.evaluation.engine_model import identity_of, open_engine_model
from megatron.evaluation.harness.benchmarks import BENCHMARKS as HARNESS
from megatron.evaluation.harness.run import HarnessOptions, run_harness
from megatron.evaluation.metrics.registry import MetricSettings
from megatron.evaluation.results import ResultsFolder, Score
from megatron.monitor.summary import macro_mean
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import Peers
from megatron.utils.table import text_table


@dataclasses.dataclass(frozen=True)
class EvaluationRun:
    """What is evaluated on what.

    Attributes:
        model: Hugging Face folder, checkpoint or save folder.
        name: what the model is called in reports.
        tasks: benchmarks, suites or files of definitions.
        data: folder of prepared data.
        results: folder of the results; what is there already is not done again.
        languages: corpus codes or languages; None for all.
        limit: only so many of the first items of each language.
        seed: of shots and of sampling.
        batch_tokens: most tokens in one forward pass of text that is scored.
        batch_size: texts that are written at the same time.
        window_tokens: see :class:`megatron.evaluation.engine_model.EngineModel`.
        metrics: files that some metrics need.
        programs: benchmarks whose answers are programs, which are run: name to the file of its problems.
        allow_code_execution: whether they may be.
    """

    model: str
    name: str
    tasks: Sequence[str]
    data: Path
    results: Path
    languages: Sequence[str] | None = None
    limit: int | None = None
    seed: int = 0
    batch_tokens: int = 8192
    batch_size: int = 16
    window_tokens: int | None = None
    metrics: MetricSettings = dataclasses.field(default_factory=MetricSettings)
    programs: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    allow_code_execution: bool = False


def evaluate(run: EvaluationRun, *, mesh: Mesh, peers: Peers, execution: Execution) -> list[Score]:
    """Score a model on all tasks; every process of a layout calls this with the same arguments.

    Returns:
        All scores, in the main process; nothing in the others.

    Raises:
        ValueError: a name, data, the model or the folder of results is not what it should be; before anything is run.
    """
    if run.programs and not run.allow_code_execution:
        raise CodeError(REFUSED)
    own, harness = split_names(run.tasks, others=HARNESS)
    benchmarks = load_benchmarks(own)
    folder = open_folder(run.model)

    def open_results() -> ResultsFolder:
        return ResultsFolder(run.results, model=identity_of(folder, name=run.name))

    # A folder of another model ends all processes before anything is loaded.
    peers.from_main(lambda: open_results() and None)
    results = open_results() if peers.is_main else None
    model = open_engine_model(
        run.model,
        mesh=mesh,
        peers=peers,
        execution=execution,
        batch_tokens=run.batch_tokens,
        batch_size=run.batch_size,
        window_tokens=run.window_tokens,
    )
    scores: list[Score] = []
    if benchmarks:
        scores += run_suite(
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
        scores += run_harness(
            model,
            data=run.data,
            results=results,
            tasks=harness,
            languages=run.languages,
            options=HarnessOptions(limit=run.limit),
            peers=peers,
        )
    for name, problems in run.programs.items():
        score = run_code(
            model,
            name=name,
            problems=problems,
            allow_code_execution=True,
            results=results,
            options=CodeOptions(seed=run.seed, limit=run.limit),
            peers=peers,
        )
        scores += [] if score is None else [score]
    return scores


def score_table(scores: Sequence[Score]) -> str:
    """Return one line for each benchmark: its languages, the mean of its main metric over them, and the time."""
    rows = []
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
            )
        )
    return text_table([("benchmark", "languages", "items", "metric", "mean", "seconds"), *rows], ruled=True)
