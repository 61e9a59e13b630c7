"""The table of all languages of a benchmark: values of every model, and changes against the base."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from megatron.evaluation.report.data import language_name
from megatron.evaluation.report.scale import compact
from megatron.evaluation.report.scores.forms import (
    also,
    change_cell,
    change_column,
    digits_of,
    items_cell,
    language_cell,
    value_text,
)
from megatron.evaluation.report.scores.summary import TableSummary
from megatron.evaluation.report.scores.sureness import is_undecided, mark_of, own_of, own_text
from megatron.evaluation.report.scores.values import Row
from megatron.evaluation.report.tables import Column, cell, table, tier_cell
from megatron.evaluation.results import LOSSY

_COLUMNS = (
    '<select class="show" aria-label="Columns" hidden><option value="">values and changes</option>'
    '<option value="changes">changes</option><option value="values">values</option></select>'
)
_INTERVAL = Column("95% interval", "n dif lesser", sortable=False, hint="of the change, over documents")


def language_table(entry: TableSummary, names: Sequence[str], tiers: Mapping[str, str]) -> str:
    """Lay out a row for each language that any model has; what is in no mean stands aside, in grey.

    Args:
        entry: the values.
        names: of the models.
        tiers: name to class; empty where no tiers are known.
    """
    values, present = entry.table, entry.table.present
    with_tokens = any(row.language.tokens is not None for row in values.rows)
    others = [model for model in present if model] if 0 in present else []
    columns = [Column("Language")]
    columns += [Column("Tier", "lesser")] if tiers else []
    columns += [Column("Training tokens", "n lesser")] if with_tokens else []
    columns += [Column("Items", "n lesser", hint="texts or questions")] if values.item_counts else []
    for model in present:
        columns.append(Column(names[model], "n run val" if model in others else "n run"))
        columns += [change_column(names[model], names[0], "n dif")] if model in others else []
        columns += [_INTERVAL] if model in others and entry.own else []
    found = [abs(values.change(row, model)) for row in values.rows for model in others]
    # A few extremes must not make all other bars invisible; theirs are cut.
    finite = sorted(change for change in found if math.isfinite(change))
    largest = finite[int(0.97 * (len(finite) - 1))] if finite else 0.0
    rows, common = [], _common(values.rows)
    for row in sorted(values.rows, key=lambda row: (language_name(row.language.code) or row.language.code)):
        cells = language_cell(row.language, language_name(row.language.code), _marks(row, common))
        cells += tier_cell(row.language.tier, tiers.get(row.language.tier, "")) if tiers else ""
        cells += _tokens(row.language.tokens) if with_tokens else ""
        cells += items_cell(row.items) if values.item_counts else ""
        cells += _values(entry, row, others, largest)
        rows.append(("" if values.is_usable(row, present) else "aside", cells))
    return table(columns, rows, searchable="languages", css="scores", extra=_COLUMNS if others else "")


def _values(entry: TableSummary, row: Row, others: Sequence[int], largest: float) -> str:
    values, digits, cells = entry.table, digits_of(entry.table), ""
    for model in values.present:
        text = cell(value_text(row.values[model], digits))
        cells += also(text, "val") if model in others else text
        if model in others:
            own = own_of(entry, row.language, model)
            change = change_cell(
                values, values.change(row, model), digits, largest, mark=mark_of(own), plain=is_undecided(own)
            )
            cells += also(change, "dif")
            if entry.own:
                cells += also(cell(own_text(entry, own, digits)), "dif lesser")
    return cells


def _common(rows: Sequence[Row]) -> frozenset[str]:
    """Return the flags that all of several languages have: the notes above tell of them."""
    return frozenset.intersection(*(frozenset(row.all_flags) for row in rows)) if len(rows) > 1 else frozenset()


def _marks(row: Row, common: frozenset[str]) -> list[str]:
    """Return the flags that tell languages apart; that it was a trial run stands at the top of the page."""
    return [flag for flag in row.all_flags if flag not in common - {LOSSY} and not flag.startswith("limit=")]


def _tokens(tokens: int | None) -> str:
    return also(cell("–") if tokens is None else cell(compact(tokens), tokens), "lesser")
