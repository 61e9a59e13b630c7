"""The live view of a run in the terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live

from megatron.monitor.live_frame import frame
from megatron.monitor.live_run import LiveRun
from megatron.monitor.tail import MetricsTail


class Watcher:
    """Looks at the record of a run, again and again.

    Args:
        folder: the run's ``save`` folder.
        console: the terminal.
        clock: unix time in seconds.
    """

    def __init__(self, folder: Path, console: Console, *, clock: Callable[[], float] = time.time) -> None:
        self._name = str(folder) if folder.name else folder.resolve().name
        self._console = console
        self._clock = clock
        self._tail = MetricsTail(folder / "metrics.jsonl")
        self._run = LiveRun()

    def lines(self) -> list[str]:
        """Return one whole frame as lines of text, with colours where the terminal has them.

        Raises:
            MetricsError: the run has not begun.
            OSError: the record cannot be read.
        """
        self._read()
        with self._console.capture() as captured:
            self._console.print(self._frame(height=None))
        return [line.rstrip() for line in captured.get().splitlines()]

    def follow(self, *, interval_seconds: float) -> None:
        """Show the run on the whole terminal until it has finished, or until Ctrl-C.

        A run that has stopped may go on, so it is watched further.

        Raises:
            ValueError: the interval is no time.
            MetricsError: the run has not begun.
            OSError: the record cannot be read.
        """
        if not (math.isfinite(interval_seconds) and interval_seconds > 0):
            raise ValueError(f"interval = {interval_seconds} must be a number of seconds above 0")
        try:
            self._read()
            with Live(self._full_frame(), console=self._console, screen=True, auto_refresh=False) as live:
                while not self._has_finished():
                    time.sleep(interval_seconds)
                    self._read()
                    live.update(self._full_frame(), refresh=True)
        except KeyboardInterrupt:
            pass  # that is how one stops watching

    def _read(self) -> None:
        if self._tail.begins_anew():
            self._run = LiveRun()
        for event in self._tail.new_events():
            self._run.take(event)

    def _has_finished(self) -> bool:
        return self._run.end is not None and self._run.end["reason"] == "finished"

    def _full_frame(self) -> Group:
        return self._frame(height=self._console.height)

    def _frame(self, *, height: int | None) -> Group:
        return frame(
            self._run, name=self._name, now=self._clock(), width=self._console.width, height=height,
            ascii_only=self._console.options.ascii_only, unreadable_lines=self._tail.unreadable_lines,
        )  # fmt: skip
