"""The files that the benchmarks come as, found by their names and read row by row."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from megatron.corpus.reading.problems import ReadCounts
from megatron.evaluation.benchmarks.prepare.rows import object_rows, tsv_rows
from megatron.evaluation.benchmarks.prepare.sources import SPLITS
from megatron.evaluation.harness.installed import HarnessError

ENDINGS = (".jsonl", ".parquet", ".csv", ".tsv")
EXEMPLARS = "exemplars.py"

# XStoryCloze has no splits but `train` and `eval`.
_SPLITS = {**SPLITS, "eval": "test"}
# MGSM's tab-separated files have no header.
_MGSM_COLUMNS = ["question", "answer_number"]
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
    split = next((_SPLITS[name] for name in [*reversed(pieces), *reversed(folders)] if name in _SPLITS), "test")
    return None if key is None else UpstreamFile(path, key, split)


def are_one(files: Sequence[UpstreamFile]) -> bool:
    """Return whether files of one split are the pieces of one: of one format, in one folder, numbered if several.

    XCOPA, for one, comes with machine translations of itself in a folder beside it.
    """
    kinds = {(file.path.parent, _PIECE.sub("", file.path.stem), file.path.suffix) for file in files}
    return len(kinds) <= 1


def rows_of(path: Path, columns: Sequence[str], counts: ReadCounts) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a file with their numbers.

    Args:
        path: JSON lines, Parquet, CSV with a header, or tab-separated values.
        columns: those that matter, for Parquet.
        counts: counts what cannot be read. Cells that a row lacks are None.

    Raises:
        CorpusError: the file is broken as a whole; Parquet needs pyarrow.
    """
    if path.suffix != ".tsv":
        yield from ((int(row["row"]), row) for row in object_rows(path, columns, counts))
        return
    header: list[str] | None = None
    for number, cells in tsv_rows(path, counts):
        if header is None and len(cells) != len(_MGSM_COLUMNS):
            header = cells
            continue
        header = header or _MGSM_COLUMNS
        yield number, dict(zip(header, cells, strict=False)) if len(cells) == len(header) else {}


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
    except MemoryError:  # what the parser says of literals that are nested too deeply
        raise HarnessError(f"{path} is not MGSM's file of worked questions") from None
