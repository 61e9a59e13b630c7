from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.evaluation.report.curve import curve
from megatron.evaluation.report.mixture import corpus_parts, group_parts
from megatron.evaluation.report.scale import compact, nice_ticks, small, value_bounds
from megatron.evaluation.report.tables import percent, signed_percent

_VALUES = st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan), st.just(math.inf)), max_size=200)


@given(_VALUES, st.integers(1, 50))
def test_reducing_a_curve_keeps_its_extremes_its_end_and_its_gaps(values: list[float], points: int) -> None:
    steps = list(range(1, len(values) + 1))
    reduced = curve(steps, values, points=points)
    finite = [value for value in values if math.isfinite(value)]
    assert len(reduced.steps) == min(points, len(values))
    assert reduced.steps[-1:] == steps[-1:]
    assert max((high for high in reduced.high if high is not None), default=None) == max(finite, default=None)
    assert min((low for low in reduced.low if low is not None), default=None) == min(finite, default=None)
    assert len(reduced.not_finite) == len(values) - len(finite)
    assert reduced.values == finite


def test_one_spike_stays_out_of_the_smooth_line_and_in_the_raw_one() -> None:
    values = [1.0] * 1000
    values[500] = 100.0
    reduced = curve(range(1000), values, points=100)
    assert set(reduced.smooth) == {1.0}
    assert max(reduced.high) == 100.0


def test_smoothing_does_not_lag() -> None:
    values = [float(step) for step in range(2000)]
    reduced = curve(range(2000), values, points=100)
    for step, smooth in list(zip(reduced.steps, reduced.smooth, strict=True))[5:-5]:
        assert smooth == pytest.approx(step - 9.5, abs=1.0)  # the middle of a bucket of 20 steps


def test_the_smooth_line_starts_where_a_steep_curve_starts() -> None:
    values = [10.0 * 0.9**step for step in range(200)]
    assert curve(range(200), values).smooth[0] == 10.0


def test_without_smoothing_the_line_is_the_curve() -> None:
    reduced = curve([1, 2, 3], [5.0, 1.0, 4.0], smoothing=0.0)
    assert reduced.smooth == reduced.mean == [5.0, 1.0, 4.0]


def test_a_few_spikes_do_not_set_the_axis() -> None:
    low, high = value_bounds([1.0] * 999 + [1e9], [1.0, 2.0], zero=True)
    assert low == 0
    assert 2.0 <= high < 2.5


@pytest.mark.parametrize("value", [0.0, 1e-4, -3.0, 7e9])
@pytest.mark.parametrize("zero", [True, False])
def test_a_constant_curve_has_an_axis(value: float, zero: bool) -> None:
    low, high = value_bounds([value] * 5, [value], zero=zero)
    assert low <= value <= high
    assert low < high


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_inside(low: float, width: float) -> None:
    width = max(width, abs(low) * 1e-6)
    high = low + width
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    tolerance = width * 1e-6
    assert all(low - tolerance <= tick <= high + tolerance for tick in ticks)


def test_ticks_by_hand() -> None:
    assert nice_ticks(0, 12_000, count=7) == [0, 2000, 4000, 6000, 8000, 10_000, 12_000]
    assert nice_ticks(-82.0, 6.0) == [-80, -60, -40, -20, 0]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (12_345, "12.3k"), (999_950, "1M"), (6_738_415_616, "6.74B"), (2e12, "2T"),
     (150_000, "150k"), (math.nan, "nan")],
)  # fmt: skip
def test_compact_numbers(value: float, text: str) -> None:
    assert compact(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (1e-4, "1e-4"), (2.5e-5, "2.5e-5"), (3.0, "3")])
def test_small_numbers(value: float, text: str) -> None:
    assert small(value) == text


def test_percentages() -> None:
    assert [percent(value) for value in (0.1234, 0.0, 0.00012, math.nan)] == ["12.3%", "0.0%", "0.012%", "–"]
    assert [signed_percent(value) for value in (-0.5, 0.031, math.inf)] == ["−50.0%", "+3.1%", "–"]


def _row(corpus: str, share: float, *, tier: str | None = "high", source: str = "monolingual") -> dict:
    return {"corpus": corpus, "code": "eng_Latn", "tier": tier, "source": source, "tokens": 100, "share": share,
            "samples": 1, "sampled_tokens": int(share * 1000), "epochs": share * 10}  # fmt: skip


def test_planned_and_used_are_joined_by_corpus() -> None:
    planned = [_row("a", 0.75), _row("b", 0.25, tier="low")]
    used = [_row("c", 0.5, tier="low", source="books"), _row("a", 0.5)]
    parts = {part.name: (part.planned, part.used) for part in corpus_parts(planned, used)}
    assert parts == {"a": (0.75, 0.5), "b": (0.25, 0.0), "c": (0.0, 0.5)}
    low = {part.name: part for part in group_parts(corpus_parts(planned, used), by="tier")}["low"]
    assert (low.corpora, low.planned, low.used, low.tokens) == (2, 0.25, 0.5, 200)
    assert low.sampled() == 500
    assert low.epochs() == 2.5


def test_a_plan_alone_has_no_used_share_and_its_own_epochs() -> None:
    (part,) = corpus_parts([_row("a", 1.0, tier=None)], [])
    assert part.used is None
    assert part.tier == "no tier"
    assert part.epochs() == 10.0
