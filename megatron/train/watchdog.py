"""Ends a process that has stood still for too long, and leaves behind where it stood."""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

_GRACE_SECONDS = 60.0


class Watchdog:
    """Writes the Python stacks of all threads to a file and ends the process when nobody calls :meth:`beat` in time.

    A process that waits for another one, in a collective or for a file, cannot do so itself: a thread of the
    interpreter's does (:mod:`faulthandler`), which needs no lock that others may hold. When one process of a run hangs,
    all of them wait, and each leaves its stacks; whoever has started them sees them fail, and starts them again. Where
    it is the file system that hangs, and the stacks cannot be written, a second thread ends the process a minute later.

    Args:
        folder: where the stacks go, into ``rank-<rank>.txt``.
        rank: of this process.
        minutes: how long it may stand still; None for ever.
    """

    def __init__(self, folder: Path, *, rank: int, minutes: float | None) -> None:
        self._seconds = None if minutes is None else minutes * 60
        self._path = folder / f"rank-{rank:05d}.txt"
        self._last = 0.0
        self._over = threading.Event()

    def __enter__(self) -> Watchdog:
        if self._seconds is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")
            self.beat()
            threading.Thread(target=self._end_anyway, args=(self._seconds + _GRACE_SECONDS,), daemon=True).start()
        return self

    def beat(self) -> None:
        """Say that the process goes on."""
        if self._seconds is not None:
            self._last = time.monotonic()
            faulthandler.dump_traceback_later(self._seconds, file=self._file, exit=True)

    def _end_anyway(self, seconds: float) -> None:
        while not self._over.wait(min(seconds / 2, _GRACE_SECONDS)):
            if time.monotonic() > self._last + seconds:
                os._exit(1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        if self._seconds is not None:
            faulthandler.cancel_dump_traceback_later()
            self._file.close()
            self._path.unlink(missing_ok=True)


def left_stacks(folder: Path) -> Sequence[Path]:
    """Return the stacks that earlier processes have left, under names that no later one overwrites."""
    kept = []
    for path in sorted(folder.glob("rank-*.txt")):
        if path.stat().st_size:
            when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(path.stat().st_mtime))
            kept.append(path.replace(path.with_name(f"hung-{when}-{path.name}")))
        else:
            path.unlink(missing_ok=True)  # of a process that was killed
    return kept
