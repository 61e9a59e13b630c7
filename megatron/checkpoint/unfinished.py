"""Folders that get their names when they are whole, and that an interrupted program can go on with.

A folder ``NAME`` is written as ``.NAME.tmp`` beside its place (in an object store, which cannot rename, under its own
name). ``.NAME.unfinished`` beside it says what is being written: only the same is gone on with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import xxhash

from megatron.checkpoint.seal import is_sealed
from megatron.checkpoint.storage import LocalStorage, Storage
from megatron.utils.files import exclusive
from megatron.utils.log import get_logger

_logger = get_logger(__name__)


class WrongResultError(ValueError):
    """What was written is not what it should be; nothing of it is kept."""


@contextmanager
def unfinished(parent: Storage, name: str, what: str, *, resumable: bool = True) -> Iterator[tuple[Storage, bool]]:
    """Give a folder to write to, for this process alone, and whether an earlier try of the same lies there.

    What another try has begun there is deleted. After :class:`WrongResultError` nothing is left; after other errors
    what was written stays, to be gone on with.

    Args:
        parent: where the folder will be.
        name: its name.
        what: says what is written, from which source, and how it is read.
        resumable: whether it can be gone on with; otherwise all is deleted.

    Raises:
        ValueError: there is something of that name, or something else where will be written, or another process writes.
    """
    temporary = parent / parent.temporary_name(name)
    if isinstance(parent, LocalStorage):
        parent.path.mkdir(parents=True, exist_ok=True)
        lock = parent.path / f".{name}.lock"
    else:
        lock = None
    with nullcontext() if lock is None else exclusive(lock):
        try:
            yield temporary, _prepared(parent, name, what, resumable=resumable)
        except WrongResultError:
            _empty(temporary)
            parent.remove(temporary.name)
            parent.remove(_mark(name))
            raise
        except BaseException:
            if resumable and parent.size(_mark(name)) is not None and temporary.names():
                _logger.warning("what has been written is in %s; the same command goes on there", temporary)
            raise
        finally:
            if lock is not None:
                lock.unlink(missing_ok=True)


def publish(parent: Storage, name: str) -> None:
    """Give what has been written its name, durably.

    Raises:
        FileExistsError: there is something of that name by now.
    """
    temporary = parent.temporary_name(name)
    if temporary != name and (parent / name).names():
        raise FileExistsError(f"{parent / name} exists by now; what was to be it is {parent / temporary}")
    parent.publish(temporary, name)
    parent.remove(_mark(name))


def _mark(name: str) -> str:
    return f".{name}.unfinished"


def _prepared(parent: Storage, name: str, what: str, *, resumable: bool) -> bool:
    """Mark what is written, and return whether the same has been begun already and can be gone on with."""
    temporary, mark = parent / parent.temporary_name(name), _mark(name)
    begun = parent.size(mark) is not None
    is_link = isinstance(temporary, LocalStorage) and temporary.path.is_symlink()
    if (parent / name).names() and not (begun and temporary.name == name and not is_sealed(temporary)):
        raise ValueError(f"{parent / name} exists; give another name, or delete it")
    names = temporary.names()
    if is_link or (names and not begun):
        raise ValueError(f"{temporary} holds something that no conversion has begun: move it away")
    digest = xxhash.xxh3_128_hexdigest(what.encode("utf-8", "surrogateescape")).encode()
    if begun and resumable and parent.read(mark) == digest:
        return bool(names)
    _empty(temporary)  # before the mark is another: never files of one under the mark of the other
    parent.put_bytes(mark, digest)
    return False


def _empty(folder: Storage) -> None:
    for name in folder.names():
        folder.remove(name)
