"""The formats of raw text, and how the name of a file tells which one it is in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from megatron.corpus.reading.moses import moses_side

FileFormat = Literal["jsonl", "parquet", "arrow", "text", "lines", "moses", "tmx"]

_COMPRESSIONS = ("", ".gz", ".zst")


def _compressed(*endings: str) -> tuple[str, ...]:
    return tuple(ending + compression for ending in endings for compression in _COMPRESSIONS)


#: The endings of JSON lines files. C4 and its kin write JSON lines as ``.json.gz``; a plain ``.json`` is most often one
#: value, such as the ``dataset_info.json`` beside Arrow files, so it is read only where the format is given.
JSON_LINES_ENDINGS = (*_compressed(".jsonl", ".ndjson"), ".json.gz", ".json.zst")

#: The endings that tell a format; two files of the Moses format are told by :func:`moses_side`.
ENDINGS: Mapping[FileFormat, tuple[str, ...]] = MappingProxyType(
    {
        "jsonl": JSON_LINES_ENDINGS,
        "parquet": (".parquet",),
        "arrow": (".arrow",),
        "text": _compressed(".txt"),
        "tmx": _compressed(".tmx"),
    }
)
# Further endings, for files whose format is given.
_GIVEN_ENDINGS: Mapping[FileFormat, tuple[str, ...]] = MappingProxyType({"jsonl": (".json",), "lines": ENDINGS["text"]})


def format_of(path: Path, wanted: str) -> FileFormat | None:
    """Return the format that a file of a folder is read in; None when its name says that it is of no use.

    Args:
        path: the file, which is not opened.
        wanted: a format, or ``auto`` to go by the ending.
    """
    for name in get_args(FileFormat):
        if wanted not in ("auto", name):
            continue
        endings = ENDINGS.get(name, ()) + (_GIVEN_ENDINGS.get(name, ()) if wanted == name else ())
        if endings and path.name.endswith(endings):
            found: FileFormat = name
            return found
    if wanted in ("auto", "moses") and moses_side(path, marked=wanted == "auto") is not None:
        return "moses"
    return None


def stem(path: Path) -> str:
    """Return the name of a file without the ending that tells its format and compression."""
    known = (ending for endings in (*ENDINGS.values(), *_GIVEN_ENDINGS.values()) for ending in endings)
    ending = max((ending for ending in known if path.name.endswith(ending)), key=len, default="")
    return path.name.removesuffix(ending) if ending else path.name
