"""A record read while it is being written: each time only what has been appended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from megatron.monitor.record import Event, MetricsError, parse_line


class MetricsTail:
    """Reads the events of a run as they come, in pieces, so that a long record needs no memory.

    A last line that is not whole yet waits for the rest of it. One that a killed run has torn never gets it: the next
    writer begins a fresh line, and the torn one is left out and counted.

    Args:
        path: the record.
        chunk_bytes: that are read at a time.

    Attributes:
        unreadable_lines: lines that were left out.
    """

    def __init__(self, path: Path, *, chunk_bytes: int = 1 << 20) -> None:
        self.unreadable_lines = 0
        self._path, self._chunk_bytes = path, chunk_bytes
        self._identity: tuple[int, int] | None = None
        self._offset = 0
        self._rest = b""

    def begins_anew(self) -> bool:
        """Tell whether the file has been replaced or shortened since it was read; it is then read from its beginning.

        Raises:
            MetricsError: there is no such file.
        """
        found = self._stat()
        identity = (found.st_dev, found.st_ino)
        replaced = self._identity not in (None, identity) or found.st_size < self._offset
        self._identity = identity
        if replaced:
            self._offset, self._rest, self.unreadable_lines = 0, b"", 0
        return replaced

    def new_events(self) -> Iterator[Event]:
        """Yield the events since the last call, also those that later ones supersede (see :func:`.current_events`).

        To be read to its end: what is not taken does not come again.

        Raises:
            OSError: the file cannot be read.
        """
        with self._path.open("rb") as file:
            file.seek(self._offset)
            while chunk := file.read(self._chunk_bytes):
                self._offset += len(chunk)
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                for line in lines:
                    event = parse_line(line)
                    if event is not None:
                        yield event
                    elif line.strip():
                        self.unreadable_lines += 1
        # A line is an object, so it cannot be taken for whole before its last brace is there.
        event = parse_line(self._rest)
        if event is not None:
            self._rest = b""
            yield event

    def _stat(self) -> os.stat_result:
        try:
            return self._path.stat()
        except FileNotFoundError:
            raise MetricsError(
                f"{self._path} does not exist: give the `save` folder of a run that has started"
            ) from None
