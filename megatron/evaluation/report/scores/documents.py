"""What the items behind a score come to, a number for each document or question, for intervals of single languages."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from megatron.evaluation.code.sandbox import PASSED
from megatron.evaluation.results import items_path

_MAX_BYTES = 1 << 29
_LOSS_SIZES = {"bits_per_byte": "bytes", "bits_per_character": "characters", "nats": None}
_TOLERANCE = 1e-6

NO_ITEMS = "no items are kept"
UNREADABLE = "the items cannot be read"
NOT_ITEMWISE = "the metric is not a mean over single items"
OTHER_SCORE = "the items are not those of the score"
OTHER_DOCUMENTS = "the two models' items are not of the same documents"

# A document's id, its value and its size (1 where documents have none); None for an item that does not count.
_Entry = tuple[str, float, float]
_ReadItem = Callable[[Mapping[str, Any]], _Entry | None]


@dataclasses.dataclass(frozen=True)
class Documents:
    """The documents or questions of one language with one model; the score is sum of values over sum of sizes.

    Attributes:
        ids: of each.
        values: nats, or how far it is right, 0..1.
        sizes: bytes or characters; 1 where documents have none.
    """

    ids: tuple[str, ...]
    values: NDArray[np.float64]
    sizes: NDArray[np.float64]

    def in_order_of(self, other: Documents) -> NDArray[np.float64] | None:
        """Return the values in the order of other documents; None where they are not the same, by id and by size."""
        if self.ids == other.ids:
            order = np.arange(len(self.ids))
        elif len(self.ids) != len(other.ids) or set(self.ids) != set(other.ids):
            return None
        else:
            places = {name: place for place, name in enumerate(self.ids)}
            order = np.array([places[name] for name in other.ids])
        return self.values[order] if np.array_equal(self.sizes[order], other.sizes) else None


def read_documents(
    folders: Sequence[Path], benchmark: str, language: str, *, metric: str, score: float
) -> Documents | str:
    """Read the items of a score, a line at a time.

    Args:
        folders: of results of a model; the first that has the items counts.
        benchmark: its name.
        language: corpus code.
        metric: that the score is of.
        score: its value, which the items must give.

    Returns:
        The documents; or why there are none, one of the constants above.
    """
    paths = [path for folder in folders if (path := _safe_path(folder, benchmark, language)) is not None]
    if not paths:
        return NO_ITEMS
    try:
        entries = _read(paths[0], metric)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return UNREADABLE
    if isinstance(entries, str):
        return entries
    if not entries:
        return NO_ITEMS
    if len({name for name, _, _ in entries}) < len(entries):
        return UNREADABLE
    values, sizes = (np.array([entry[place] for entry in entries], dtype=np.float64) for place in (1, 2))
    scale = 1 / math.log(2) if metric.startswith("bits_per_") else 1.0
    found = scale * values.sum() / (sizes.sum() if metric != "nats" else 1.0)
    if not math.isclose(found, score, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
        return OTHER_SCORE
    return Documents(tuple(name for name, _, _ in entries), values, sizes)


def _safe_path(folder: Path, benchmark: str, language: str) -> Path | None:
    """Return the file of items; None where there is none, or where its name leads out of the folder."""
    if any(mark in name for name in (benchmark, language) for mark in ("/", "\\", "\0")) or benchmark in ("..", "."):
        return None
    path = items_path(folder, benchmark, language)
    try:
        return path if path.is_file() else None
    except OSError:  # a name that is too long
        return None


def _read(path: Path, metric: str) -> list[_Entry] | str:
    if not 0 < path.stat().st_size <= _MAX_BYTES:
        return NO_ITEMS if path.stat().st_size == 0 else UNREADABLE
    read: _ReadItem | None = None
    entries = []
    with path.open("rb") as file:
        for line in file:
            item = orjson.loads(line)
            if read is None:
                read = _reader(item, metric)
                if read is None:
                    return NOT_ITEMWISE
            entry = read(item)
            if entry is not None:
                entries.append(entry)
    if metric.startswith("pass@"):
        return _means(entries)
    if metric in _LOSS_SIZES and not all(0 < value < math.inf and 0 < size < math.inf for _, value, size in entries):
        return UNREADABLE
    return entries if all(math.isfinite(value) for _, value, _ in entries) else UNREADABLE


def _reader(item: Mapping[str, Any], metric: str) -> _ReadItem | None:
    """Return what makes a number of an item, told by the metric and by what the first item holds."""
    if metric in _LOSS_SIZES and "nats" in item and "id" in item:
        size = _LOSS_SIZES[metric]
        return lambda item: (str(item["id"]), float(item["nats"]), float(item[size]) if size else 1.0)
    if metric in ("accuracy", "exact_match") and "output" in item and "references" in item:
        return _right if metric == "accuracy" else _exact
    if isinstance(held := item.get("metrics"), Mapping) and isinstance(held.get(metric), int | float):
        return lambda item: (str(item["number"]), float(item["metrics"][metric]), 1.0)
    if metric == "pass@1" and "problem" in item and "outcome" in item:
        return lambda item: (str(item["problem"]), float(item["outcome"] == PASSED), 1.0)
    return None


def _right(item: Mapping[str, Any]) -> _Entry:
    return str(item["id"]), float(item["output"] in list(item["references"])), 1.0


def _exact(item: Mapping[str, Any]) -> _Entry | None:
    if item.get("counted") is False:
        return None
    answers = {answer.strip() for answer in item["references"]}
    return str(item["id"]), float(item["output"].strip() in answers), 1.0


def _means(entries: Sequence[_Entry]) -> list[_Entry]:
    """Return the mean of each problem's samples: pass@1 is their mean over problems."""
    groups: dict[str, list[float]] = {}
    for name, value, _ in entries:
        groups.setdefault(name, []).append(value)
    return [(name, sum(values) / len(values), 1.0) for name, values in groups.items()]
