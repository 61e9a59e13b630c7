"""Pictures of tokenizers: every language in the order of a figure, and bars beside numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from html import escape

from megatron.evaluation.report.drawing import dots_path, grid, heading, json_data, legend, svg, y_labels
from megatron.evaluation.report.scale import Bounds, Format, percent_x, percent_y, value_bounds, y_of

_COLOURS = (1, 4, 2, 5, 6, 3, 0, 7)  # neighbours among the tokenizers should be far apart in colour

_LABELLED = 4  # of the languages at the far end, those whose labels do not meet
_LABEL_HEIGHT = 6.0  # percent of the picture


@dataclasses.dataclass(frozen=True)
class Series:
    """The values of one tokenizer, in the order of the languages; NaN where there is none."""

    name: str
    values: Sequence[float]


def colour_of(number: int) -> str:
    """Return the class of a tokenizer, which gives it its colour."""
    return f"t{_COLOURS[number % len(_COLOURS)]}"


def ranked_chart(
    labels: Sequence[str], series: Sequence[Series], *, ends: Sequence[str], title: str, note: str, form: Format,
    line: float | None,
) -> str:  # fmt: skip
    """Draw a dot for each language and tokenizer, the languages from left to right in the order given.

    Args:
        labels: of the languages, for hovering.
        series: one for each tokenizer.
        ends: other, short labels: those of a few languages at both ends are written into the picture.
        title: heading of the figure.
        note: sentence beside it.
        form: writes a value.
        line: a value to draw a line at, such as the pivot's.
    """
    values = [value for each in series for value in each.values if not math.isnan(value)]
    bounds, span = value_bounds(values, [*values, 0.0], zero=True), (-0.5, max(0.5, len(labels) - 0.5))
    body = f'<path class="zero" d="M0 {y_of(line, bounds)}H1000"/>' if line is not None else ""
    for number, each in enumerate(series):
        points = [(float(i), None if math.isnan(value) else value) for i, value in enumerate(each.values)]
        body += dots_path(points, span, bounds, f"dots {colour_of(number)}")
    return (
        f'<figure class="chart tall ranked">{heading(title, note)}'
        f"{legend([(each.name, colour_of(number)) for number, each in enumerate(series)])}"
        f'<div class="frame"><div class="ys">{y_labels(bounds, form)}</div>'
        f'<div class="plot" role="img" aria-label="{escape(title)}">{svg(grid(bounds) + body)}'
        f'{_end_labels(ends, series, span, bounds)}<div class="cross"></div><div class="tip"></div></div>'
        f'{json_data(_hovering(labels, series, span, bounds, form), "dots-data")}</div></figure>'
    )


def bars_cell(values: Sequence[float], largest: float) -> str:
    """Return a cell with a bar for each tokenizer, as long as its part of the largest value."""
    bars = "".join(
        f'<span class="bar new {colour_of(number)}" style="width:{_width(value, largest):.1f}%"></span>'
        for number, value in enumerate(values)
    )
    return f'<td class="bars">{bars}</td>'


def _hovering(
    labels: Sequence[str], series: Sequence[Series], span: Bounds, bounds: Bounds, form: Format
) -> dict[str, list[float] | list[str]]:
    """Return what hovering over a language shows: the values of all tokenizers."""
    texts, first = [], []
    for place in range(len(labels)):
        known = [(each.name, each.values[place]) for each in series if not math.isnan(each.values[place])]
        texts.append("\n".join(f"{name}  {form(value)}" for name, value in known))
        first.append(known[0][1] if known else 0.0)
    return {
        "labels": list(labels),
        "y": texts,
        "x": [percent_x(float(place), span) for place in range(len(labels))],
        "at": [percent_y(value, bounds) for value in first],
    }


def _end_labels(labels: Sequence[str], series: Sequence[Series], span: Bounds, bounds: Bounds) -> str:
    """Write the last languages beside their highest dots, those whose labels do not meet, and the first one above."""
    html, taken = "", [math.inf]
    for at in range(len(labels) - 1, max(0, len(labels) - 1 - _LABELLED), -1):
        height = _height(series, at, bounds)
        if min(abs(height - other) for other in taken) >= _LABEL_HEIGHT:
            taken.append(height)
            html += _end_label(labels[at], "marklabel before", percent_x(float(at), span), height)
    if len(labels) > _LABELLED:
        height = _height(series, 0, bounds) - 2 * _LABEL_HEIGHT  # its neighbours are as low
        html += _end_label(labels[0], "marklabel", percent_x(0.0, span), height)
    return html


def _height(series: Sequence[Series], at: int, bounds: Bounds) -> float:
    return percent_y(max((each.values[at] for each in series if not math.isnan(each.values[at])), default=0.0), bounds)


def _end_label(label: str, css: str, left: float, top: float) -> str:
    place = f"left:{left}%;top:calc({top:.4g}% - 8px)"
    return f'<span class="{css}" style="{place}"><bdi>{escape(label)}</bdi></span>'


def _width(value: float, largest: float) -> float:
    return 0.0 if math.isnan(value) or largest <= 0 else min(100.0, value / largest * 100)
