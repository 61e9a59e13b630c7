"""What several passes need of files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron.corpus.document import CorpusError
from megatron.corpus.engine.task import Outputs, Report, fingerprint_of
from megatron.utils.files import fingerprint_file


def folder_fingerprint(path: str | Path | None) -> str:
    """Return the hash of the names and contents of a file, or of the files right inside a folder; empty for None.

    Raises:
        CorpusError: there is nothing of this name.
    """
    if path is None:
        return ""
    path = Path(path)
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    try:
        return fingerprint_of([(file.name, fingerprint_file(file)) for file in files])
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror}); check the setting that names it") from error


@dataclass(frozen=True)
class HashWork:
    """Takes the hashes of the bytes of files."""

    paths: tuple[Path, ...]

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`."""
        return {"hashes": [_hash(path, report) for path in self.paths]}


def _hash(path: Path, report: Report) -> str:
    try:
        digest = fingerprint_file(path)
        report(0, path.stat().st_size)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return digest
