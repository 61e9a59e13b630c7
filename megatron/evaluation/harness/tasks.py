"""Tasks of lm-evaluation-harness, with its own prompts and metrics, over rows that we have read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megatron.evaluation.harness.benchmarks import BENCHMARKS, HarnessBenchmark
from megatron.evaluation.harness.installed import HarnessError, lm_eval
from megatron.evaluation.harness.rows import Rows, read_rows, split_path


@dataclasses.dataclass(frozen=True)
class Job:
    """One benchmark in one language, ready to be evaluated.

    Attributes:
        name: of the benchmark.
        language: corpus code.
        num_fewshot: how many shots.
        test: what is evaluated.
        shots: what the shots are drawn from; the same as ``test`` where the benchmark does so, None without shots.
    """

    name: str
    language: str
    num_fewshot: int
    test: Rows
    shots: Rows | None

    @property
    def benchmark(self) -> HarnessBenchmark:
        """The benchmark."""
        return BENCHMARKS[self.name]

    @property
    def task_name(self) -> str:
        """The name of the task in lm-evaluation-harness."""
        return self.benchmark.task.format(self.benchmark.languages[self.language])


def read_job(
    name: str, language: str, *, data: Path, num_fewshot: int, hashes: Mapping[str, str], problems: list[str]
) -> Job | None:
    """Read the files of a benchmark in a language.

    Args:
        name: of the benchmark, in ``BENCHMARKS``.
        language: corpus code that it has.
        data: the folder that holds the benchmarks.
        num_fewshot: how many shots; without any, only the file that is evaluated is read.
        hashes: SHA-256 of the files by split, as far as they are known.
        problems: what is wrong is added to it; None is returned then.
    """
    benchmark = BENCHMARKS[name]
    (_, file), (_, shots_file) = benchmark.test, benchmark.shots

    def read(split: str) -> Rows | None:
        path = split_path(data, benchmark, language, split)
        return read_rows(path, benchmark.fields, sha256=hashes.get(split), problems=problems)

    test = shots = read(file)
    if num_fewshot == 0:
        shots = None
    elif shots_file != file:
        shots = read(shots_file)
    if test is None or (num_fewshot > 0 and shots is None):
        return None
    # Of its own split a question is never its own shot.
    available = num_fewshot if shots is None else shots.count - (shots is test)
    if available < num_fewshot:
        problems.append(
            f"{name}, {language}: {num_fewshot} shots were asked for and {shots_file}.jsonl has {available} for each "
            "question; ask for fewer"
        )
        return None
    return Job(name, language, num_fewshot, test, shots)


def task_manager() -> Any:
    """Return a ``TaskManager`` that knows the tasks of our benchmarks and no other: the whole list takes seconds.

    Raises:
        HarnessError: lm_eval is not installed.
    """
    tasks = lm_eval("tasks")
    root = Path(tasks.__file__).parent
    packages = sorted({benchmark.package for benchmark in BENCHMARKS.values()})
    return tasks.TaskManager(include_defaults=False, include_path=[root / package for package in packages])


def load_task(job: Job, manager: Any, *, seed: int) -> Any:
    """Return the task of lm-evaluation-harness over the rows of a job; nothing is downloaded, nothing cached.

    Args:
        job: what to evaluate.
        manager: from :func:`task_manager`.
        seed: of the choice of shots.

    Returns:
        What ``TaskManager.load`` returns, with the one task.

    Raises:
        HarnessError: a file has been changed meanwhile; lm-evaluation-harness cannot make sense of a row.
    """
    overrides = {
        "task": job.task_name,
        "custom_dataset": lambda **_: _splits(job),
        "training_split": None,
        "validation_split": None,
        "test_split": job.benchmark.test[0],
        "fewshot_split": None if job.shots is None else job.benchmark.shots[0],
        "num_fewshot": job.num_fewshot,
    }
    try:
        # A task by itself would not be joined with its definition; a task of a group is.
        loaded = manager.load([{"group": "local", "task": [overrides]}])
    except HarnessError:
        raise
    except Exception as error:  # of any kind: templates and functions of theirs over rows of the user's
        place = f"{job.name}, {job.language}"
        raise HarnessError(f"{place}: lm-evaluation-harness cannot use the data ({error!r})") from error
    loaded["tasks"][job.task_name].set_fewshot_seed(seed=seed)
    return loaded


def _splits(job: Job) -> dict[str, Any]:
    import datasets

    found = {job.benchmark.test[0]: datasets.Dataset.from_list(job.test.load())}
    if job.shots is not None and job.benchmark.shots[0] not in found:
        found[job.benchmark.shots[0]] = datasets.Dataset.from_list(job.shots.load())
    return found
