"""Tasks on the processes of an MPI job, on one machine or many that share a file system.

The first process runs the pipeline and deals the tasks of each pass out, by size and fixed before any begins; it does
its own part of them too. All others serve it. Slices of keys are exchanged all to all, so that every file is read by
one process and not by all.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from megatron.corpus.document import CorpusError
from megatron.corpus.engine.assign import shares
from megatron.corpus.engine.backend import Result, Seldom, try_task
from megatron.corpus.engine.shuffle import Entries, Shuffled
from megatron.corpus.engine.task import Outputs, Report, Task, Work

_RESULT, _PROGRESS = 1, 2


class Mpi:
    """The processes of an MPI job (see :class:`megatron.corpus.engine.backend.Backend`).

    Args:
        launched: how many processes the launcher says it has started; None where it does not say.

    Attributes:
        rank: number of this process.
        processes: how many there are.

    Raises:
        CorpusError: mpi4py is missing, or the launcher and MPI disagree on how many processes there are.
    """

    def __init__(self, launched: int | None) -> None:
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise CorpusError(f"--mpi needs mpi4py and an MPI library ({error}): pip install mpi4py==4.1.2") from error
        self._mpi = MPI
        self._comm = MPI.COMM_WORLD
        self.rank: int = self._comm.rank
        self.processes: int = self._comm.size
        self._in_pass = False
        if launched is not None and launched != self.processes:
            raise CorpusError(
                f"the launcher has started {launched} processes, but MPI sees {self.processes}: every process would "
                "believe that it is alone. mpi4py uses another MPI library than the launcher; set MPI4PY_MPIABI (mpich "
                "or openmpi), start with srun --mpi=pmix, or build mpi4py against your MPI: "
                "pip install --no-binary=mpi4py mpi4py==4.1.2"
            )

    def __enter__(self) -> Mpi:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._in_pass and error is not None:
            # The others wait for this process in the middle of a pass: without it they would wait for ever.
            _print_trace(error)
            self._comm.Abort(1)
        if self.rank == 0:
            self._comm.bcast(None)  # the others may go home

    def run(self, folder: Path, tasks: Sequence[Task], report: Report) -> Iterator[tuple[Task, Result]]:
        """Do the tasks of a pass on all processes; called by the first process only."""
        self._comm.bcast((folder, tuple(tasks)))
        self._in_pass = True
        waiting = {task.name: task for task in tasks}
        results: list[tuple[str, Result]] = []

        def drain() -> None:
            status = self._mpi.Status()
            while self._comm.iprobe(status=status):
                message = self._comm.recv(source=status.source, tag=status.tag)
                if status.tag == _PROGRESS:
                    report(*message)
                else:
                    results.append(message)

        def report_and_drain(documents: int, size_bytes: float) -> None:
            report(documents, size_bytes)
            drain()

        def arrived() -> Iterator[tuple[Task, Result]]:
            while results:
                name, result = results.pop()
                yield waiting.pop(name), result

        for mine in self._do(folder, tasks, report_and_drain):
            results.append(mine)
            yield from arrived()
        while waiting:
            self._comm.probe()
            drain()
            yield from arrived()
        self._in_pass = False

    def serve(self) -> None:
        """Do what the first process asks for, until it has nothing more to do; for all other processes."""
        try:
            while (asked := self._comm.bcast(None)) is not None:
                self._serve(*asked)
        except BaseException as error:
            # A process that is gone without a word would leave all others waiting for it.
            _print_trace(error)
            self._comm.Abort(1)

    def _serve(self, folder: Path, tasks: Sequence[Task]) -> None:
        sent: list[Any] = []

        def send(progress: tuple[int, float]) -> None:
            sent.append(self._comm.isend(progress, dest=0, tag=_PROGRESS))

        report = Seldom(send)
        for result in self._do(folder, tasks, report):
            report.flush()
            sent.append(self._comm.isend(result, dest=0, tag=_RESULT))
        self._mpi.Request.waitall(sent)

    def _do(self, folder: Path, tasks: Sequence[Task], report: Report) -> Iterator[tuple[str, Result]]:
        """Do this process's part of the tasks."""
        if all(isinstance(task.work, Shuffled) for task in tasks):
            yield from self._shuffled(folder, tasks, report)
            return
        for task in shares(tasks, self.processes)[self.rank]:
            yield task.name, try_task(folder, task, report)

    def _shuffled(self, folder: Path, tasks: Sequence[Task], report: Report) -> Iterator[tuple[str, Result]]:
        """Do tasks in rounds of one for each process, after an exchange of what each has read for all."""
        for start in range(0, len(tasks), self.processes):
            round_tasks = tasks[start : start + self.processes]
            problem = ""
            try:
                slices = [self._slices(task.work) for task in round_tasks]
            except (ValueError, OSError) as error:  # the exchange needs everybody, also after a failure
                problem, slices = str(error), [np.zeros((2, 0), np.uint64) for _ in round_tasks]
            problems = [each for each in self._comm.allgather(problem) if each]
            entries = self._exchange(slices)
            if self.rank < len(round_tasks):
                task = round_tasks[self.rank]
                if problems:
                    yield task.name, f"{task.name}: {problems[0]}"
                    continue
                ready = Task(task.name, task.fingerprint, task.size_bytes, _Ready(task.work, entries))
                yield task.name, try_task(folder, ready, report)

    def _slices(self, work: Work) -> Entries:
        """Return the slices of the files that this process reads, for one task."""
        assert isinstance(work, Shuffled)
        mine = range(self.rank, work.num_sources, self.processes)
        return np.concatenate([np.zeros((2, 0), np.uint64), *(work.slice(source) for source in mine)], axis=1)

    def _exchange(self, slices: Sequence[Entries]) -> Entries:
        """Send the slices for task i to process i, and return what all others have for this process's task."""
        empty = np.zeros((2, 0), np.uint64)
        outgoing = [slices[to] if to < len(slices) else empty for to in range(self.processes)]
        counts = np.array([each.shape[1] for each in outgoing], dtype=np.int64)
        arriving = np.empty_like(counts)
        self._comm.Alltoall(counts, arriving)
        received = np.empty((2, int(arriving.sum())), np.uint64)
        for row in (0, 1):
            flat = np.concatenate([each[row] for each in outgoing])
            self._comm.Alltoallv([flat, counts.tolist()], [received[row], arriving.tolist()])
        return received


def _print_trace(error: BaseException) -> None:
    traceback.print_exception(type(error), error, error.__traceback__)


class _Ready:
    """The work of a task whose slices have arrived."""

    def __init__(self, work: Work, entries: Entries) -> None:
        self._work, self._entries = work, entries

    def __call__(self, outputs: Outputs, report: Report) -> Any:
        assert isinstance(self._work, Shuffled)
        return self._work.finish(self._entries, outputs, report)
