"""Curves of the report: many values over steps, reduced to what a chart can show."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence

from megatron.evaluation.report.scale import Format

SMOOTHING = 0.02

_POINTS = 360


@dataclasses.dataclass(frozen=True)
class Curve:
    """Values over steps, reduced to at most a few hundred points.

    Attributes:
        steps: last step of every bucket.
        mean: mean of the bucket's finite values; None where it has none.
        smooth: centred moving median of the original values, read in the middle of the bucket.
        low: smallest finite value of the bucket.
        high: largest finite value of the bucket.
        not_finite: steps whose value was NaN or infinite.
        values: the finite original values.
    """

    steps: list[int]
    mean: list[float | None]
    smooth: list[float | None]
    low: list[float | None]
    high: list[float | None]
    not_finite: list[int]
    values: list[float]

    def raw(self) -> list[tuple[float, float | None]]:
        """Return (step, value) of what every bucket spans: its lowest value, and its highest where that differs."""
        points: list[tuple[float, float | None]] = []
        for step, low, high in zip(self.steps, self.low, self.high, strict=True):
            points.append((step, low))
            if high != low:
                points.append((step, high))
        return points


def curve(
    steps: Sequence[int], values: Sequence[float], *, points: int = _POINTS, smoothing: float = SMOOTHING
) -> Curve:
    """Reduce a curve to ``points`` buckets, keeping the extremes of each, and smooth it without a lag.

    The smooth line is a median and not a mean, so that one spike does not become a plateau.

    Args:
        steps: of the values, ascending.
        values: may hold NaN and infinities; they are left out and listed.
        points: largest number of buckets.
        smoothing: share of all values that a smoothed one stands for; 0 takes the buckets as they are.
    """
    count = len(values)
    buckets = min(count, points)
    # A short run has no 2% to speak of, but its curve is as restless.
    reach = max(int(count * smoothing / 2), min(4, count // 15)) if smoothing else 0

    def finite(start: int, stop: int) -> list[float]:
        return [value for value in values[start:stop] if math.isfinite(value)]

    ends = [(bucket + 1) * count // buckets for bucket in range(buckets)]
    ranges = list(zip([0, *ends[:-1]], ends, strict=True)) if buckets else []
    inside = [finite(start, stop) for start, stop in ranges]
    middles = [(start + stop - 1) // 2 for start, stop in ranges]
    # At the start, where curves are steep, the window shrinks on both sides; cut on one side only it would lag.
    reaches = [min(reach, middle) for middle in middles]
    windows = [finite(middle - r, middle + r + 1) for middle, r in zip(middles, reaches, strict=True)]
    mean = [statistics.fmean(bucket) if bucket else None for bucket in inside]
    return Curve(
        steps=[steps[stop - 1] for _, stop in ranges],
        mean=mean,
        smooth=[statistics.median(window) if window else None for window in windows] if smoothing else mean,
        low=[min(bucket, default=None) for bucket in inside],
        high=[max(bucket, default=None) for bucket in inside],
        not_finite=[step for step, value in zip(steps, values, strict=True) if not math.isfinite(value)],
        values=finite(0, count),
    )


def step_text(step: int) -> str:
    """Name a step."""
    return f"step {step:,}"


def notes_on(
    data: Curve, *, top: float, form: Format, place_text: Callable[[int], str] = step_text
) -> list[str]:
    """Say what a chart that ends at ``top`` does not show of a curve; ``place_text`` names a place on its axis."""
    notes = []
    above = sum(value > top for value in data.values)
    if above:
        notes.append(f"{above:,} step{'s' if above > 1 else ''} above the chart, up to {form(max(data.values))}")
    if data.not_finite:
        count = len(data.not_finite)
        first = place_text(data.not_finite[0])
        notes.append(f"not a finite number at {first if count == 1 else f'{count:,} steps, first {first}'}")
    return notes
