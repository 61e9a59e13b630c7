"""Charts of changes: dots in a lane for each tier with their quartiles, and dots over the tokens of training text."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from html import escape

from megatron.evaluation.report.drawing import dots_path, grid, heading, json_data, path, svg, y_labels
from megatron.evaluation.report.scale import Bounds, Format, compact, percent_x, percent_y, x_of, y_of

_MARGIN = 0.08  # of a lane, on both sides
_BINS = 12
_LEAST = 20  # dots behind a median


@dataclasses.dataclass(frozen=True)
class Spot:
    """One dot: what hovering tells of it and its value as text, place across (None where not known), value, group."""

    label: str
    text: str
    x: float | None
    y: float
    group: str
    css: str


@dataclasses.dataclass(frozen=True)
class Lane:
    """A group of dots side by side with others, in the colour of its class."""

    name: str
    css: str
    spots: Sequence[Spot]


def lane_chart(
    lanes: Sequence[Lane], *, title: str, note: str, bounds: Bounds, form: Format, what: str = "Changes of languages"
) -> str:
    """Draw a lane for each group: its dots in the order of their values, the middle half shaded, the median a bar.

    Args:
        lanes: the groups.
        title: heading of the figure.
        note: sentence beside it.
        bounds: ends of the vertical axis.
        form: writes a value.
        what: is drawn, for those who hear the page.
    """
    span = (0.0, float(len(lanes)))
    body, placed = "", []
    for number, lane in enumerate(lanes):
        ordered = sorted(lane.spots, key=lambda spot: (spot.y, spot.label))
        room = (1 - 2 * _MARGIN) / len(ordered)
        points = [(number + _MARGIN + (place + 0.5) * room, spot) for place, spot in enumerate(ordered)]
        body += _box(number, lane.css, [spot.y for spot in ordered], span, bounds)
        body += dots_path([(x, spot.y) for x, spot in points], span, bounds, f"dots {lane.css}")
        placed += points
    names = "".join(
        f'<span style="left:{percent_x(number + 0.5, span)}%;width:{100 / len(lanes):.3g}%"><bdi>{escape(lane.name)}'
        f"</bdi><small>{len(lane.spots):,}</small></span>"
        for number, lane in enumerate(lanes)
    )
    return _figure(body, placed, names, "lane", title=title, note=note, span=span, bounds=bounds, form=form, what=what)


def token_chart(
    spots: Sequence[Spot], groups: Sequence[tuple[str, str]], *, title: str, note: str, bounds: Bounds, form: Format
) -> str:
    """Draw dots over the decimal logarithm of tokens, with the median of every twelfth part of them as a line."""
    placed = sorted(((spot.x, spot) for spot in spots if spot.x is not None), key=lambda pair: (pair[0], pair[1].label))
    span = (placed[0][0] - 0.1, placed[-1][0] + 0.1) if placed else (0.0, 1.0)
    classes = dict.fromkeys([*(css for _, css in groups), *(spot.css for _, spot in placed)])
    body = "".join(
        dots_path([(x, spot.y) for x, spot in placed if spot.css == css], span, bounds, f"dots {css}")
        for css in classes
        if any(spot.css == css for _, spot in placed)
    )
    body += path(_medians([(x, spot.y) for x, spot in placed]), span, bounds, "smooth")
    powers = range(int(span[0]) + 1, int(span[1]) + 1)
    marks = "".join(
        f'<span style="left:{percent_x(power, span)}%">{escape(compact(10.0**power))}</span>' for power in powers
    )
    return _figure(body, placed, marks, "", title=title, note=note, span=span, bounds=bounds, form=form)


def _figure(
    body: str, placed: Sequence[tuple[float, Spot]], labels: str, css: str, *, title: str, note: str, span: Bounds,
    bounds: Bounds, form: Format, what: str = "Changes of languages",
) -> str:  # fmt: skip
    outside = sum(not bounds[0] <= spot.y <= bounds[1] for _, spot in placed)
    notes = [*([note] if note else []), *([f"{outside:,} outside the picture, on its edge"] if outside else [])]
    zero = y_of(0.0, bounds)
    data = {
        "labels": [spot.label for _, spot in placed],
        "y": [spot.text for _, spot in placed],
        "x": [percent_x(x, span) for x, _ in placed],
        "at": [percent_y(spot.y, bounds) for _, spot in placed],
    }
    return (
        f'<figure class="chart">{heading(title, "; ".join(notes))}<div class="frame">'
        f'<div class="ys">{y_labels(bounds, form)}</div><div class="plot" role="img" '
        f'aria-label="{escape(what)}: {escape(title)}">'
        f'{svg(grid(bounds) + f"""<path class="zero" d="M0 {zero}H1000"/>""" + body)}'
        f'<div class="cross"></div><div class="tip"></div></div><div class="xs {css}">{labels}</div>'
        f'{json_data(data, "dots-data")}</div></figure>'
    )


def _box(number: int, css: str, ys: Sequence[float], span: Bounds, bounds: Bounds) -> str:
    """Shade the middle half of ascending values in a lane, with a bar at their median."""
    low, middle, high = statistics.quantiles(ys, n=4, method="inclusive") if len(ys) > 1 else [ys[0]] * 3
    left, right = x_of(number + _MARGIN / 2, span), x_of(number + 1 - _MARGIN / 2, span)
    return (
        f'<path class="box {css}" d="M{left} {y_of(low, bounds)}H{right}V{y_of(high, bounds)}H{left}Z"/>'
        f'<path class="line {css}" d="M{left} {y_of(middle, bounds)}H{right}"/>'
    )


def _medians(points: Sequence[tuple[float, float]]) -> list[tuple[float, float | None]]:
    """Return the medians of equally many neighbours each; nothing where there are too few to say anything."""
    bins = min(_BINS, len(points) // _LEAST)
    if bins < 2:
        return []
    ends = [(number + 1) * len(points) // bins for number in range(bins)]
    parts = [points[start:stop] for start, stop in zip([0, *ends[:-1]], ends, strict=True)]
    return [(statistics.median(x for x, _ in part), statistics.median(y for _, y in part)) for part in parts]
