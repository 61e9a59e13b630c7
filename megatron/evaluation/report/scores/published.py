"""Tables of published results: CSV with languages as rows and models as columns, or the other way round."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from megatron.data.manifest_rules import CORPUS_CODE
from megatron.evaluation.report.data import ReportError
from megatron.evaluation.report.scores.directions import known_direction

_MAX_BYTES = 1 << 26
_MISSING = ("", "-", "–", "—", "nan", "NaN", "n/a", "N/A")
_MOST_SHOWN = 20

LARGEST = 1e100
"""Largest value that any metric has; sums of such values are still finite."""


@dataclasses.dataclass(frozen=True)
class Published:
    """A table of one metric of one benchmark.

    Attributes:
        benchmark: the file's name without the metric.
        metric: its name.
        higher_is_better: whether larger values are better.
        models: in the order of the table.
        values: by language and model; not a number where the cell is empty.
        ignored: rows or columns that are no language, such as means over all of them.
    """

    benchmark: str
    metric: str
    higher_is_better: bool
    models: tuple[str, ...]
    values: Mapping[str, Mapping[str, float]]
    ignored: tuple[str, ...]


def read_published(path: Path, *, metric: tuple[str, bool] | None = None) -> Published:
    """Read a table; what its rows are is told by where the corpus codes stand.

    Args:
        path: ``.csv`` with commas or ``.tsv`` with tabs. Where its name begins with the name of a known metric, as
            ``nll_glot500.csv`` does, that is the metric, and the rest the benchmark.
        metric: name, and whether larger values are better, of tables whose name does not say it.

    Raises:
        ReportError: it is no such table; every problem with its row and column.
    """
    cells = _read_cells(path)
    benchmark, name, higher = _identify(path, metric)
    if sum(map(_is_code, cells[0][1:])) < sum(_is_code(row[0]) for row in cells[1:]):
        width = max(map(len, cells))
        cells = [list(column) for column in zip(*(row + [""] * (width - len(row)) for row in cells), strict=True)]
    header = cells[0]
    places = [(place, code) for place, code in enumerate(header) if place and _is_code(code)]
    ignored = [text for place, text in enumerate(header) if place and text and not _is_code(text)]
    models = [row[0] for row in cells[1:] if any(row)]
    problems = [f"{text!r} is given twice; keep one" for text in _repeated([*models, *(code for _, code in places)])]
    if not places:
        problems.append("neither the first row nor the first column holds corpus codes like swh_Latn")
    values: dict[str, dict[str, float]] = {code: {} for _, code in places}
    for row in cells[1:]:
        if not any(row):
            continue
        if not row[0]:
            problems.append("a model has no name")
        for place, code in places:
            text = row[place] if place < len(row) else ""
            number = _number(text)
            if number is None:
                problems.append(f"{row[0]}, {code}: {text!r} is no number; leave the cell empty where there is none")
            values[code][row[0]] = math.nan if number is None else number
    if problems:
        more = [f"... and {len(problems) - _MOST_SHOWN} more"] if len(problems) > _MOST_SHOWN else []
        raise ReportError(f"{path}: no table of results:\n" + "\n".join([*problems[:_MOST_SHOWN], *more]))
    return Published(benchmark, name, higher, tuple(models), values, tuple(ignored))


def _read_cells(path: Path) -> list[list[str]]:
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise ReportError(f"{path}: {size:,} bytes are too many for a table of results (at most {_MAX_BYTES:,})")
    try:
        text = path.read_text(encoding="utf-8-sig")
        delimiter = "\t" if path.suffix == ".tsv" else ","
        rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReportError(f"{path}: no CSV in UTF-8 ({error}); save it as such") from None
    rows = [row for row in rows if any(row)]
    if len(rows) < 2:
        raise ReportError(f"{path}: no table of results: it has {len(rows)} row(s), a heading included")
    return rows


def _identify(path: Path, metric: tuple[str, bool] | None) -> tuple[str, str, bool]:
    first, _, rest = path.stem.partition("_")
    higher = known_direction(first)
    if rest and higher is not None:
        return rest, first, higher
    if metric is None:
        raise ReportError(
            f"{path}: the name does not begin with a known metric, as nll_glot500.csv does; "
            "give it: --table-metric NAME=lower or --table-metric NAME=higher, whichever is better"
        )
    return path.stem, *metric


def _is_code(text: str) -> bool:
    return CORPUS_CODE.fullmatch(text) is not None


def _number(text: str) -> float | None:
    if text in _MISSING:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        return None
    # Python would read 1_000 as a number; a program that writes tables does not mean one.
    return number if abs(number) <= LARGEST and "_" not in text else None


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if name and count > 1]
