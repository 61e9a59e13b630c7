"""When a run is to save and end before its last step: signals, and the end of its time."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

from megatron.config.schema import SurvivalConfig
from megatron.utils.log import get_logger

logger = get_logger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)
"""Of schedulers and shells that want the machine back: Slurm's own, its announcement, a closed terminal, Ctrl-C."""


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
        self._clock, self._received, self._earlier = clock, "", {}  # type: ignore[var-annotated]
        self._ends: list[tuple[float, str]] = []
        if section.exit_duration_minutes is not None:
            minutes = section.exit_duration_minutes
            self._ends.append((clock() + minutes * 60, f"exit_duration_minutes = {minutes:g}"))
        if ends_at is not None:
            margin = section.time_margin_minutes
            self._ends.append((ends_at - margin * 60, f"{margin:g} minutes are left of the job's time"))

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

    def reason(self) -> str:
        """Return why the run should stop, or an empty text."""
        if self._received:
            return self._received
        return next((why for end, why in self._ends if self._clock() >= end), "")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again = bool(self._received)
        self._received = signal.Signals(number).name
        if number == signal.SIGINT:
            if again:
                raise KeyboardInterrupt
            logger.warning("the run will end after this step, and be saved; another Ctrl-C ends it at once")
