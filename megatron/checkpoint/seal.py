"""``COMPLETE``, the file that is written last: what makes a folder a checkpoint, with checksums of its small files."""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson
import xxhash

from megatron.checkpoint.blocks import DamagedError, VerifiedFile
from megatron.checkpoint.index import Index
from megatron.checkpoint.storage import Storage, TooShortError
from megatron.utils.log import progress_bar

MARKER, INDEX, STATE = "COMPLETE", "index.json", "state.json"
_MAX_SMALL_BYTES = 1 << 30
_OURS = re.compile(
    r"(model|optimizer)-\d{5,}-of-\d{5,}\.safetensors|tokenizer|hf|config\.yml|mixture\.json|\..*\.tmp\d+-[0-9a-f]+|"
    + "|".join(map(re.escape, (MARKER, INDEX, STATE)))
)


def seal(files: Mapping[str, bytes]) -> bytes:
    """Return the marker for a checkpoint with these small files, its index and ``state.json`` among them."""
    sums = {name: xxhash.xxh3_64_hexdigest(data) for name, data in files.items()}
    return orjson.dumps({"files": sums, "seal": _seal_of(sums)}, option=orjson.OPT_INDENT_2)


def is_sealed(checkpoint: Storage) -> bool:
    """Return whether a folder has the marker at all."""
    return checkpoint.size(MARKER) is not None


def holds_only_ours(folder: Storage) -> bool:
    """Return whether a folder is empty or holds nothing but what a checkpoint, whole or not, consists of."""
    return all(_OURS.fullmatch(name) for name in folder.names())


def why_incomplete(checkpoint: Storage) -> str | None:
    """Return why a folder is no whole checkpoint, or None where it is one.

    Small files are read and compared. Large ones are compared when they are read; here only their size is asked.

    Raises:
        OSError: it cannot be read.
    """
    try:
        index = read_index(checkpoint)
    except DamagedError as error:
        return str(error)
    sizes = checkpoint.sizes()
    for name, sums in index.files.items():
        size = sizes.get(name)
        if size != sums.bytes:
            return f"{name} is {'missing' if size is None else f'{size:,} bytes long, not {sums.bytes:,}'}"
    return None


def read_index(checkpoint: Storage) -> Index:
    """Return the index of a checkpoint, all of whose small files have been compared with their checksums.

    Raises:
        DamagedError: one of them is missing or not what was written.
        OSError: one of them cannot be read.
    """
    for name, sum_ in small_sums(checkpoint).items():
        data = _read(checkpoint, name)
        if xxhash.xxh3_64_hexdigest(data) != sum_:
            raise DamagedError(f"{name} is damaged: it is not what was written")
        if name == INDEX:
            index = Index.from_json(data)
    return index


def small_sums(checkpoint: Storage) -> dict[str, str]:
    """Return the small files that a checkpoint consists of, with their checksums.

    Raises:
        DamagedError: it has no marker, or a damaged one.
        OSError: it cannot be read.
    """
    if not is_sealed(checkpoint):
        raise DamagedError(f"it has no {MARKER} file, which is written last")
    try:
        marker = orjson.loads(_read(checkpoint, MARKER))
        sums: dict[str, str] = marker["files"]
        whole = {INDEX, STATE} <= sums.keys() and marker["seal"] == _seal_of(sums) and all(map(_is_inside, sums))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise DamagedError(f"{MARKER} is damaged: it is not what was written")
    return sums


def verify(checkpoint: Storage, *, show_progress: bool = False) -> Index:
    """Read every byte of a checkpoint, and return its index.

    Raises:
        DamagedError: files of it are missing or not what was written; the first of each is named.
        OSError: one of them cannot be read.
    """
    index = read_index(checkpoint)
    size = sum(sums.bytes for sums in index.files.values())
    problems = []
    with progress_bar(size, description="verifying", disable=not show_progress) as advance:
        for name, sums in index.files.items():
            try:
                for read in VerifiedFile(checkpoint, name, sums).verify():
                    advance(read)
            except DamagedError as error:
                problems.append(str(error))
    if problems:
        raise DamagedError("; ".join(problems))
    return index


def _is_inside(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.split("/")


def _seal_of(sums: Mapping[str, str]) -> str:
    return xxhash.xxh3_64_hexdigest(orjson.dumps(sums, option=orjson.OPT_SORT_KEYS))


def _read(checkpoint: Storage, name: str) -> bytes:
    size = checkpoint.size(name)
    if size is None:
        raise DamagedError(f"{name} is damaged: it is missing")
    if size > _MAX_SMALL_BYTES:
        raise DamagedError(f"{name} is damaged: nobody writes {size:,} bytes of it")
    try:
        return checkpoint.read(name)
    except (FileNotFoundError, TooShortError) as error:
        raise DamagedError(f"{name} is damaged: {error}") from error
