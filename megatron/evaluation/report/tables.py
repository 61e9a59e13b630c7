"""Building blocks of the report: sections, notes, and tables that sort by every column and can be searched."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from html import escape


@dataclasses.dataclass(frozen=True)
class Column:
    """Head of a column; ``css`` is ``n`` for numbers, ``bars`` for bars; ``key`` is HTML before the label."""

    label: str
    css: str = ""
    sortable: bool = True
    hint: str = ""
    key: str = ""


def table(
    columns: Sequence[Column], rows: Sequence[tuple[str, str]], *, searchable: str = "", css: str = "", extra: str = ""
) -> str:
    """Lay out rows of ready-made cells.

    Args:
        columns: heads, one per cell.
        rows: (class of the row, its cells as HTML). A row of class ``total`` stays last however the table is sorted.
        searchable: what the rows are, e.g. ``languages``: adds a search box, and lets a long table scroll.
        css: ``long`` lets a long table scroll without one; ``stack`` makes every row a block of text on a phone.
        extra: HTML behind the search box.
    """
    heads = []
    for column in columns:
        label = escape(column.label)
        title = f' title="{escape(column.hint)}"' if column.hint else ""
        inner = f'<button type="button"{title}>{label}</button>' if column.sortable else label
        inner = column.key + inner
        heads.append(f'<th class="{column.css}" scope="col">{inner}</th>')
    body = "".join(f'<tr class="{kind}">{cells}</tr>' if kind else f"<tr>{cells}</tr>" for kind, cells in rows)
    search = ""
    if searchable:
        search = (
            f'<div class="search"><input type="search" placeholder="Filter {len(rows):,} {escape(searchable)}" '
            f'aria-label="Filter {escape(searchable)}"><select aria-label="Tier"><option value="">all tiers</option>'
            f"</select>{extra}<output></output></div>"
        )
    boxes = f"scroll long {css}".strip() if searchable else f"scroll {css}".strip()
    return (
        f'<div class="tablebox">{search}<div class="{boxes}"><table><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></div>"
    )


def cell(text: str, value: float | None = None) -> str:
    """Return a number's cell; ``value`` sorts it when the text has been rounded or has a unit."""
    data = f' data-v="{value:.6g}"' if value is not None and math.isfinite(value) else ""
    return f'<td class="n"{data}>{escape(text)}</td>'


def name_cell(text: str, *, code: bool = False) -> str:
    """Return a name's cell, isolated so that its writing direction cannot disturb its neighbours."""
    inner = f"<bdi>{escape(text)}</bdi>" if text else "–"
    return f"<td><code>{inner}</code></td>" if code else f"<td>{inner}</td>"


def tier_cell(name: str, css: str) -> str:
    """Return a tier's cell with the dot in its colour."""
    dot = f'<i class="tier {css}"></i>' if css else ""
    return f'<td class="tiername">{dot}<bdi>{escape(name)}</bdi></td>'


def percent(value: float) -> str:
    """Write a share: ``12.3%``; below 1% with three decimals, since a share of a small corpus is small."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.1%}" if value == 0 or abs(value) >= 0.01 else f"{value:.3%}"


def signed_percent(value: float) -> str:
    """Write a relative change with its sign: ``−12.3%``."""
    return f"{value:+.1%}".replace("-", "−") if math.isfinite(value) else "–"


def section(anchor: str, title: str, lead: str, body: str) -> str:
    """Return a section of the page under its heading."""
    intro = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{intro}{body}</section>'


def note(text: str) -> str:
    """Return a sentence that stands for something missing or cut."""
    return f'<p class="note">{escape(text)}</p>'
