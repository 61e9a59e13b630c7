"""The lines of a file, with memory bounded by the longest that is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from megatron.corpus.reading.compressed import OnRead, chunks

#: What some editors write before UTF-8 text.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def lines(path: Path, max_bytes: int, on_read: OnRead = lambda size: None) -> Iterator[bytes | None]:
    """Yield the lines of a file without their line feed, and without a byte order mark before the first.

    Args:
        path: a file, plain or compressed (see :func:`megatron.corpus.reading.compressed.chunks`).
        max_bytes: of a line that is longer nothing is kept: it comes as None.
        on_read: told of progress in bytes on disk.

    Raises:
        CutShortError: a compressed file ends in the middle. The line that it ends in is not handed out.
        CorpusError: the file cannot be read, or its compressed data is broken.
    """
    found = _lines(path, max_bytes, on_read)
    for first in found:
        yield first.removeprefix(BYTE_ORDER_MARK) if first else first
        break
    yield from found


def _lines(path: Path, max_bytes: int, on_read: OnRead) -> Iterator[bytes | None]:
    kept: list[bytes] = []  # of the line that goes on in the next chunk: put together once, not once per chunk
    size_bytes = 0  # of that line; nothing is kept once it is too long
    for chunk in chunks(path, on_read):
        *ended, rest = chunk.split(b"\n")
        if ended:
            size_bytes += len(ended[0])
            yield b"".join((*kept, ended[0])) if size_bytes <= max_bytes else None
            if len(chunk) <= max_bytes:
                yield from ended[1:]
            else:
                yield from (line if len(line) <= max_bytes else None for line in ended[1:])
            kept, size_bytes = [], 0
        size_bytes += len(rest)
        if size_bytes <= max_bytes:
            kept.append(rest)
        else:
            kept.clear()
    if size_bytes:
        yield b"".join(kept) if size_bytes <= max_bytes else None
