"""Files whose every block has a checksum, so that a part of a large one can be read and trusted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
import xxhash

from megatron.checkpoint.storage import Storage, TooShortError

BLOCK_BYTES = 4 << 20


class DamagedError(ValueError):
    """A checkpoint's file is missing, cut short, or not what was written."""


@dataclasses.dataclass(frozen=True)
class FileSums:
    """What a file must be.

    Attributes:
        bytes: its size.
        blocks: the XXH3 64-bit hash of every ``BLOCK_BYTES`` of it, hexadecimal; the last block may be shorter.
    """

    bytes: int
    blocks: tuple[str, ...]


class BlockWriter:
    """Writes to a file and takes the checksum of every block that goes by."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest, self._filled = xxhash.xxh3_64(), 0
        self._blocks: list[str] = []

    def write(self, data: bytes | memoryview) -> None:
        """Write bytes after those written before."""
        rest = memoryview(data)
        while rest:
            piece, rest = rest[: BLOCK_BYTES - self._filled], rest[BLOCK_BYTES - self._filled :]
            self._digest.update(piece)
            self._file.write(piece)
            self._filled += len(piece)
            if self._filled == BLOCK_BYTES:
                self._end_block()

    def sums(self) -> FileSums:
        """Return what has been written."""
        size = len(self._blocks) * BLOCK_BYTES + self._filled
        return FileSums(size, (*self._blocks, *([self._digest.hexdigest()] if self._filled else [])))

    def _end_block(self) -> None:
        self._blocks.append(self._digest.hexdigest())
        self._digest, self._filled = xxhash.xxh3_64(), 0


def read_sums(storage: Storage, name: str, size: int, advance: Callable[[int], object]) -> FileSums:
    """Return the checksums of a file that is there already, reading it; ``advance`` is told how many bytes."""
    blocks = []
    for start in range(0, size, BLOCK_BYTES):
        data = np.empty(min(BLOCK_BYTES, size - start), np.uint8)
        storage.read_into(name, start, data.data)
        blocks.append(xxhash.xxh3_64_hexdigest(data.data))
        advance(len(data))
    return FileSums(size, tuple(blocks))


class VerifiedFile:
    """Reads parts of a file, each block of it compared with its checksum.

    Args:
        storage: where the file lies.
        name: its name.
        sums: what it must be.
    """

    def __init__(self, storage: Storage, name: str, sums: FileSums) -> None:
        self._storage, self._name, self._sums = storage, name, sums
        self._last_block, self._last = -1, np.empty(0, np.uint8)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the bytes from ``start`` to ``stop``, uint8.

        Raises:
            DamagedError: a block that holds some of them is missing or not what was written.
            OSError: it cannot be read.
        """
        first, end = start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)
        if first == self._last_block and end == first + 1:
            return self._last[start - first * BLOCK_BYTES : stop - first * BLOCK_BYTES]
        data = self._blocks(first, end)
        self._last_block = end - 1
        # Small tensors follow each other in one block; a copy, so that a large one goes away with its reader.
        self._last = data[(end - 1 - first) * BLOCK_BYTES :].copy()
        return data[start - first * BLOCK_BYTES : stop - first * BLOCK_BYTES]

    def forget(self) -> None:
        """Let go of the block that is kept for the next read."""
        self._last_block, self._last = -1, np.empty(0, np.uint8)

    def verify(self, *, blocks_at_once: int = 16) -> Iterator[int]:
        """Read all of the file, a few blocks at a time, and yield how many bytes each time.

        Raises:
            DamagedError: it is not what was written.
        """
        size = self._storage.size(self._name)
        if size != self._sums.bytes:
            found = "missing" if size is None else f"{size:,} bytes long"
            raise DamagedError(f"{self._storage}/{self._name} is {found}; {self._sums.bytes:,} bytes were written")
        for first in range(0, len(self._sums.blocks), blocks_at_once):
            yield len(self._blocks(first, min(first + blocks_at_once, len(self._sums.blocks))))

    def _blocks(self, first: int, end: int) -> np.ndarray:
        start, stop = first * BLOCK_BYTES, min(end * BLOCK_BYTES, self._sums.bytes)
        data = np.empty(stop - start, np.uint8)
        try:
            self._storage.read_into(self._name, start, data.data)
        except (FileNotFoundError, TooShortError) as error:
            raise DamagedError(f"{self._storage}/{self._name} is damaged: {error}") from error
        for number in range(first, end):
            block = data[(number - first) * BLOCK_BYTES : (number + 1 - first) * BLOCK_BYTES]
            if xxhash.xxh3_64_hexdigest(block.data) != self._sums.blocks[number]:
                raise DamagedError(
                    f"{self._storage}/{self._name} is damaged: its bytes {number * BLOCK_BYTES:,} to "
                    f"{number * BLOCK_BYTES + len(block):,} are not what was written"
                )
        return data
