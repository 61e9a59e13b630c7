"""The files that the benchmarks come as, found by their names and read row by row."""

from __future__ import annotations

import ast
import csv
import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from megatron.evaluation.harness.installed import HarnessError

#: What upstream calls a split, and our file of it. XStoryCloze has none but `train` and `eval`.
SPLITS = {
    "train": "train", "val": "dev", "dev": "dev", "valid": "dev", "validation": "dev", "test": "test", "eval": "test",
}  # fmt: skip
ENDINGS = (".jsonl", ".parquet", ".csv", ".tsv")
EXEMPLARS = "exemplars.py"

MAX_FILE_BYTES = 2 << 30
_MAX_EXEMPLARS_BYTES = 4 << 20
# Files of the Hugging Face hub come in pieces: `test-00000-of-00002.parquet`, or `test/0000.parquet`.
_PIECE = re.compile(r"-\d{5}-of-\d{5}$|^\d{4,5}$")
_JOINTS = re.compile(r"[._]")

Row = Mapping[str, Any]


class UpstreamFile(NamedTuple):
    """One file, or one piece of it.

    Attributes:
        path: the file.
        key: upstream's name of its language.
        split: ours: ``train``, ``dev`` or ``test``.
    """

    path: Path
    key: str
    split: str


def find_files(folder: Path, keys: frozenset[str]) -> tuple[list[UpstreamFile], list[Path]]:
    """Find the files whose name, or folder's name, says a language, such as ``sw/test-00000-of-00001.parquet``.

    Args:
        folder: searched with all folders below it; names with a leading dot do not count.
        keys: upstream's names of languages.

    Returns:
        them, sorted, and the other files. A name without a split is a test's.

    Raises:
        HarnessError: there is no such folder.
    """
    if not folder.is_dir():
        raise HarnessError(f"{folder} is no folder; give the one that holds the benchmark's upstream files")
    found, others = [], []
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in inner.parts):
            continue
        file = _named(path, inner.parts[:-1], keys) if path.suffix in ENDINGS else None
        if file is not None:
            found.append(file)
        elif path.name != EXEMPLARS:
            others.append(path)
    return found, others


def _named(path: Path, folders: tuple[str, ...], keys: frozenset[str]) -> UpstreamFile | None:
    stem = _PIECE.sub("", path.stem)
    pieces = _JOINTS.split(stem)
    # Whole names count before their parts: `id` is a language, and `swh_Latn` is one.
    names = [*folders, *pieces, stem]
    key = next((name for name in reversed(names) if name in keys), None)
    split = next((SPLITS[name] for name in [*reversed(pieces), *reversed(folders)] if name in SPLITS), "test")
    return None if key is None else UpstreamFile(path, key, split)


def are_one(files: Sequence[UpstreamFile]) -> bool:
    """Return whether files of one split are the pieces of one: of one format, in one folder, numbered if several.

    XCOPA, for one, comes with machine translations of itself in a folder beside it.
    """
    kinds = {(file.path.parent, _PIECE.sub("", file.path.stem), file.path.suffix) for file in files}
    return len(kinds) <= 1


def rows_of(path: Path, dropped: list[str]) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a file with their numbers, from 1.

    Tab-separated files without a header have the columns of MGSM's: ``question`` and ``answer_number``.

    Args:
        path: JSON lines, Parquet, CSV with a header, or tab-separated values.
        dropped: rows that cannot be read are added to it.

    Raises:
        HarnessError: the file is too large or broken as a whole; Parquet needs pyarrow.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise HarnessError(f"{path} has more than {MAX_FILE_BYTES >> 30} GiB: that is no file of a benchmark")
    try:
        if path.suffix == ".parquet":
            yield from enumerate(_parquet_rows(path), start=1)
        elif path.suffix == ".jsonl":
            yield from _json_rows(path, dropped)
        else:
            yield from _separated_rows(path, dropped)
    except (UnicodeDecodeError, OSError, csv.Error) as error:
        raise HarnessError(f"{path} cannot be read ({error})") from None


def _json_rows(path: Path, dropped: list[str]) -> Iterator[tuple[int, Row]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                dropped.append(f"line {number}: no JSON ({error})")
                continue
            if isinstance(row, dict):
                yield number, row
            else:
                dropped.append(f"line {number}: no object")


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise HarnessError(f"{path}: Parquet needs pyarrow: pip install pyarrow") from None
    arrow = importlib.import_module("pyarrow")
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(use_threads=False):
                yield from batch.to_pylist()
    except arrow.ArrowException as error:
        raise HarnessError(f"{path} is no sound Parquet file ({error})") from None


def _separated_rows(path: Path, dropped: list[str]) -> Iterator[tuple[int, Row]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = enumerate(csv.reader(file) if path.suffix == ".csv" else map(_cells, file), start=1)
        header: list[str] | None = None
        for number, cells in rows:
            if header is None and path.suffix == ".tsv" and len(cells) == 2:
                header = ["question", "answer_number"]
            if header is None:
                header = cells
            elif len(cells) == len(header):
                yield number, dict(zip(header, cells, strict=True))
            else:
                dropped.append(f"line {number}: {len(cells)} cells instead of {len(header)}")


def _cells(line: str) -> list[str]:
    """Return the cells of a line; quotation marks count only where they leave as many cells as there are tabs."""
    plain = line.rstrip("\r\n").split("\t")
    try:
        quoted = next(csv.reader([line.rstrip("\r\n")], delimiter="\t"), plain)
    except csv.Error:
        return plain
    return quoted if len(quoted) == len(plain) else plain


def exemplars_of(path: Path) -> dict[str, list[Row]]:
    """Return MGSM's worked questions by language, from the literals of ``exemplars.py``; nothing of it is run.

    Raises:
        HarnessError: it is not that file.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_EXEMPLARS_BYTES + 1)
        if len(text) > _MAX_EXEMPLARS_BYTES:
            raise ValueError("it is too large")
        values = {
            target.id: ast.literal_eval(node.value)
            for node in ast.parse(text).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id in ("MGSM_EXEMPLARS", "EXEMPLAR_NUMBER_ANSWERS")
        }
        answers = values["EXEMPLAR_NUMBER_ANSWERS"]
        return {
            str(key): [
                {"question": entry["q"], "answer": entry["a"], "answer_number": answers[int(number) - 1]}
                for number, entry in sorted(entries.items(), key=lambda item: int(item[0]))
            ]
            for key, entries in values["MGSM_EXEMPLARS"].items()
        }
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise HarnessError(f"{path} is not MGSM's file of worked questions ({error!r})") from None
