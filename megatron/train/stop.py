"""When a run is to save and end before its last step: signals, and the end of its time."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from megatron.config.schema import SurvivalConfig
from megatron.utils.log import get_logger

logger = get_logger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)
"""Of schedulers and shells that want the machine back: Slurm's own, its announcement, a closed terminal, Ctrl-C."""
_LARGEST_MARGIN = 0.25
"""Of the time that is left at the start."""
_OVER = 1000
"""Numbers from here on stand for ends of the time, those below for signals."""


class StopRequests:
    """Listens for reasons to stop; a context manager that puts the signals' earlier handlers back.

    A second Ctrl-C is not waited for: it ends the process as it does elsewhere.

    Args:
        section: how long the run may take, and how long before the end of its job it stops.
        ends_at: unix time in seconds at which its job ends, where that is known.
        clock: unix time in seconds.
    """

    def __init__(
        self, section: SurvivalConfig, *, ends_at: float | None, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock, self._received = clock, 0
        self._earlier: dict[int, Any] = {}
        self._ends: list[tuple[float, str]] = []
        if section.exit_duration_minutes is not None:
            minutes = section.exit_duration_minutes
            self._ends.append((clock() + minutes * 60, f"exit_duration_minutes = {minutes:g}"))
        if ends_at is not None:
            # A job that is not much longer than the margin is to get something done all the same.
            margin = min(section.time_margin_minutes, max(0.0, ends_at - clock()) / 60 * _LARGEST_MARGIN)
            self._ends.append((ends_at - margin * 60, f"{margin:.3g} minutes are left of the job's time"))

    def __enter__(self) -> StopRequests:
        # Only the main thread may; a trainer in another one, as in some tests, is stopped by others.
        if threading.current_thread() is threading.main_thread():
            self._earlier = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def code(self) -> int:
        """Return a number that stands for why the run should stop, 0 for no reason; the same in every process."""
        over = next((number for number, (end, _) in enumerate(self._ends, start=_OVER) if self._clock() >= end), 0)
        return self._received or over

    def reason(self, code: int) -> str:
        """Return what a number of :meth:`code` stands for."""
        return signal.Signals(code).name if code < _OVER else self._ends[code - _OVER][1]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again = self._received != 0
        self._received = number
        if number == signal.SIGINT:
            if again:
                raise KeyboardInterrupt
            logger.warning("the run will end after this step, and be saved; another Ctrl-C ends it at once")
