"""The record of a run: one JSON object a line in ``metrics.jsonl``. Everything shown about a run is drawn from it."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from megatron.utils.log import get_logger

Event = dict[str, Any]
Listener = Callable[[Event], None]

KEPT = ("incident", "checkpoint_failed")
"""Events of what went wrong, which no restart supersedes."""

_RESERVED = ("event", "step", "time")
_NOT_FINITE = "not_finite"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MAX_WAITING_BYTES = 64 << 20

logger = get_logger(__name__)


class MetricsError(ValueError):
    """An event cannot be written, or a record cannot be read."""


class MetricsWriter:
    """Append events to a record, one line each, handed to the operating system before :meth:`write` returns.

    A killed process can lose no event that was written; at worst its last line is torn. The next writer of the file
    starts on a fresh line, and :func:`read_metrics` steps over the torn one.

    Opening an existing record never shortens it. What a restarted run repeats is marked by its ``start`` event
    (``resumed_from``), and the reader drops the superseded events.

    While the disk is full, lines wait in memory, with a warning, for the next write that goes through.

    JSON has no NaN and no infinity. A number that is not finite is written as ``null``, and the line says what it was:
    ``{"loss": null, ..., "not_finite": [["loss", "nan"]]}``. Readers of ours restore it.

    Args:
        path: the file; its folder is made when missing.
        listeners: called with every event after it was written, e.g. a console and a TensorBoard writer.
        clock: unix time in seconds.
    """

    def __init__(
        self, path: Path, *, listeners: Sequence[Listener] = (), clock: Callable[[], float] = time.time
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = _ends_torn(path)
        # Unbuffered: one write call a line, so that nothing waits in this process.
        self._file = path.open("ab", buffering=0)
        self._waiting = bytearray(b"\n" if torn else b"")
        self._listeners = tuple(listeners)
        self._clock = clock

    def write(self, event: str, step: int, **fields: Any) -> Event:
        """Append one event and hand it to the listeners.

        Args:
            event: ``start``, ``mixture``, ``new_tokens``, ``train``, ``validation``, ``checkpoint``,
                ``checkpoint_failed``, ``incident`` or ``end``.
            step: number of finished optimizer steps.
            **fields: numbers, strings, and lists and dicts of them. No tensors.

        Returns:
            The event as :func:`read_metrics` will give it back.

        Raises:
            MetricsError: a field has a reserved name or holds something that JSON cannot.
            OSError: the file cannot be written, or has been full for too long.
        """
        reserved = [name for name in (*_RESERVED, _NOT_FINITE) if name in fields]
        if reserved:
            raise MetricsError(f"event {event!r} has a field named {reserved[0]!r}; the record uses that name itself")
        record: Event = {"event": event, "step": step, "time": self._clock(), **fields}
        not_finite = [[*path, str(float(value))] for path, value in _not_finite_numbers(fields)]
        line = {**record, _NOT_FINITE: not_finite} if not_finite else record
        try:
            data = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
        except TypeError as error:
            raise MetricsError(
                f"event {event!r} cannot be recorded: {error}; give plain numbers and strings (tensor.item())"
            ) from None
        self._waiting += data
        self._write_waiting()
        for listener in self._listeners:
            listener(record)
        return record

    def _write_waiting(self) -> None:
        try:
            while self._waiting:
                # A disk that fills up takes a part of a line; the rest follows later.
                del self._waiting[: self._file.write(self._waiting)]
        except OSError as error:
            if error.errno not in _FULL or len(self._waiting) > _MAX_WAITING_BYTES:
                raise
            logger.warning("%s: %s; %d bytes wait", self._file.name, error.strerror, len(self._waiting))

    def close(self) -> None:
        """Close the file and every listener that has a ``close``.

        Raises:
            OSError: lines that had to wait still cannot be written.
        """
        try:
            self._write_waiting()
            if self._waiting:
                raise OSError(errno.ENOSPC, f"the last {len(self._waiting):,} bytes are lost", str(self._file.name))
        finally:
            self._close()

    def _close(self) -> None:
        self._file.close()
        for listener in self._listeners:
            close = getattr(listener, "close", None)
            if close is not None:
                close()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[Event]:
    """Return the events of a run in order, without those that a restart has superseded.

    Raises:
        MetricsError: there is no such file.
    """
    return current_events(read_all_events(path))


def read_all_events(path: Path) -> list[Event]:
    """Return every event in the file, superseded ones too. Torn lines are left out, with a warning that counts them.

    Raises:
        MetricsError: there is no such file.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise MetricsError(f"{path} does not exist: give the `save` folder of a run that has started") from None
    events, torn = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        event = parse_line(line)
        if event is None:
            torn.append(number)
        else:
            events.append(event)
    if torn:
        shown = ", ".join(map(str, torn[:5])) + (", ..." if len(torn) > 5 else "")
        logger.warning("%s: left out %d unreadable line(s), as a killed run leaves them: %s", path, len(torn), shown)
    return events


def current_events(events: Iterable[Event]) -> list[Event]:
    """Drop what restarts have superseded.

    A ``start`` event with ``resumed_from = k`` supersedes every earlier event with a step above ``k``; one that
    resumed from nothing supersedes everything before it. What went wrong stays: ``incident`` and
    ``checkpoint_failed`` are kept.
    """
    kept: list[Event] = []
    for event in events:
        if event["event"] == "start":
            resumed_from = event.get("resumed_from")
            last = -1 if resumed_from is None else resumed_from
            kept = [earlier for earlier in kept if earlier["step"] <= last or earlier["event"] in KEPT]
        kept.append(event)
    return kept


def parse_line(line: bytes) -> Event | None:
    """Read one line of a record; None when it is not a whole event."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str) or not isinstance(event.get("step"), int):
        return None
    for *path, key, value in event.pop(_NOT_FINITE, ()):
        holder: Any = event
        for part in path:
            holder = holder[part]
        holder[key] = float(value)
    return event


def _ends_torn(path: Path) -> bool:
    """Tell whether the file exists and its last line has no end."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _not_finite_numbers(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield (path, number) for every NaN and infinity inside nested dicts and lists."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _not_finite_numbers(inner, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _not_finite_numbers(inner, (*path, index))
    elif isinstance(value, Real) and not math.isfinite(value):
        yield path, value
