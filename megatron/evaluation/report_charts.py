"""Charts of the report as inline SVG with HTML labels: the drawing stretches to any width, the text keeps its size."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import orjson

SMOOTHING = 0.02

_POINTS = 360
_SIZE = 1000.0
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))

Format = Callable[[float], str]


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


@dataclasses.dataclass(frozen=True)
class Line:
    """One named line of a chart; ``ys`` may have gaps (None)."""

    name: str
    ys: Sequence[float | None]
    css: str


@dataclasses.dataclass(frozen=True)
class Dot:
    """One dot of a dot chart; ``css`` is its group's class."""

    label: str
    y: float
    css: str


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


def value_bounds(values: Sequence[float], shown: Sequence[float | None] = (), *, zero: bool) -> tuple[float, float]:
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


def curve_chart(
    data: Curve, *, title: str, name: str, form: Format, zero: bool, markers: Sequence[tuple[int, str]] = (),
    caption: str = "", css: str = "",
) -> str:
    """Draw one curve: every value faintly, the smoothed line on top, dashed lines at ``markers`` (step, label)."""
    bounds = value_bounds(data.values, data.smooth, zero=zero)
    span = _span(data.steps)
    raw: list[tuple[float, float | None]] = []
    for step, low, high in zip(data.steps, data.low, data.high, strict=True):
        raw.append((step, low))
        if high != low:
            raw.append((step, high))
    body = _path(raw, span, bounds, "raw")
    body += _path(list(zip(data.steps, data.smooth, strict=True)), span, bounds, "smooth")
    lines = [Line(name, data.mean, "")]
    if data.smooth != data.mean:
        lines.append(Line("smoothed", data.smooth, ""))
    above = sum(value > bounds[1] for value in data.values)
    notes = [caption] if caption else []
    if above:
        notes.append(f"{above:,} step{'s' if above > 1 else ''} above the chart, up to {form(max(data.values))}")
    if data.not_finite:
        count = len(data.not_finite)
        where = f"step {data.not_finite[0]:,}" if count == 1 else f"{count:,} steps, first {data.not_finite[0]:,}"
        notes.append(f"not a finite number at {where}")
    return _figure(
        title=title, note="; ".join(notes), body=body, steps=data.steps, lines=lines, span=span, bounds=bounds,
        form=form, markers=markers, css=css, group="train",
    )  # fmt: skip


def lines_chart(steps: Sequence[int], lines: Sequence[Line], *, title: str, form: Format, css: str = "") -> str:
    """Draw several lines over the same steps, with a dot at every point and a legend."""
    values = [value for line in lines for value in line.ys if value is not None]
    bounds, span = value_bounds(values, values, zero=False), _span(steps)
    body = ""
    for line in lines:
        points = list(zip(steps, line.ys, strict=True))
        body += _path(points, span, bounds, f"line {line.css}")
        body += _dots(points, span, bounds, f"dots {line.css}") if len(steps) <= 60 else ""
    return _figure(
        title=title, note="", body=body, steps=steps, lines=lines, span=span, bounds=bounds, form=form, markers=(),
        css=css, group="validation", legend=_legend([(line.name, line.css) for line in lines]),
    )  # fmt: skip


def dot_chart(dots: Sequence[Dot], groups: Sequence[tuple[str, str]], *, title: str, note: str, form: Format) -> str:
    """Draw dots from left to right in the given order around a line at zero.

    Args:
        dots: in the order of drawing.
        groups: (name, class) of the legend.
        title: heading of the figure.
        note: sentence under the heading.
        form: writes a value.
    """
    ys = [dot.y for dot in dots]
    bounds, span = value_bounds(ys, [*ys, 0.0], zero=False), (-0.5, max(0.5, len(dots) - 0.5))
    zero = _y(0.0, bounds)
    body = f'<path class="zero" d="M0 {zero}H1000"/>'
    for _, css in groups:
        points: list[tuple[float, float | None]] = [(i, dot.y) for i, dot in enumerate(dots) if dot.css == css]
        body += _dots(points, span, bounds, f"dots {css}")
    heights = [_percent_y(y, bounds) for y in ys]
    data = {"labels": [dot.label for dot in dots], "y": [form(y) for y in ys], "at": heights}
    return (
        f'<figure class="chart tall">{_caption(title, note)}{_legend(groups)}'
        f'<div class="frame"><div class="ys">{_y_labels(bounds, form)}</div>'
        f'<div class="plot" role="img" aria-label="{escape(title)}">{_svg(_grid(bounds) + body)}'
        f'<div class="cross"></div><div class="tip"></div></div>{_json(data, "dots-data")}</div></figure>'
    )


def _figure(
    *, title: str, note: str, body: str, steps: Sequence[int], lines: Sequence[Line], span: tuple[float, float],
    bounds: tuple[float, float], form: Format, markers: Sequence[tuple[int, str]], css: str, group: str,
    legend: str = "",
) -> str:
    """Put a drawing over steps together with its axes, its heading and the values that hovering shows."""
    marks = "".join(f'<path class="mark" d="M{_x(step, span)} 0V1000"/>' for step, _ in markers)
    labels = "".join(
        f'<span class="marklabel" style="left:{_percent_x(step, span)}%">{escape(label)}</span>'
        for step, label in markers[:6]
    )
    data = {
        "steps": steps,
        "at": [_percent_x(step, span) for step in steps],
        "lines": [
            {"name": line.name, "css": line.css, "y": [None if y is None else form(y) for y in line.ys]}
            for line in lines
        ],
    }
    return (
        f'<figure class="chart {css}">{_caption(title, note)}{legend}<div class="frame">'
        f'<div class="ys">{_y_labels(bounds, form)}</div>'
        f'<div class="plot" role="img" aria-label="{escape(title)} over steps">'
        f"{_svg(_grid(bounds) + marks + body)}{labels}"
        f'<div class="cross"></div><div class="tip"></div></div>'
        f'<div class="xs">{_x_labels(span, 7 if css else 4)}</div>{_json(data, "line-data", group)}</div></figure>'
    )


def _caption(title: str, note: str) -> str:
    return f'<figcaption><b>{escape(title)}</b>{f"<span>{escape(note)}</span>" if note else ""}</figcaption>'


def _legend(groups: Sequence[tuple[str, str]]) -> str:
    items = "".join(f'<li class="{css}"><i></i><bdi>{escape(name)}</bdi></li>' for name, css in groups)
    return f'<ul class="legend">{items}</ul>'


def _svg(body: str) -> str:
    return f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">{body}</svg>'


def _json(data: Any, css: str, group: str = "") -> str:
    # "<" is escaped so that no text inside can end the element.
    text = orjson.dumps(data).decode().replace("<", "\\u003c")
    return f'<script type="application/json" class="{css}" data-group="{group}">{text}</script>'


def _grid(bounds: tuple[float, float]) -> str:
    lines = "".join(f"M0 {_y(tick, bounds)}H1000" for tick in nice_ticks(*bounds))
    return f'<path class="grid" d="{lines}"/>'


def _y_labels(bounds: tuple[float, float], form: Format) -> str:
    places = [(_percent_y(tick, bounds), form(tick + 0.0)) for tick in nice_ticks(*bounds)]
    return "".join(f'<span style="top:{top}%">{escape(label)}</span>' for top, label in places)


def _x_labels(span: tuple[float, float], count: int) -> str:
    ticks = [tick for tick in nice_ticks(*span, count=count) if tick == int(tick)]
    labels = []
    for tick in ticks:
        place = _percent_x(tick, span)
        css = ' class="first"' if place < 3 else ' class="last"' if place > 94 else ""
        labels.append(f'<span{css} style="left:{place}%">{tick:,.0f}</span>')
    return "".join(labels)


def _span(steps: Sequence[int]) -> tuple[float, float]:
    low, high = (steps[0], steps[-1]) if steps else (0, 1)
    # The first point of a run from its beginning stands for the steps from 1 on: the axis starts at 0.
    low = 0 if low <= 0.05 * high else low
    return float(low), float(max(high, low + 1))


def _x(value: float, span: tuple[float, float]) -> str:
    return f"{(value - span[0]) / (span[1] - span[0]) * _SIZE:.4g}"


def _y(value: float, bounds: tuple[float, float]) -> str:
    low, high = bounds
    return f"{(1 - (min(max(value, low), high) - low) / (high - low)) * _SIZE:.4g}"


def _percent_x(value: float, span: tuple[float, float]) -> float:
    return round((value - span[0]) / (span[1] - span[0]) * 100, 2)


def _percent_y(value: float, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return round((1 - (min(max(value, low), high) - low) / (high - low)) * 100, 2)


def _path(
    points: Sequence[tuple[float, float | None]], span: tuple[float, float], bounds: tuple[float, float], css: str
) -> str:
    """Draw a line that is broken where a value is missing."""
    parts, drawing = [], False
    for x, y in points:
        if y is None:
            drawing = False
            continue
        parts.append(f"{'L' if drawing else 'M'}{_x(x, span)} {_y(y, bounds)}")
        drawing = True
    return f'<path class="{css}" d="{"".join(parts)}"/>'


def _dots(
    points: Sequence[tuple[float, float | None]], span: tuple[float, float], bounds: tuple[float, float], css: str
) -> str:
    """Draw dots as lines without length and with round ends: they stay round however the drawing is stretched."""
    marks = "".join(f"M{_x(x, span)} {_y(y, bounds)}h.01" for x, y in points if y is not None)
    return f'<path class="{css}" d="{marks}"/>'
