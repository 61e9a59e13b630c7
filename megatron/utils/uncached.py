"""Large files written past the page cache."""

from __future__ import annotations

import errno
import fcntl
import io
import mmap
import os
from pathlib import Path

_ALIGNMENT = 4096
_BUFFER_BYTES = 4 << 20
_O_DIRECT = getattr(os, "O_DIRECT", 0)  # Linux has it


class UncachedFile(io.RawIOBase):
    """A new file whose bytes go to the disk at once (``O_DIRECT``), where the file system can do that.

    A checkpoint that went through the page cache would drive training data out of it, and its bytes would be copied
    once more; how long that takes depends on what else the memory holds.

    Args:
        path: the file, which must not exist.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        # Memory that is mapped begins at a page, as direct writes ask for.
        self._buffer = mmap.mmap(-1, _BUFFER_BYTES)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._descriptor, self._direct = os.open(path, flags | _O_DIRECT, 0o666), bool(_O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            path.unlink(missing_ok=True)  # some have made it all the same
            self._descriptor, self._direct = os.open(path, flags, 0o666), False
        self._filled = self._taken = 0

    def writable(self) -> bool:
        """Return true."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Take bytes; all of them, always."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        self._taken += size
        while rest:
            piece = rest[: _BUFFER_BYTES - self._filled]
            self._buffer[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            rest = rest[len(piece) :]
            if self._filled == _BUFFER_BYTES:
                self._write_out(_BUFFER_BYTES)
                self._filled = 0
        return size

    def tell(self) -> int:
        """Return how many bytes have been taken."""
        return self._taken

    def flush(self) -> None:
        """Hand over what is left, which no direct write can take; what follows goes through the page cache."""
        if self.closed or not self._filled:
            return
        if self._filled % _ALIGNMENT:
            whole = self._filled // _ALIGNMENT * _ALIGNMENT
            self._write_out(whole)
            self._buffer.move(0, whole, self._filled - whole)
            self._filled -= whole
            self._leave_direct()
        self._write_out(self._filled)
        self._filled = 0

    def close(self) -> None:
        """Close the file, whatever has been written of it."""
        if not self.closed:
            try:
                super().close()  # flushes, which a full disk refuses
            finally:
                os.close(self._descriptor)

    def _write_out(self, size: int) -> None:
        with memoryview(self._buffer) as buffer, buffer[:size] as data:
            written = 0
            while written < size:
                try:
                    written += os.write(self._descriptor, data[written:])
                except OSError as error:
                    # Some file systems say only now that they cannot.
                    if error.errno != errno.EINVAL or not self._direct:
                        raise
                    self._leave_direct()
                if written % _ALIGNMENT:
                    self._leave_direct()  # the last bytes, or cut short: what follows begins anywhere

    def _leave_direct(self) -> None:
        if self._direct:
            flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags & ~_O_DIRECT)
            self._direct = False
