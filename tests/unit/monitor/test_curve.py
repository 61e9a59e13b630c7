from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.monitor.curve import Curve, Point, draw


def _curve(values: list[float], *, max_points: int = 4000) -> Curve:
    curve = Curve(max_points)
    for step, value in enumerate(values, start=1):
        curve.add(step, value)
    return curve


@given(values=st.lists(st.floats(-1e6, 1e6), max_size=200), max_points=st.integers(2, 20))
def test_however_long_the_points_are_few_and_their_mean_is_that_of_all(values: list[float], max_points: int) -> None:
    points = _curve(values, max_points=max_points).points
    assert len(points) <= max_points
    assert sum(point.num_steps for point in points) == len(values)
    total = math.fsum(point.mean * point.num_steps for point in points)
    assert total == pytest.approx(math.fsum(values), abs=1e-6 * math.fsum(map(abs, values)) + 1e-12)
    assert list(points) == sorted(points)


def test_what_is_no_number_is_left_out() -> None:
    assert _curve([1.0, math.nan, math.inf, 2.0]).points == [Point(1, 1, 1.0, 1), Point(4, 4, 2.0, 1)]


def test_later_steps_are_dropped_with_the_points_that_hold_some_of_them() -> None:
    curve = _curve([1.0] * 9, max_points=4)
    curve.drop_after(5)
    assert all(point.last_step <= 5 for point in curve.points)
    assert curve.points
    curve.drop_after(-1)
    assert curve.points == []


def test_a_falling_line_runs_from_the_upper_left_to_the_lower_right() -> None:
    chart = draw(_curve([4.0, 3.0, 2.0, 1.0]).points, width=2, height=1)
    assert chart.lines == ["\u2811\u2884"]
    assert (chart.low, chart.high, chart.is_cut) == (1.0, 4.0, False)


def test_few_points_are_joined_without_gaps() -> None:
    chart = draw(_curve([1.0, 5.0, 2.0]).points, width=20, height=6)
    assert all(any(line[column] != " " for line in chart.lines) for column in range(20))
    assert all(line.strip() for line in chart.lines)


def test_the_highest_tenth_is_cut_off() -> None:
    chart = draw(_curve([100.0, 90.0, *[2.0] * 19, 1.0]).points, width=11, height=2)
    assert (chart.low, chart.high, chart.is_cut) == (1.0, 2.0, True)


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0]])
def test_a_flat_line_is_drawn(values: list[float]) -> None:
    chart = draw(_curve(values).points, width=4, height=2)
    assert chart.low == chart.high == 3.0
    assert chart.lines[0].strip() == ""
    assert chart.lines[1].strip() != ""


def test_without_braille_there_are_asterisks() -> None:
    lines = draw(_curve([1.0, 2.0]).points, width=4, height=2, ascii_only=True).lines
    assert set("".join(lines)) == {"*", " "}
