"""What several passes need of files."""

from __future__ import annotations

from pathlib import Path

from megatron.corpus.document import CorpusError
from megatron.corpus.engine.task import fingerprint_of
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
