"""Files that are either wholly there or not there at all, and their fingerprints."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import xxhash

from megatron.utils.log import get_logger
from megatron.utils.uncached import UncachedFile

_CHUNK_BYTES = 1 << 20


@contextmanager
def atomic_write(path: Path, *, cached: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its final name only once it is complete and on disk.

    The bytes go to a temporary name beside ``path``, are fsynced and renamed. After an error nothing is left behind.

    Args:
        path: the file.
        cached: whether the bytes go through the page cache; large ones that nobody reads soon should not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The number of a process is its own on one machine only, and threads share it.
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}-{secrets.token_hex(4)}")
    try:
        opened = temporary.open("wb") if cached else cast("BinaryIO", UncachedFile(temporary))
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Delete what killed processes have left in a folder: the unfinished files of :func:`atomic_write`.

    Those of processes that run on this machine stay. Other machines are not asked: only for folders that one machine at
    a time writes to.
    """
    for path in folder.glob(".*.tmp*"):
        process = path.name.rpartition(".tmp")[2].partition("-")[0]
        if process.isdecimal() and not _is_running(int(process)):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically (see :func:`atomic_write`)."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` atomically (see :func:`atomic_write`)."""
    with atomic_write(path) as file:
        file.write(data)


class InUseError(ValueError):
    """Somebody else works in the same folder; later that may be over."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock that no other process, on this or another machine, holds at the same time.

    The operating system takes it back when the process ends, however it ends.

    Args:
        path: the lock's file; made when missing, and left there.

    Raises:
        InUseError: somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InUseError(
                f"another run is writing to {path.parent} ({file.read().strip() or 'unknown process'}); "
                "wait for it, end it, or give this run a folder of its own"
            ) from None
        except OSError:
            # Some network file systems have no locks; a run must work there too.
            get_logger(__name__).warning("%s cannot be locked: make sure that only one run writes there", path.parent)
        if not path.exists() or path.stat().st_ino != os.fstat(file.fileno()).st_ino:
            raise InUseError(f"another run has just ended in {path.parent}: try again")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def fsync_file(path: Path) -> None:
    """Wait until a file's bytes (of a folder: its names) are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` durable."""
    fsync_file(folder)


def fingerprint_bytes(data: bytes) -> str:
    """Return the XXH3 128-bit hash of ``data`` as 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(data)


def fingerprint_file(path: Path) -> str:
    """Return the XXH3 128-bit hash of a file, read in pieces of 1 MiB."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
