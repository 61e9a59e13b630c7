"""Files of JSON lines, which anybody may have written: bounded, compared with their hash, mistakes told by line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson

from megatron.utils.files import fingerprint_bytes

MAX_FILE_BYTES = 1 << 30
_MOST_PROBLEMS = 8

_T = TypeVar("_T")


class FileError(ValueError):
    """A file of JSON lines cannot be used.

    Args:
        problems: all that is wrong with it; of many the first, and how many more there are.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def read_json_lines(
    path: Path,
    convert: Callable[[dict[str, Any]], _T],
    *,
    most_bytes: int = MAX_FILE_BYTES,
    sha256: str | None = None,
) -> tuple[list[_T], str]:
    """Read a file with one JSON object a line; blank lines are passed over.

    Args:
        path: the file.
        convert: makes of an object what is wanted; raises ValueError where it cannot.
        most_bytes: larger files are not read.
        sha256: of the file, where it is known.

    Returns:
        What was made of the objects, and the fingerprint of the file.

    Raises:
        FileError: the file cannot be read, is too large or is another one; or lines are no objects or cannot be
            converted, all of them together.
    """
    data = _read(path, most_bytes)
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise FileError([f"{path} is not the file that its manifest describes"])
    found: list[_T] = []
    wrong: list[str] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
            if not isinstance(record, dict):
                raise ValueError("no object")
            found.append(convert(record))
        except orjson.JSONDecodeError as error:
            wrong.append(f"{path}, line {number}: no JSON ({error})")
        except ValueError as error:
            wrong.append(f"{path}, line {number}: {error}")
    if len(wrong) > _MOST_PROBLEMS:
        wrong[_MOST_PROBLEMS:] = [f"{path}: {len(wrong) - _MOST_PROBLEMS} more problems like these"]
    if wrong:
        raise FileError(wrong)
    return found, fingerprint_bytes(data)


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        if path.stat().st_size > most_bytes:
            raise FileError([f"{path} is larger than {most_bytes >> 20:,} MiB"])
        return path.read_bytes()
    except OSError as error:
        raise FileError([f"{path} cannot be read ({error.strerror})"]) from None
