"""``COMPLETE``, the file that is written last: what makes a folder a checkpoint, with checksums of its small files."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import xxhash

from megatron.checkpoint.blocks import DamagedError, VerifiedFile
from megatron.checkpoint.index import Index
from megatron.checkpoint.storage import Storage
from megatron.utils.log import progress_bar

MARKER = "COMPLETE"
INDEX = "index.json"


def seal(files: Mapping[str, bytes]) -> bytes:
    """Return the marker for a checkpoint with these small files, its index among them."""
    sums = {name: xxhash.xxh3_64_hexdigest(data) for name, data in files.items()}
    return orjson.dumps({"files": sums, "seal": _seal_of(sums)}, option=orjson.OPT_INDENT_2)


def why_incomplete(checkpoint: Storage) -> str | None:
    """Return why a folder is no whole checkpoint, or None where it is one.

    Small files are read and compared. Large ones are compared when they are read; here only their size is asked.
    """
    try:
        index = read_index(checkpoint)
    except DamagedError as error:
        return str(error)
    for name, sums in index.files.items():
        size = checkpoint.size(name)
        if size != sums.bytes:
            return f"{name} is {'missing' if size is None else f'{size:,} bytes long, not {sums.bytes:,}'}"
    return None


def verify(checkpoint: Storage, *, show_progress: bool = False) -> Index:
    """Read every byte of a checkpoint, and return its index.

    Raises:
        DamagedError: one of its files is missing or not what was written.
    """
    index = read_index(checkpoint)
    size = sum(sums.bytes for sums in index.files.values())
    with progress_bar(size, description="verifying", disable=not show_progress) as advance:
        for name, sums in index.files.items():
            for read in VerifiedFile(checkpoint, name, sums).verify():
                advance(read)
    return index


def is_sealed(checkpoint: Storage) -> bool:
    """Return whether a folder has the marker at all."""
    return checkpoint.size(MARKER) is not None


def read_index(checkpoint: Storage) -> Index:
    """Return the index of a checkpoint, all of whose small files have been compared with their checksums.

    Raises:
        DamagedError: one of them is missing or not what was written.
    """
    for name, sum_ in _sums(checkpoint).items():
        data = _read(checkpoint, name)
        if xxhash.xxh3_64_hexdigest(data) != sum_:
            raise DamagedError(f"{name} is damaged: it is not what was written")
        if name == INDEX:
            index = Index.from_json(data)
    return index


def _sums(checkpoint: Storage) -> dict[str, str]:
    if not is_sealed(checkpoint):
        raise DamagedError(f"it has no {MARKER} file, which is written last")
    try:
        marker = orjson.loads(_read(checkpoint, MARKER))
        sums: dict[str, str] = marker["files"]
        whole = marker["seal"] == _seal_of(sums) and INDEX in sums
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise DamagedError(f"{MARKER} is damaged: it is not what was written")
    return sums


def _seal_of(sums: Mapping[str, str]) -> str:
    return xxhash.xxh3_64_hexdigest(orjson.dumps(sums, option=orjson.OPT_SORT_KEYS))


def _read(checkpoint: Storage, name: str) -> bytes:
    try:
        return checkpoint.read(name)
    except OSError as error:
        raise DamagedError(f"{name} cannot be read: {error}") from error
