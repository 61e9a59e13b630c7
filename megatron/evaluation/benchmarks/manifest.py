"""The manifest of prepared data: which files there are, from where, and what was left out on the way."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from megatron.utils.files import write_bytes

MANIFEST = "manifest.json"
VERSION = 1
_CHUNK_BYTES = 1 << 20
_MAX_BYTES = 64 << 20


class BenchmarkDataError(ValueError):
    """The data of a benchmark cannot be used: says which file, which rule, and what to change."""


@dataclasses.dataclass(frozen=True)
class DataFile:
    """One split of one language.

    Attributes:
        sha256: of the file.
        items: lines that it has.
    """

    sha256: str
    items: int


@dataclasses.dataclass(frozen=True)
class LanguageData:
    """The data of one language.

    Attributes:
        files: by split.
        upstream: its code there.
        mapped: how they became the corpus code (see :class:`megatron.evaluation.benchmarks.prepare.codes.Mapped`).
        sources: upstream files that it is from, by their path below the upstream folder, with their sha256.
        dropped: rows left out, by reason; of files with many languages the manifest counts them.
        examples: a few of them, with their places.
    """

    files: Mapping[str, DataFile]
    upstream: str
    mapped: str
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    examples: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class DataManifest:
    """All that is known of a folder of prepared data.

    Attributes:
        format: upstream format.
        settings: hash of what else decides the records: labels, codes, the version of this program's formats.
        is_complete: whether all has been prepared; an interrupted call has not.
        languages: by corpus code.
        sources: every upstream file that was read, with its sha256.
        dropped: rows left out of all files, by reason.
        examples: a few of them, with their places.
        unmapped: upstream codes without a corpus code or with one that is taken: why, and how many rows they had.
        unused_files: files of the upstream folder that were not read.
        details: what else a benchmark wants to keep.
    """

    format: str
    settings: str
    is_complete: bool
    languages: Mapping[str, LanguageData]
    sources: Mapping[str, str]
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    examples: tuple[str, ...] = ()
    unmapped: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    unused_files: tuple[str, ...] = ()
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def items(self) -> int:
        """Records of all languages and splits."""
        return sum(file.items for language in self.languages.values() for file in language.files.values())

    def save(self, folder: Path) -> None:
        """Write ``manifest.json``, atomically."""
        record = {"version": VERSION, **dataclasses.asdict(self)}
        write_bytes(folder / MANIFEST, orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")


def load_manifest(folder: Path) -> DataManifest:
    """Read the manifest of a folder of prepared data.

    Raises:
        BenchmarkDataError: there is none, or it is broken.
    """
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES >> 20} MiB")
        record = orjson.loads(data)
        if record["version"] != VERSION:
            raise ValueError(f"it has version {record['version']!r}, not {VERSION}")
        languages = {code: _language(code, entry) for code, entry in record["languages"].items()}
        fields = {field.name: record[field.name] for field in dataclasses.fields(DataManifest)}
        fields |= {"examples": tuple(record["examples"]), "unused_files": tuple(record["unused_files"])}
        return DataManifest(**{**fields, "languages": languages})
    except FileNotFoundError:
        raise BenchmarkDataError(
            f"{folder} holds no prepared data ({MANIFEST} is missing); make it with tools/prepare_benchmark.py"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchmarkDataError(f"{path} cannot be read ({error}); prepare the benchmark again") from None


def _language(code: str, entry: Mapping[str, Any]) -> LanguageData:
    files = {
        split: DataFile(str(file["sha256"]), int(file["items"]))
        for split, file in entry["files"].items()
        if split in ("train", "dev", "test")
    }
    # Codes become folder names.
    if not code.replace("_", "").isalnum() or not code.isascii():
        raise ValueError(f"{code!r} is no corpus code")
    return LanguageData(**{**entry, "files": files, "examples": tuple(entry["examples"])})


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
