"""How the numbers of the report of scores read, on the page and in Markdown alike, and the cells that hold them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from megatron.evaluation.report.scores.values import Language, Table
from megatron.evaluation.report.tables import Column, cell, signed_percent

_ARROWS = {True: "↑", False: "↓"}


def title_of(table: Table) -> str:
    """Return the name of the metric with an arrow to where it is better."""
    return f"{table.metric} {_ARROWS[table.higher_is_better]}"


def digits_of(table: Table) -> int:
    """Return how many decimals the values of a metric are shown with: rates and bits per byte four, others two."""
    if table.metric == "information_parity":  # some languages are above 1
        return 4
    return 4 if table.largest <= 1.5 or (table.is_loss and table.largest < 20) else 2


def value_text(value: float, digits: int) -> str:
    """Write a value of a metric."""
    return f"{value:,.{digits}f}" if math.isfinite(value) else "–"


def change_text(table: Table, change: float, digits: int) -> str:
    """Write a change: of losses in percent, else the difference with its sign."""
    if not math.isfinite(change):
        return "–"
    if table.is_loss:
        return signed_percent(math.expm1(change))
    return f"{change:+,.{digits}f}".replace("-", "−")


def interval_text(table: Table, low: float, high: float, digits: int) -> str:
    """Write the confidence interval of a change."""
    if not math.isfinite(low):
        return "–"
    return f"{change_text(table, low, digits)} to {change_text(table, high, digits)}"


def change_cell(
    table: Table, change: float, digits: int, largest: float, *, mark: str = "", plain: bool = False
) -> str:
    """Return the cell of a change, in the colour of better or worse, with a bar as long as its part of the largest.

    Args:
        table: of the metric.
        change: see :meth:`Table.change`.
        digits: decimals.
        largest: change with the longest bar.
        mark: stands behind the number.
        plain: leave colour and bar out: it is not decided whether it is better or worse.
    """
    if not math.isfinite(change):
        return '<td class="n chg">–</td>'
    css = "" if plain else "good" if table.is_better(change) else "bad" if table.is_worse(change) else ""
    width = min(100.0, abs(change) / largest * 100) if largest > 0 else 0.0
    # The whole number sorts: what is rounded to the same may differ.
    return (
        f'<td class="n chg {css}" style="--w:{width:.0f}%" data-v="{change:.5g}">'
        f"{escape(change_text(table, change, digits) + mark)}</td>"
    )


def change_column(name: str, base: str, css: str = "n") -> Column:
    """Return the head of a model's changes, which names the model wherever its values beside them are not shown."""
    who = f'<span class="who"><bdi>{escape(name)}</bdi></span>'
    return Column("Change", css, hint=f"{name} against {base}", key=who)


def also(html: str, css: str) -> str:
    """Give the cell of a number one more class, such as ``lesser``: what a narrow screen has no room for."""
    return html.replace('class="n', f'class="n {css}', 1)


def choice(label: str, options: list[tuple[str, str]]) -> str:
    """Let the reader choose one of several parts of the page; without a script all are shown, each under its name.

    Args:
        label: what is chosen, for those who hear the page.
        options: (name, HTML); the first is shown first.
    """
    if len(options) == 1:
        return options[0][1]
    names = "".join(f"<option>{escape(name)}</option>" for name, _ in options)
    parts = "".join(f'<div class="option"><h4><bdi>{escape(name)}</bdi></h4>{html}</div>' for name, html in options)
    return (
        f'<div class="choice"><label class="choose" hidden>{escape(label)} <select aria-label="{escape(label)}">{names}'
        f"</select></label>{parts}</div>"
    )


def items_text(counts: Sequence[int]) -> str:
    """Write how many items values are of: one number where it is the same for all, else the least and the most."""
    known = sorted({count for count in counts if count})
    return "–" if not known else f"{known[0]:,}" if len(known) == 1 else f"{known[0]:,}–{known[-1]:,}"


def items_cell(counts: Sequence[int]) -> str:
    """Return the cell of a number of items, sorted by the least."""
    return also(cell(items_text(counts), min((count for count in counts if count), default=None)), "lesser")


def codes_text(codes: tuple[str, ...], most: int = 12) -> str:
    """Name codes, the first of many."""
    more = f" and {len(codes) - most:,} more" if len(codes) > most else ""
    return ", ".join(codes[:most]) + more


def language_cell(language: Language, name: str, flags: list[str]) -> str:
    """Return the cell of a language: its name, its code, and what a reader must know of it."""
    marks = "".join(f' <span class="flag">{escape(flag)}</span>' for flag in flags)
    head = f"<bdi>{escape(name)}</bdi> " if name else ""
    return f"<td>{head}<code><bdi>{escape(language.code)}</bdi></code>{marks}</td>"
