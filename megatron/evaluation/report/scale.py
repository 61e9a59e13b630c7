"""Scales of the report's charts: the ends of an axis, round numbers on it, places along it, and how numbers read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

_SIZE = 1000.0
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))

Format = Callable[[float], str]
Bounds = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Axis:
    """What a horizontal axis counts: the unit of one value, of many, and how a round number reads."""

    unit: str
    plural: str
    form: Format


def value_bounds(values: Sequence[float], shown: Sequence[float | None] = (), *, zero: bool) -> Bounds:
    """Return the bottom and top of an axis that holds 99% of ``values`` and all of ``shown``, with some air.

    A handful of spikes must not flatten everything else; the caller says how many values lie above.
    """
    if not values:
        return 0.0, 1.0
    ordered = sorted(values)
    cut = len(ordered) // 200
    drawn = [value for value in shown if value is not None]
    low = min([ordered[cut], *drawn])
    high = max([ordered[-1 - cut], *drawn])
    if zero:
        low = min(low, 0.0)
    if high <= low:
        spread = abs(high) * 0.1 or 1.0
        return (0.0 if zero and low >= 0 else low - spread), high + spread
    air = (high - low) * 0.06
    return (low if zero and low == 0 else low - air), high + air


def nice_ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Return about ``count`` round numbers (1, 2 or 5 times a power of ten apart) from ``low`` to ``high``."""
    raw = (high - low) / max(1, count)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw * 0.75)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def compact(value: float) -> str:
    """Write a number with three significant digits and k, M, B or T."""
    if not math.isfinite(value):
        return str(value)
    for limit, unit in _UNITS:
        if abs(value) >= limit * 0.9995:
            scaled = value / limit
            digits = 0 if abs(scaled) >= 99.95 else 1 if abs(scaled) >= 9.995 else 2
            text = f"{scaled:.{digits}f}"
            return (text.rstrip("0").rstrip(".") if "." in text else text) + unit
    return f"{value:.3g}"


def small(value: float) -> str:
    """Write a small number such as a learning rate: ``2.5e-5``."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.2e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}" if int(exponent) else mantissa


def decimal(value: float) -> str:
    """Write a number with up to four significant digits and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def span_of(steps: Sequence[int]) -> Bounds:
    """Return the ends of a horizontal axis that holds ascending steps."""
    low, high = (steps[0], steps[-1]) if steps else (0, 1)
    # The first point of a run from its beginning stands for the steps from 1 on: the axis starts at 0.
    low = 0 if low <= 0.05 * high else low
    return float(low), float(max(high, low + 1))


def x_of(value: float, span: Bounds) -> str:
    """Return a place on the horizontal axis in the units of a drawing."""
    return f"{(value - span[0]) / (span[1] - span[0]) * _SIZE:.4g}"


def y_of(value: float, bounds: Bounds) -> str:
    """Return a place on the vertical axis in the units of a drawing; what lies outside is put on its edge."""
    low, high = bounds
    return f"{(1 - (min(max(value, low), high) - low) / (high - low)) * _SIZE:.4g}"


def percent_x(value: float, span: Bounds) -> float:
    """Return a place on the horizontal axis in percent from the left."""
    return round((value - span[0]) / (span[1] - span[0]) * 100, 2)


def percent_y(value: float, bounds: Bounds) -> float:
    """Return a place on the vertical axis in percent from the top; what lies outside is put on its edge."""
    low, high = bounds
    return round((1 - (min(max(value, low), high) - low) / (high - low)) * 100, 2)


STEPS = Axis("step", "steps", lambda value: f"{value:,.0f}")
TOKENS = Axis("tokens", "tokens", compact)
