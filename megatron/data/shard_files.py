"""Reading bytes from the files of shards: few of them open at a time, and never mapped.

A mapped file that becomes shorter kills the process with SIGBUS at the next look at it; ``pread`` just returns less,
and that is an error which can be told.
"""

from __future__ import annotations

import os
import resource
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron.data.index_format import ShardError

Array = npt.NDArray[Any]


_MOST_OPEN = 256


class FileCache:
    """Keeps the most recently read files open, so that thousands of shards need only ``limit`` file handles.

    Args:
        limit: handles that stay open at the same time; by default 256, or a quarter of what the process may open where
            that is less: training and validation have one cache each, and the rest of the process needs files too.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = _default_limit() if limit is None else limit
        self._files: OrderedDict[Path, int] = OrderedDict()
        self._sizes_bytes: dict[Path, int] = {}

    def __reduce__(self) -> tuple[type[FileCache], tuple[int]]:
        return FileCache, (self.limit,)  # handles belong to one process

    def __del__(self) -> None:
        self.close()

    def handle(self, path: Path) -> int:
        """Return a file descriptor of ``path`` opened for reading; it may be closed by the next call.

        Raises:
            OSError: the file cannot be opened.
            ShardError: it has another size than when this cache opened it before, so its reader does not fit it.
        """
        if path in self._files:
            self._files.move_to_end(path)
        else:
            self._files[path] = self._open(path)
            while len(self._files) > self.limit:
                os.close(self._files.popitem(last=False)[1])
        return self._files[path]

    def _open(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDONLY)
        size_bytes = os.fstat(descriptor).st_size
        before = self._sizes_bytes.setdefault(path, size_bytes)
        if size_bytes != before:
            os.close(descriptor)
            raise ShardError(
                f"{path}: has {size_bytes} bytes, had {before} when it was opened before: it was written anew while it "
                "was being read; start again"
            )
        return descriptor

    def close(self) -> None:
        """Close all files; the cache stays usable."""
        while self._files:
            os.close(self._files.popitem()[1])


def _default_limit() -> int:
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST_OPEN if allowed == resource.RLIM_INFINITY else max(1, min(_MOST_OPEN, allowed // 4))


def file_chunks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a whole file, 1 MiB at a time.

    Raises:
        ShardError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                yield chunk
    except OSError as error:
        raise ShardError(f"{path}: cannot be read ({error.strerror}); tokenise the corpus again") from error


class ShardFile:
    """One file of a shard, read at any place; every failure is a :class:`ShardError`.

    Args:
        path: the file.
        files: keeps it open between reads; without it each :meth:`opened` block opens and closes it.
    """

    def __init__(self, path: Path, files: FileCache | None = None) -> None:
        self.path = path
        self._files = files

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Give a descriptor for the reads of one block, within which no other file of the cache may be read.

        Raises:
            ShardError: the file cannot be opened or read.
        """
        try:
            if self._files is not None:
                yield self._files.handle(self.path)
                return
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ShardError(f"{self.path}: cannot be read ({error.strerror})") from error

    def read(self, dtype: npt.DTypeLike, count: int, offset_bytes: int) -> Array:
        """Return ``count`` values from byte ``offset_bytes`` on, a new array of shape ``[count]``.

        Raises:
            ShardError: the file cannot be read, or ends before.
        """
        self.read_into(values := np.empty(count, dtype=dtype), offset_bytes)
        return values

    def read_into(self, values: Array, offset_bytes: int) -> None:
        """Fill a contiguous array with the bytes from ``offset_bytes`` on.

        Raises:
            ShardError: the file cannot be read, or ends before.
        """
        if not self._filled_at_once(values, offset_bytes):
            with self.opened() as descriptor:
                self._fill(descriptor, values, offset_bytes)

    def _filled_at_once(self, values: Array, offset_bytes: int) -> bool:
        """Try the one call that nearly always does it; every failure is left to the slower way, which tells it."""
        if self._files is None:
            return False
        try:
            return os.preadv(self._files.handle(self.path), [values.data], offset_bytes) == values.nbytes
        except OSError:
            return False

    def read_from(self, descriptor: int, dtype: npt.DTypeLike, count: int, offset_bytes: int) -> Array:
        """Do as :meth:`read` with a descriptor from :meth:`opened`."""
        self._fill(descriptor, values := np.empty(count, dtype=dtype), offset_bytes)
        return values

    def _fill(self, descriptor: int, values: Array, offset_bytes: int) -> None:
        view = values.view(np.uint8).data
        done = 0
        while done < len(view):
            # The kernel reads at most 2 GiB per call, and less at the end of the file.
            more = os.preadv(descriptor, [view[done:]], offset_bytes + done)
            if more == 0:
                raise ShardError(f"{self.path}: ends at byte {offset_bytes + done}; it was longer when it was opened")
            done += more
