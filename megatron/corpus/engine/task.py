"""One task of a pass: what it does, what it writes, and the record that says that it is finished.

A task is a pure function of its fingerprint. It writes into a scratch folder of its own; its files are moved to their
places and its record is written only when all of them are whole and on disk. So a process may be killed at any moment:
a task without a record was never done, and its scratch folder is emptied when it is done again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import xxhash

from megatron.utils.files import fingerprint_bytes, fsync_file, fsync_folder, write_text

_RECORDS, _SCRATCH = ".tasks", ".scratch"

#: Is told of documents and of bytes of the task's size that are done.
Report = Callable[[int, float], None]


class Work(Protocol):
    """What a task does: an object that can be sent to another process."""

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """Do it.

        Args:
            outputs: takes what is written.
            report: is told of progress.

        Returns:
            What the task has found out, as plain values for JSON.
        """


@dataclass(frozen=True)
class Task:
    """A unit of work.

    Attributes:
        name: unique in its pass; a relative path, so that records and files lie where one looks for them.
        fingerprint: hash of all that decides the result: inputs, settings and the version of the code.
        size_bytes: bytes of the input, to balance and to show progress.
        work: see :class:`Work`.
    """

    name: str
    fingerprint: str
    size_bytes: int
    work: Work


@dataclass(frozen=True)
class TaskRecord:
    """What a finished task leaves behind.

    Attributes:
        fingerprint: that of the task.
        files: path of each file, relative to the folder of the pass, to its size in bytes and its hash.
        result: what the work returned.
    """

    fingerprint: str
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)


def fingerprint_of(*parts: Any) -> str:
    """Return the hash of plain values."""
    return fingerprint_bytes(json.dumps(parts, sort_keys=True).encode())


class Outputs:
    """The files of a task, in its scratch folder until they are whole.

    Args:
        folder: the folder of the pass.
        task: the task's name.
    """

    def __init__(self, folder: Path, task: str) -> None:
        self.folder = folder
        self._scratch = folder / _SCRATCH / task.replace("/", "--")
        self._digests: dict[str, xxhash.xxh3_128] = {}
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)

    def path(self, name: str) -> Path:
        """Return where to write a file that will become ``<folder>/<name>``; its folder is there."""
        path = self._scratch / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def append(self, name: str, data: bytes) -> None:
        """Add to a file that will become ``<folder>/<name>``. It is not kept open: a task may have thousands."""
        digest = self._digests.get(name)
        if digest is None:
            digest = self._digests[name] = xxhash.xxh3_128()
        digest.update(data)
        with self.path(name).open("ab") as file:
            file.write(data)

    def names(self) -> list[str]:
        """Return the files written so far."""
        found = (path.relative_to(self._scratch).as_posix() for path in self._scratch.rglob("*") if path.is_file())
        return sorted(found)

    def commit(self) -> dict[str, tuple[int, str]]:
        """Move all files to their places, flushed to disk; return size and hash of each."""
        files = {}
        folders = set()
        for path in sorted(self._scratch.rglob("*")):
            if path.is_dir():
                continue
            name = path.relative_to(self._scratch).as_posix()
            fsync_file(path)
            digest = self._digests.get(name)
            files[name] = (path.stat().st_size, digest.hexdigest() if digest is not None else "")
            final = self.folder / name
            final.parent.mkdir(parents=True, exist_ok=True)
            path.replace(final)
            folders.add(final.parent)
        for folder in folders:
            fsync_folder(folder)
        return files

    def discard(self) -> None:
        """Remove the scratch folder with what is in it."""
        shutil.rmtree(self._scratch, ignore_errors=True)


def run_task(folder: Path, task: Task, report: Report) -> TaskRecord:
    """Do a task and write its record.

    What an earlier version of the task has left is removed first.

    Args:
        folder: the folder of the pass.
        task: the task.
        report: is told of progress.
    """
    _remove(folder, task.name)
    outputs = Outputs(folder, task.name)
    try:
        result = task.work(outputs, report)
        # What is about to be moved is named first: if this process is killed in between, the next one removes it.
        _write_record(folder, task.name, TaskRecord("", dict.fromkeys(outputs.names(), (0, ""))))
        record = TaskRecord(task.fingerprint, outputs.commit(), dict(result))
        _write_record(folder, task.name, record)
    finally:
        outputs.discard()
    return record


def finished(folder: Path, task: Task) -> TaskRecord | None:
    """Return the record of a task if it was done, from the same and with the same, and its files are there."""
    record = _read_record(_record_path(folder, task.name))
    if record is None or record.fingerprint != task.fingerprint:
        return None
    for name, (size_bytes, _) in record.files.items():
        try:
            if (folder / name).stat().st_size != size_bytes:
                return None
        except OSError:
            return None
    return record


def remove_others(folder: Path, tasks: Mapping[str, Task]) -> int:
    """Remove what tasks have left that are no longer there, since inputs or settings have changed.

    Only files that a record names are removed, and none that a task of now has made too.

    Returns:
        How many tasks were removed.
    """
    gone = [name for name in _recorded(folder) if name not in tasks]
    if not gone:
        return 0
    kept: set[str] = set()
    for name in tasks:
        record = _read_record(_record_path(folder, name))
        kept |= set(record.files) if record is not None else set()
    for name in gone:
        _remove(folder, name, kept)
    return len(gone)


def _recorded(folder: Path) -> Iterator[str]:
    records = folder / _RECORDS
    for path in sorted(records.rglob("*.json")):
        yield path.relative_to(records).as_posix().removesuffix(".json")


def _remove(folder: Path, name: str, kept: Collection[str] = ()) -> None:
    """Remove a task's record, then its files: a record never stands beside files that are gone."""
    path = _record_path(folder, name)
    record = _read_record(path)
    path.unlink(missing_ok=True)
    for file in record.files if record is not None else ():
        if file not in kept:
            (folder / file).unlink(missing_ok=True)


def _write_record(folder: Path, name: str, record: TaskRecord) -> None:
    write_text(_record_path(folder, name), json.dumps(asdict(record), ensure_ascii=False))


def _record_path(folder: Path, name: str) -> Path:
    return folder / _RECORDS / f"{name}.json"


def _read_record(path: Path) -> TaskRecord | None:
    try:
        content = json.loads(path.read_bytes())
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in content["files"].items()}
        if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
            return None  # nothing outside of the folder is ever removed for the word of a record
        return TaskRecord(content["fingerprint"], files, content["result"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # not there, or damaged: the task is done again
