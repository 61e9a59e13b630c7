"""Files of JSON lines, which anybody may have written: bounded, compared with their hash, mistakes told by line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

MAX_FILE_BYTES = 1 << 30


class FileError(ValueError):
    """A file of JSON lines cannot be used; says which file and why."""


def read_file(path: Path, *, most_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Return a file.

    Raises:
        FileError: it cannot be read, or is larger than that.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise FileError(f"{path} cannot be read ({error.strerror})") from None
    if len(data) > most_bytes:
        raise FileError(f"{path} is larger than {most_bytes >> 20:,} MiB")
    return data


def json_objects(
    data: bytes, path: Path, wrong: list[str], *, problems: Callable[[dict[str, Any]], list[str]] = lambda record: []
) -> list[tuple[int, dict[str, Any]]]:
    """Return the objects of a file with the numbers of their lines, blank lines apart.

    Args:
        data: of the file.
        path: named in messages.
        wrong: what is no object, or has problems, is added to it, with its line.
        problems: of one object.
    """
    found: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            wrong.append(f"{path}, line {number}: no JSON ({error})")
            continue
        if not isinstance(record, dict):
            wrong.append(f"{path}, line {number}: no object")
            continue
        wrong += [f"{path}, line {number}: {problem}" for problem in problems(record)]
        found.append((number, record))
    return found


def shortened(wrong: list[str], *, most: int = 8) -> list[str]:
    """Return the first of many messages, and how many more there are."""
    more = [f"and {len(wrong) - most} more problems like these"] if len(wrong) > most else []
    return [*wrong[:most], *more]
