"""Charts of the report: one curve, several lines, or dots, each with its axes and the values that hovering shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from html import escape

from megatron.evaluation.report.curve import Curve, notes_on
from megatron.evaluation.report.drawing import (
    Mark,
    dots_path,
    grid,
    heading,
    json_data,
    legend,
    mark_labels,
    mark_lines,
    path,
    svg,
    x_labels,
    y_labels,
)
from megatron.evaluation.report.scale import (
    STEPS,
    Axis,
    Bounds,
    Format,
    percent_x,
    percent_y,
    span_of,
    value_bounds,
    y_of,
)


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


def curve_chart(
    data: Curve, *, title: str, name: str, form: Format, zero: bool, marks: Sequence[Mark] = (), note: str = "",
    css: str = "",
) -> str:
    """Draw one curve: every value faintly, the smoothed line on top, dashed lines at ``marks``."""
    bounds = value_bounds(data.values, data.smooth, zero=zero)
    span = span_of(data.steps)
    body = path(data.raw(), span, bounds, "raw")
    body += path(list(zip(data.steps, data.smooth, strict=True)), span, bounds, "smooth")
    lines = [Line(name, data.mean, "")]
    if data.smooth != data.mean:
        lines.append(Line("smoothed", data.smooth, ""))
    notes = [*([note] if note else []), *notes_on(data, top=bounds[1], form=form)]
    return figure(
        title=title, note="; ".join(notes), body=body, places=data.steps, lines=lines, span=span, bounds=bounds,
        form=form, marks=marks, css=css, group="train",
    )  # fmt: skip


def lines_chart(steps: Sequence[int], lines: Sequence[Line], *, title: str, form: Format, css: str = "") -> str:
    """Draw several lines over the same steps, with a dot at every point and a legend."""
    values = [value for line in lines for value in line.ys if value is not None]
    bounds, span = value_bounds(values, values, zero=False), span_of(steps)
    body = ""
    for line in lines:
        points = list(zip(steps, line.ys, strict=True))
        body += path(points, span, bounds, f"line {line.css}")
        body += dots_path(points, span, bounds, f"dots {line.css}") if len(steps) <= 60 else ""
    return figure(
        title=title, note="", body=body, places=steps, lines=lines, span=span, bounds=bounds, form=form, css=css,
        group="validation", key=legend([(line.name, line.css) for line in lines]),
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
    zero = y_of(0.0, bounds)
    body = f'<path class="zero" d="M0 {zero}H1000"/>'
    for _, css in groups:
        points: list[tuple[float, float | None]] = [(i, dot.y) for i, dot in enumerate(dots) if dot.css == css]
        body += dots_path(points, span, bounds, f"dots {css}")
    heights = [percent_y(y, bounds) for y in ys]
    data = {"labels": [dot.label for dot in dots], "y": [form(y) for y in ys], "at": heights}
    return (
        f'<figure class="chart tall">{heading(title, note)}{legend(groups)}'
        f'<div class="frame"><div class="ys">{y_labels(bounds, form)}</div>'
        f'<div class="plot" role="img" aria-label="{escape(title)}">{svg(grid(bounds) + body)}'
        f'<div class="cross"></div><div class="tip"></div></div>{json_data(data, "dots-data")}</div></figure>'
    )


def figure(
    *, title: str, note: str, body: str, places: Sequence[int], lines: Sequence[Line], span: Bounds, bounds: Bounds,
    form: Format, css: str, group: str, marks: Sequence[Mark] = (), key: str = "", axis: Axis = STEPS,
    every_line: bool = False,
) -> str:
    """Put a drawing over steps or tokens together with its axes, its heading and the values that hovering shows.

    Args:
        title: heading.
        note: sentence beside the heading.
        body: the drawing, in SVG.
        places: on the horizontal axis, where ``lines`` have their values.
        lines: the values that hovering shows.
        span: ends of the horizontal axis.
        bounds: ends of the vertical axis.
        form: writes a value.
        css: class of the figure, e.g. ``wide``.
        group: charts of one group have the same places and move together under the pointer.
        marks: dashed lines across the drawing.
        key: the legend.
        axis: what the horizontal axis counts.
        every_line: show all lines when the pointer is over another chart of the group, not the last alone.
    """
    data = {
        "steps": places,
        "unit": axis.unit,
        "every": every_line,
        "at": [percent_x(place, span) for place in places],
        "lines": [
            {"name": line.name, "css": line.css, "y": [None if y is None else form(y) for y in line.ys]}
            for line in lines
        ],
    }
    return (
        f'<figure class="chart {css}">{heading(title, note)}{key}<div class="frame">'
        f'<div class="ys">{y_labels(bounds, form)}</div>'
        f'<div class="plot" role="img" aria-label="{escape(title)} over {axis.plural}">'
        f"{svg(grid(bounds) + mark_lines(marks, span) + body)}{mark_labels(marks, span)}"
        f'<div class="cross"></div><div class="tip"></div></div>'
        f'<div class="xs">{x_labels(span, 7 if css else 4, axis)}</div>{json_data(data, "line-data", group)}'
        "</div></figure>"
    )
