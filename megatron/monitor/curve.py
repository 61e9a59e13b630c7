"""A curve of any length in little memory, and as a chart of Braille dots."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

# Dots of a Braille cell, two columns of four, from the top down; U+2800 is the empty cell.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_EMPTY = 0x2800
_CUT_SHARE = 0.1


class Point(NamedTuple):
    """Consecutive steps and the mean of their values."""

    first_step: int
    last_step: int
    mean: float
    num_steps: int


class Curve:
    """The values of a run's steps, thinned out: where there are too many points, each two neighbours become their mean.

    Args:
        max_points: that are kept.
    """

    def __init__(self, max_points: int = 4000) -> None:
        self._max_points = max_points
        self._steps_of_a_point = 1
        self._points: list[Point] = []

    @property
    def points(self) -> Sequence[Point]:
        """All points, in the order of their steps."""
        return self._points

    def add(self, step: int, value: float) -> None:
        """Append the value of a later step; one that is no number is left out."""
        if not math.isfinite(value):
            return
        point = Point(step, step, value, 1)
        if self._points and self._points[-1].num_steps < self._steps_of_a_point:
            point = _join(self._points.pop(), point)
        self._points.append(point)
        if len(self._points) > self._max_points:
            self._thin_out()

    def drop_after(self, step: int) -> None:
        """Drop what was seen of later steps."""
        while self._points and self._points[-1].last_step > step:
            self._points.pop()

    def _thin_out(self) -> None:
        pairs = zip(self._points[::2], self._points[1::2], strict=False)
        single = self._points[-1:] if len(self._points) % 2 else []
        self._points = [*(_join(first, second) for first, second in pairs), *single]
        self._steps_of_a_point *= 2


class Chart(NamedTuple):
    """Lines of text that show a curve, what their lowest and highest dots stand for, and whether some are higher."""

    lines: list[str]
    low: float
    high: float
    is_cut: bool


def draw(points: Sequence[Point], *, width: int, height: int, ascii_only: bool = False) -> Chart:
    """Draw a curve.

    The highest tenth is cut off at the upper edge: the first fall of a loss would flatten all that comes after.

    Args:
        points: at least one.
        width: characters of a line, each two dots wide.
        height: lines, each four dots high.
        ascii_only: draw asterisks, where the terminal has no Braille.
    """
    values = _column_means(points, columns=2 * width)
    ordered = sorted(value for _, value in values)
    low, high = ordered[0], ordered[-1 - int(_CUT_SHARE * len(ordered))]
    scale = (4 * height - 1) / (high - low) if high > low else 0.0
    levels = [(column, min(round((value - low) * scale), 4 * height - 1)) for column, value in values]
    cells = [[0] * width for _ in range(height)]
    for column, level in _line_through(levels):
        row, dot = divmod(4 * height - 1 - level, 4)
        cells[row][column // 2] |= _DOTS[column % 2][dot]
    lines = ["".join(_character(cell, ascii_only) for cell in row) for row in cells]
    return Chart(lines, low, high, is_cut=high < ordered[-1])


def _join(first: Point, second: Point) -> Point:
    count = first.num_steps + second.num_steps
    mean = first.mean + (second.mean - first.mean) * (second.num_steps / count)
    return Point(first.first_step, second.last_step, mean, count)


def _column_means(points: Sequence[Point], *, columns: int) -> list[tuple[int, float]]:
    """Return (column, mean) of the columns in which there are points."""
    first, last = points[0].first_step, points[-1].last_step
    found: dict[int, Point] = {}
    for point in points:
        middle = (point.first_step + point.last_step) / 2
        column = round((middle - first) / max(last - first, 1) * (columns - 1))
        found[column] = _join(found[column], point) if column in found else point
    return [(column, point.mean) for column, point in found.items()]


def _line_through(levels: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the dots of a line without gaps through (column, level) pairs."""
    dots = [levels[0]]
    for (column, level), (next_column, next_level) in itertools.pairwise(levels):
        before = level
        for x in range(column + 1, next_column + 1):
            y = round(level + (next_level - level) * (x - column) / (next_column - column))
            direction = 1 if y > before else -1
            dots += [(x, between) for between in range(before + direction, y, direction)] if y != before else []
            dots.append((x, y))
            before = y
    return dots


def _character(cell: int, ascii_only: bool) -> str:
    if ascii_only:
        return "*" if cell else " "
    return chr(_EMPTY + cell) if cell else " "
