"""Parts of the report's charts: inline SVG that stretches to any width, with HTML labels that keep their size."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from html import escape
from typing import Any

import orjson

from megatron.evaluation.report.scale import Axis, Bounds, Format, nice_ticks, percent_x, percent_y, x_of, y_of

Points = Sequence[tuple[float, float | None]]

_LABEL_ROOM = 9.0  # percent of a wide chart that a mark's label needs
_NARROW_LABEL_ROOM = 30.0  # the same on a phone


@dataclasses.dataclass(frozen=True)
class Mark:
    """A dashed line across a chart; ``css`` may be ``wrong`` for something that went wrong."""

    place: int
    label: str
    css: str = ""


def heading(title: str, note: str) -> str:
    """Return the heading of a figure, with a sentence beside it."""
    return f'<figcaption><b>{escape(title)}</b>{f"<span>{escape(note)}</span>" if note else ""}</figcaption>'


def legend(groups: Sequence[tuple[str, str]]) -> str:
    """Return a legend of dots from (name, class)."""
    return _legend("<i></i>", groups)


def line_legend(groups: Sequence[tuple[str, str]]) -> str:
    """Return a legend of short lines, which show dashes too, from (name, class)."""
    return _legend(line_key(""), groups)


def line_key(css: str) -> str:
    """Return a short line as a class draws it."""
    return f'<svg class="key {css}" viewBox="0 0 34 8" aria-hidden="true"><path class="line" d="M0 4H34"/></svg>'


def _legend(key: str, groups: Sequence[tuple[str, str]]) -> str:
    items = "".join(f'<li class="{css}">{key}<bdi>{escape(name)}</bdi></li>' for name, css in groups)
    return f'<ul class="legend">{items}</ul>'


def svg(body: str) -> str:
    """Put a drawing of 1000 by 1000 into an element that stretches."""
    return f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">{body}</svg>'


def json_data(data: Any, css: str, group: str = "") -> str:
    """Return the values that hovering shows."""
    # "<" is escaped so that no text inside can end the element.
    text = orjson.dumps(data).decode().replace("<", "\\u003c")
    return f'<script type="application/json" class="{css}" data-group="{group}">{text}</script>'


def grid(bounds: Bounds) -> str:
    """Draw a line at every round number of the vertical axis."""
    lines = "".join(f"M0 {y_of(tick, bounds)}H1000" for tick in nice_ticks(*bounds))
    return f'<path class="grid" d="{lines}"/>'


def y_labels(bounds: Bounds, form: Format) -> str:
    """Write the round numbers of the vertical axis."""
    places = [(percent_y(tick, bounds), form(tick + 0.0)) for tick in nice_ticks(*bounds)]
    return "".join(f'<span style="top:{top}%">{escape(label)}</span>' for top, label in places)


def x_labels(span: Bounds, count: int, axis: Axis) -> str:
    """Write about ``count`` round numbers of the horizontal axis."""
    ticks = [tick for tick in nice_ticks(*span, count=count) if tick == int(tick)]
    labels = []
    for tick in ticks:
        place = percent_x(tick, span)
        css = ' class="first"' if place < 3 else ' class="last"' if place > 94 else ""
        labels.append(f'<span{css} style="left:{place}%">{escape(axis.form(tick))}</span>')
    return "".join(labels)


def path(points: Points, span: Bounds, bounds: Bounds, css: str) -> str:
    """Draw a line that is broken where a value is missing."""
    parts, drawing = [], False
    for x, y in points:
        if y is None:
            drawing = False
            continue
        parts.append(f"{'L' if drawing else 'M'}{x_of(x, span)} {y_of(y, bounds)}")
        drawing = True
    return f'<path class="{css}" d="{"".join(parts)}"/>'


def dots_path(points: Points, span: Bounds, bounds: Bounds, css: str) -> str:
    """Draw dots as lines without length and with round ends: they stay round however the drawing is stretched."""
    marks = "".join(f"M{x_of(x, span)} {y_of(y, bounds)}h.01" for x, y in points if y is not None)
    return f'<path class="{css}" d="{marks}"/>'


def tick_path(places: Sequence[int], span: Bounds, css: str, *, lane: tuple[float, float]) -> str:
    """Draw short vertical lines in a lane of the drawing, from one height to another in thousandths from the top."""
    lines = "".join(f"M{x_of(place, span)} {lane[0]:.4g}V{lane[1]:.4g}" for place in sorted(set(places)))
    return f'<path class="tick {css}" d="{lines}"/>' if lines else ""


def mark_lines(marks: Sequence[Mark], span: Bounds) -> str:
    """Draw the lines of marks, one for each place and class."""
    drawn = dict.fromkeys((x_of(mark.place, span), mark.css) for mark in marks)
    return "".join(f'<path class="mark {css}" d="M{x} 0V1000"/>' for x, css in drawn)


def mark_labels(marks: Sequence[Mark], span: Bounds) -> str:
    """Write the labels of marks, of those that have the room; what is tight on a phone is left out there."""
    labels, last, last_narrow = "", -100.0, -100.0
    for mark in sorted(marks, key=lambda mark: (mark.place, not mark.css)):
        at = percent_x(mark.place, span)
        if at - last < _LABEL_ROOM:
            continue
        css = "marklabel" + (" wrong" if mark.css else "") + (" before" if at > 70 else "")
        if at - last_narrow < _NARROW_LABEL_ROOM:
            css += " tight"
        else:
            last_narrow = at
        last = at
        labels += f'<span class="{css}" style="left:{at}%">{escape(mark.label)}</span>'
    return labels
