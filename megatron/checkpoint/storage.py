"""Where checkpoints lie: a folder of this machine's file system, or of an object store that fsspec knows.

The two differ in what they promise. A file system renames a whole folder at once, and has to be told to write to disk.
An object store has neither: an object is there once its upload has ended, and folders are but a way to name objects.
What :mod:`megatron.checkpoint.store` needs on top (a marker, written last) is the same for both.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from megatron.utils.files import atomic_write, fsync_folder
from megatron.utils.log import get_logger

logger = get_logger(__name__)

_T = TypeVar("_T")

_REQUEST_BYTES = 64 << 20
"""The most that is asked for, and after a failure asked for again, at a time."""


class TooShortError(OSError):
    """A file ends before what should be read of it."""


class Storage(ABC):
    """A folder for files, wherever it lies. Names are relative to it and may hold slashes."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @abstractmethod
    def __truediv__(self, name: str) -> Storage:
        """Return the folder ``name`` within this one; it need not exist."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of its place."""

    @abstractmethod
    def put(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        """Make a file of what ``write`` writes, durable when this returns. ``write`` may be called more than once.

        Raises:
            OSError: it cannot be written; then the file is absent or incomplete.
        """

    @abstractmethod
    def read_into(self, name: str, start: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes of a file from ``start`` on.

        Raises:
            OSError: the file is missing, too short, or cannot be read.
        """

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Return a file's bytes, or None when there is no such file."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Return the bytes of the files that lie directly in this folder, by name, from one look at it."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of files and folders that lie directly in this one; none when it does not exist."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete a file, or a folder with all that it holds, if it is there."""

    @abstractmethod
    def publish(self, temporary: str, final: str) -> None:
        """Give the folder ``temporary`` its final name, durably. The two names may be the same."""

    @abstractmethod
    def temporary_name(self, final: str) -> str:
        """Return the name under which the folder ``final`` is written."""

    def read(self, name: str) -> bytes:
        """Return all bytes of a small file.

        Raises:
            OSError: it is missing or cannot be read.
        """
        size = self.size(name)
        if size is None:
            raise FileNotFoundError(f"{self}/{name} is missing")
        data = bytearray(size)
        self.read_into(name, 0, memoryview(data))
        return bytes(data)

    def put_bytes(self, name: str, data: bytes) -> None:
        """Make a small file, durable when this returns."""
        self.put(name, lambda file: _write_all(file, data))


def _write_all(file: BinaryIO, data: bytes) -> None:
    file.write(data)


class LocalStorage(Storage):
    """A folder of the file system."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> LocalStorage:
        return LocalStorage(self.path / name)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    def put(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        """Write beside the file's place, wait for the disk, and rename."""
        with atomic_write(self.path / name, cached=False) as file:
            write(file)

    def read_into(self, name: str, start: int, buffer: memoryview) -> None:
        """Read without a buffer of its own."""
        with (self.path / name).open("rb", buffering=0) as file:
            file.seek(start)
            done = 0
            while done < len(buffer):
                count = file.readinto(buffer[done:])
                if not count:
                    raise _too_short(self, name, start + len(buffer))
                done += count

    def size(self, name: str) -> int | None:
        """Ask the file system."""
        try:
            return (self.path / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def sizes(self) -> dict[str, int]:
        """List the folder."""
        try:
            with os.scandir(self.path) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def names(self) -> list[str]:
        """List the folder."""
        try:
            return sorted(path.name for path in self.path.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def remove(self, name: str) -> None:
        """Delete a file, a link, or a tree."""
        path = self.path / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def publish(self, temporary: str, final: str) -> None:
        """Rename the folder, and wait for the disk."""
        fsync_folder(self.path / temporary)
        (self.path / temporary).rename(self.path / final)
        fsync_folder(self.path)

    def temporary_name(self, final: str) -> str:
        """Return a hidden name beside the final one."""
        return f".{final}.tmp"


class ObjectStorage(Storage):
    """A folder of an object store, through fsspec. What fails is tried again, each time after a longer pause.

    Args:
        url: such as ``s3://bucket/run``.
        attempts: how often an operation is tried.
        pause_seconds: before the second attempt; doubled before each further one.

    Raises:
        ValueError: fsspec, or its part for this kind of store, is not installed.
    """

    def __init__(self, url: str, *, attempts: int = 6, pause_seconds: float = 0.5) -> None:
        self.url = url.rstrip("/")
        self._attempts, self._pause_seconds = attempts, pause_seconds
        self._files, self._path = _file_system(self.url)

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> ObjectStorage:
        return ObjectStorage(f"{self.url}/{name}", attempts=self._attempts, pause_seconds=self._pause_seconds)

    @property
    def name(self) -> str:
        """What follows the last slash."""
        return self.url.rpartition("/")[2]

    def put(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        """Upload in parts; an upload that is not ended leaves no object."""
        def upload() -> None:
            file = self._files.open(f"{self._path}/{name}", "wb")
            try:
                write(file)
                file.close()
            except BaseException:
                with contextlib.suppress(Exception):
                    file.discard()
                file.closed = True  # closing it, as its end would, uploads what there is so far
                raise

        self._again(f"writing {self}/{name}", upload)

    def read_into(self, name: str, start: int, buffer: memoryview) -> None:
        """Ask for a range of the object's bytes."""
        def download(first: int, part: memoryview) -> None:
            data = self._files.cat_file(f"{self._path}/{name}", start=start + first, end=start + first + len(part))
            if len(data) != len(part):
                raise _too_short(self, name, start + first + len(part))
            part[:] = data

        for first in range(0, len(buffer), _REQUEST_BYTES):
            part = buffer[first : first + _REQUEST_BYTES]
            self._again(f"reading {self}/{name}", functools.partial(download, first, part))

    def size(self, name: str) -> int | None:
        """Ask for what the store knows of the object."""
        def ask() -> int | None:
            try:
                return int(self._files.info(f"{self._path}/{name}")["size"])
            except FileNotFoundError:
                return None

        return self._again(f"asking for {self}/{name}", ask)

    def names(self) -> list[str]:
        """List by prefix."""
        return sorted(self._listed())

    def sizes(self) -> dict[str, int]:
        """List by prefix."""
        return {name: int(entry["size"]) for name, entry in self._listed().items() if entry["type"] == "file"}

    def _listed(self) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            # What another process has written must be seen: nothing is taken from fsspec's memory of listings.
            self._files.invalidate_cache(self._path)
            try:
                found = self._files.ls(self._path, detail=True)
            except FileNotFoundError:
                return {}
            entries = {entry["name"].rstrip("/"): entry for entry in found}
            return {path.rpartition("/")[2]: entry for path, entry in entries.items() if path != self._path}

        return self._again(f"listing {self}", ask)

    def remove(self, name: str) -> None:
        """Delete an object, or all whose names begin with this one and a slash."""
        def delete() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm(f"{self._path}/{name}", recursive=True)

        self._again(f"deleting {self}/{name}", delete)

    def publish(self, temporary: str, final: str) -> None:
        """Do nothing: the folder has had its name all along."""
        assert temporary == final

    def temporary_name(self, final: str) -> str:
        """Return the final name: objects cannot be renamed. Until its marker is there, a checkpoint does not count."""
        return final

    def _again(self, what: str, operation: Callable[[], _T]) -> _T:
        pause = self._pause_seconds
        for attempt in range(1, self._attempts):
            try:
                return operation()
            except (PermissionError, FileNotFoundError, TooShortError):
                raise  # another attempt would end no better
            except Exception as error:  # each library behind fsspec has its own kinds
                logger.warning("%s failed (attempt %d of %d): %s", what, attempt, self._attempts, error)
            time.sleep(pause)
            pause *= 2
        try:
            return operation()
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{what} failed {self._attempts} times: {error}") from error


@contextmanager
def fetched(storage: Storage, names: Sequence[str]) -> Iterator[Path]:
    """Give the path of a folder with these small files of a storage: its own, or a copy for the time being.

    Raises:
        OSError: one of them is missing or cannot be read.
    """
    if isinstance(storage, LocalStorage):
        yield storage.path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = LocalStorage(Path(folder))
        for name in names:
            copy.put_bytes(name, storage.read(name))
        yield copy.path


def open_storage(place: str | Path | Storage) -> Storage:
    """Return the folder that a path or a URL (``s3://bucket/run``) means; it need not exist.

    Raises:
        ValueError: the package that reads such a URL is not installed.
    """
    if isinstance(place, Storage):
        return place
    text = str(place).removeprefix("file://")
    return ObjectStorage(text) if "://" in text else LocalStorage(Path(os.path.abspath(text)))  # noqa: PTH100 - keeps links


def parent_and_name(place: str) -> tuple[Storage, str]:
    """Return the folder that a path or a URL lies in, and its last part.

    Raises:
        ValueError: it has no last part.
    """
    if "://" in place:
        parent, _, name = place.rstrip("/").rpartition("/")
        if parent.endswith("/") or not name:
            raise ValueError(f"{place} names a bucket, but no folder in it")
        return open_storage(parent), name
    path = Path(place).absolute()
    return LocalStorage(path.parent), path.name


def _file_system(url: str) -> tuple[Any, str]:
    protocol = url.partition("://")[0]
    packages = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
    try:
        import fsspec

        files, path = fsspec.core.url_to_fs(url)
    except ImportError:
        needed = f"fsspec {packages[protocol]}" if protocol in packages else "fsspec"
        raise ValueError(f"{url} needs a package that is not installed: pip install {needed}") from None
    except ValueError as error:
        raise ValueError(f"{url} is no place that can be read: {error}") from None
    return files, cast("str", path).rstrip("/")


def _too_short(storage: Storage, name: str, wanted: int) -> TooShortError:
    return TooShortError(f"{storage}/{name} is too short: it ends before byte {wanted:,}")
