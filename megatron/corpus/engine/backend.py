"""Where the tasks of a pass run: in this process, or on a pool of processes of this machine."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Lock
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Protocol

from megatron.corpus.engine.task import Report, Task, TaskRecord, run_task

_POLL_SECONDS = 0.1
_REPORT_SECONDS = 0.2

Result = TaskRecord | str
"""The record of a finished task, or what went wrong with it."""


class Backend(Protocol):
    """Runs tasks; a context manager that is held for all passes of a run.

    Attributes:
        processes: how many tasks run at a time.
    """

    processes: int

    def __enter__(self) -> Backend: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def run(self, folder: Path, tasks: Sequence[Task], report: Report) -> Iterator[tuple[Task, Result]]:
        """Do the tasks of a pass, and yield each as it ends, in any order.

        Args:
            folder: the folder of the pass.
            tasks: the tasks, the largest first.
            report: is told of progress.
        """


def try_task(folder: Path, task: Task, report: Report) -> Result:
    """Do a task; return a message where the input, the disk or the settings are at fault, so that the others go on."""
    try:
        return run_task(folder, task, report)
    except (ValueError, OSError) as error:  # all errors of this project for its users are ValueErrors
        message = str(error)
        return message if message.startswith(task.name) else f"{task.name}: {message}"


class Here:
    """Runs tasks one after the other in this process."""

    processes = 1

    def __enter__(self) -> Here:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return

    def run(self, folder: Path, tasks: Sequence[Task], report: Report) -> Iterator[tuple[Task, Result]]:
        """See :class:`Backend`."""
        for task in tasks:
            yield task, try_task(folder, task, report)


class Pool:
    """Runs tasks on processes of this machine.

    They are spawned, not forked: a forked child inherits the locks of threads that it does not have, and waits forever.

    Args:
        processes: how many.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._stack = ExitStack()

    def __enter__(self) -> Pool:
        context = multiprocessing.get_context("spawn")
        self._reports, sender = context.Pipe(duplex=False)
        # A pipe and not a manager's queue, whose process takes longer to start than all workers together.
        self._pool = ProcessPoolExecutor(self.processes, context, _Worker.start, (sender, context.Lock()))
        self._stack.callback(self._pool.shutdown, cancel_futures=True)
        self._stack.callback(self._reports.close)  # first, so that no worker waits for a pipe that nobody empties
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, folder: Path, tasks: Sequence[Task], report: Report) -> Iterator[tuple[Task, Result]]:
        """See :class:`Backend`."""
        try:
            waiting = {self._pool.submit(_work, folder, task): task for task in tasks}
        except BrokenProcessPool:
            waiting = {}
            for task in tasks:
                yield task, _lost(task)
        while waiting:
            done, _ = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            self._drain(report)
            for future in done:
                task = waiting.pop(future)
                yield task, _result(future, task)

    def _drain(self, report: Report) -> None:
        """Pass on the progress that workers have sent."""
        while self._reports.poll():
            report(*self._reports.recv())


class Seldom:
    """A :data:`~megatron.corpus.engine.task.Report` that adds progress up, and sends it on a few times a second."""

    def __init__(self, send: Callable[[tuple[int, float]], object]) -> None:
        self._send = send
        self._documents, self._bytes, self._sent = 0, 0.0, time.monotonic()

    def __call__(self, documents: int, size_bytes: float) -> None:
        """See :data:`megatron.corpus.engine.task.Report`."""
        self._documents += documents
        self._bytes += size_bytes
        if time.monotonic() - self._sent > _REPORT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what has come since the last time."""
        self._send((self._documents, self._bytes))
        self._documents, self._bytes, self._sent = 0, 0.0, time.monotonic()


class _Worker:
    """What a worker process holds: where its progress goes. It is set once, when the process starts."""

    sender: ClassVar[Connection]
    lock: ClassVar[Lock]

    @classmethod
    def start(cls, sender: Connection, lock: Lock) -> None:
        """Take what a process can be given when it starts, but not with a task."""
        cls.sender, cls.lock = sender, lock

    @classmethod
    def send(cls, progress: tuple[int, float]) -> None:
        """Tell the parent; raises OSError when it no longer listens."""
        with cls.lock:
            cls.sender.send(progress)


def _work(folder: Path, task: Task) -> Result:
    report = Seldom(_Worker.send)
    try:
        return try_task(folder, task, report)
    finally:
        report.flush()


def _result(future: Future[Result], task: Task) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        return _lost(task)


def _lost(task: Task) -> str:
    return f"{task.name}: not done, because a worker process died (out of memory?); run again with fewer workers"
