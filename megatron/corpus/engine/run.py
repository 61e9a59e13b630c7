"""Runs the passes of a pipeline one after the other, and only what is not done already."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import xxhash
from tqdm import tqdm

from megatron.corpus.document import CorpusError
from megatron.corpus.engine.assign import largest_first
from megatron.corpus.engine.backend import Backend
from megatron.corpus.engine.task import Task, TaskRecord, finished, remove_others
from megatron.utils.log import get_logger

_SHOWN_PROBLEMS = 20
_WAIT_SECONDS = 1.0

_logger = get_logger(__name__)


class UnfinishedError(CorpusError):
    """Some tasks of a pass are not done; the message lists why."""


@dataclass(frozen=True)
class Share:
    """One of several jobs that divide the tasks of each pass among them, such as the members of a Slurm array.

    Attributes:
        index: which one, from 0.
        count: of how many.
    """

    index: int = 0
    count: int = 1

    def has(self, task: str) -> bool:
        """Whether a task is this job's, by its name alone: jobs need not know of each other to agree."""
        return xxhash.xxh3_64_intdigest(task.encode()) % self.count == self.index

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read ``i/n``."""
        index, slash, count = text.partition("/")
        if not slash or not index.isdecimal() or not count.isdecimal():
            raise CorpusError(f"--shard-range {text}: must be i/n with 0 <= i < n, as in 0/16")
        return cls(int(index), int(count))

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index < self.count:
            raise CorpusError(f"--shard-range {self.index}/{self.count}: must be i/n with 0 <= i < n, as in 0/16")


@dataclass
class Runner:
    """Runs passes.

    Attributes:
        backend: where tasks run.
        share: this job's part of the tasks.
        show_progress: draw a bar on standard error.
        wait_seconds: wait so long in each pass for the parts of other jobs.
        done: per pass, how many tasks ran here and how many there are.
    """

    backend: Backend
    share: Share = field(default_factory=Share)
    show_progress: bool = True
    wait_seconds: float = 0.0
    done: dict[str, tuple[int, int]] = field(default_factory=dict)

    def run(self, name: str, folder: Path, tasks: Sequence[Task]) -> list[TaskRecord]:
        """Do the tasks of a pass that are not finished, and return the records of all, in the order given.

        What other tasks have written into the folder, of inputs that are gone, is removed.

        Args:
            name: of the pass, for people.
            folder: of the pass.
            tasks: all of its tasks, whoever does them.

        Raises:
            UnfinishedError: some tasks failed, or are another job's and not finished there. The others are done.
        """
        records, problems = self.attempt(name, folder, tasks)
        if len(records) < len(tasks):
            raise unfinished(name, problems, len(tasks) - len(records))
        self.remove_others(name, folder, tasks)
        return [records[task.name] for task in tasks]

    def remove_others(self, name: str, folder: Path, tasks: Sequence[Task]) -> None:
        """Remove from the folder of a pass what tasks have written whose input is gone; one of several jobs does not.

        Args:
            name: of the pass, for people.
            folder: of the pass.
            tasks: all of its tasks.
        """
        if self.share.count == 1 and (removed := remove_others(folder, {task.name: task for task in tasks})):
            _logger.info("%s: removed the results of %d tasks whose input is gone", name, removed)

    def attempt(self, name: str, folder: Path, tasks: Sequence[Task]) -> tuple[dict[str, TaskRecord], dict[str, str]]:
        """Do the tasks of a pass that are not finished.

        Returns:
            The records of the finished tasks by name, and what went wrong with tasks that failed.
        """
        if len({task.name for task in tasks}) < len(tasks):
            raise AssertionError(f"{name}: two tasks of one name")
        records = {task.name: record for task in tasks if (record := finished(folder, task)) is not None}
        if records and len(records) < len(tasks):
            _logger.info("%s: %d of %d tasks are finished already", name, len(records), len(tasks))
        mine = [task for task in tasks if task.name not in records and self.share.has(task.name)]
        problems = self._run(name, folder, mine, records)
        self.done[name] = (len(mine), len(tasks))
        until = time.monotonic() + self.wait_seconds
        while True:
            for task in tasks:  # other jobs may have finished theirs meanwhile
                if task.name not in records and (record := finished(folder, task)) is not None:
                    records[task.name] = record
            if len(records) == len(tasks) or problems or self.share.count == 1 or time.monotonic() > until:
                return records, problems
            time.sleep(_WAIT_SECONDS)

    def _run(self, name: str, folder: Path, tasks: Sequence[Task], records: dict[str, TaskRecord]) -> dict[str, str]:
        """Run tasks behind a bar, add their records, and return what went wrong."""
        problems: dict[str, str] = {}
        if not tasks:
            return problems
        documents = 0
        with tqdm(
            total=sum(task.size_bytes for task in tasks),
            desc=name,
            unit="B",
            unit_scale=True,
            disable=not self.show_progress,
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
            dynamic_ncols=True,
        ) as bar:

            def report(count: int, size_bytes: float) -> None:
                nonlocal documents
                documents += count
                bar.update(size_bytes)
                seconds = bar.format_dict["elapsed"]
                bar.set_postfix_str(f"{documents / seconds:,.0f} documents/s" if seconds else "", refresh=False)

            for task, result in self.backend.run(folder, largest_first(tasks), report):
                if isinstance(result, str):
                    problems[task.name] = result
                else:
                    records[task.name] = result
        return problems


def unfinished(name: str, problems: Mapping[str, str], missing: int) -> UnfinishedError:
    """Return the error of a pass that is not finished.

    Args:
        name: of the pass.
        problems: what went wrong, by task.
        missing: how many tasks are not finished.
    """
    listed = [f"  {problem}" for problem in sorted(problems.values())[:_SHOWN_PROBLEMS]]
    if len(problems) > _SHOWN_PROBLEMS:
        listed.append(f"  ... and {len(problems) - _SHOWN_PROBLEMS} more")
    others = " Other jobs' parts count too: run this pass in all of them before the next one begins."
    hint = others if missing > len(problems) else ""
    return UnfinishedError("\n".join([f"{name}: {missing} tasks are not finished.{hint}", *listed]))
