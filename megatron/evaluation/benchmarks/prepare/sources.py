"""The files below an upstream folder, with the language and the split that each name says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

#: What upstream calls a split, and what it is called here.
SPLITS = {
    "train": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev", "test": "test",
    "devtest": "test",
}  # fmt: skip

_SPLIT = "|".join(SPLITS)
_COMPRESSED = (".gz", ".zst")
# Files of the Hugging Face hub come in pieces: `test-00000-of-00002.parquet`.
_PIECE = re.compile(r"-\d{5}-of-\d{5}$")
_NAMED = re.compile(rf"(?P<code>.+)[_.-](?P<split>{_SPLIT})$")
_ONLY_SPLIT = re.compile(rf"(?P<split>{_SPLIT})$")


class Source(NamedTuple):
    """One upstream file.

    Attributes:
        path: the file.
        code: language code, as upstream writes it, that its name says.
        split: ``train``, ``dev`` or ``test``; ``test`` where nothing says which.
    """

    path: Path
    code: str
    split: str


def find_sources(folder: Path, endings: Sequence[str]) -> tuple[list[Source], list[Path]]:
    """Find the files of a benchmark, sorted.

    A split is the end of a file's name (``eng_test.tsv``, ``eng.devtest``), all of it (``eng/test.tsv``), or the name
    of its folder (``dev/eng.dev``); what is left of the name, or else the folder's name, is the language code.

    Args:
        folder: searched with all folders below it; names with a leading dot do not count.
        endings: of the files, such as ``.tsv``; ``.gz`` and ``.zst`` may follow.

    Returns:
        the sources, and the files with other endings.

    Raises:
        ValueError: the folder is not there, or holds no file with one of the endings.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give the one with the benchmark's upstream files")
    found, others = [], []
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in inner.parts):
            continue
        name = path.name
        for ending in _COMPRESSED:
            name = name.removesuffix(ending)
        if ending := next((each for each in endings if name.endswith(each)), ""):
            # The ending of FLORES-200's files is their split.
            stem = name if ending.removeprefix(".") in SPLITS else name.removesuffix(ending)
            found.append(_source(path, stem, inner.parts[:-1]))
        else:
            others.append(path)
    if not found:
        raise ValueError(f"{folder} holds no file that ends in {' or '.join(endings)}; is it the right folder?")
    return found, others


def _source(path: Path, stem: str, folders: Sequence[str]) -> Source:
    stem = _PIECE.sub("", stem)
    around = [name for name in folders if name not in SPLITS]
    of_folder = next((SPLITS[name] for name in reversed(folders) if name in SPLITS), "test")
    if match := _ONLY_SPLIT.match(stem):
        return Source(path, around[-1] if around else "", SPLITS[match["split"]])
    if match := _NAMED.match(stem):
        return Source(path, match["code"], SPLITS[match["split"]])
    return Source(path, stem, of_folder)
