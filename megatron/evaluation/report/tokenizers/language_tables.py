"""The tables of all languages: one for each figure, with the tokenizers side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from megatron.evaluation.report.data import language_name
from megatron.evaluation.report.scale import compact
from megatron.evaluation.report.scores.forms import choice
from megatron.evaluation.report.tables import Column, cell, section, table, tier_cell
from megatron.evaluation.report.tokenizers.charts import bars_cell, colour_of
from megatron.evaluation.report.tokenizers.forms import FORMS
from megatron.evaluation.report.tokenizers.sections import decimal_or_dash, meaning
from megatron.evaluation.report.tokenizers.summary import Row, Summary


def languages_section(summary: Summary, tiers: Mapping[str, str]) -> str:
    """Return the section; the reader chooses the figure. What no language has a value of is left out."""
    figures = [each for row in summary.rows for each in row.figures]
    names = [name for name in FORMS if any(math.isfinite(getattr(each, name)) for each in figures)]
    options = [(f"{FORMS[name].title}: {meaning(summary, name)}", _table(summary, name, tiers)) for name in names]
    lead = "Click a head to sort."
    if summary.is_compared:
        lead += (
            " Marked uneven: the text has more or fewer records than the pivot's, so that a number may not stand for "
            "the same text in both."
        )
    return section("languages", "Languages", lead, choice("Figure", options))


def _table(summary: Summary, name: str, tiers: Mapping[str, str]) -> str:
    form, with_premium = FORMS[name], name == "premium"
    columns = [Column("Language"), Column("Script", "lesser")]
    columns += [Column("Tier", "lesser")] if tiers else []
    for number, tokenizer in enumerate(summary.names):
        columns.append(Column(tokenizer, "n run", key=f'<i class="tier {colour_of(number)}"></i>'))
    columns += [Column(form.title, "bars lesser", sortable=False)]
    if with_premium:
        columns += [Column("Byte premium", "n lesser", hint=f"bytes per byte of {summary.measured.pivot}")]
        columns += [Column("Same records", "n lesser", hint=f"that {summary.measured.pivot} has too")]
    columns += [Column("Text", "n lesser", hint="UTF-8 bytes that are measured")]
    found = [getattr(each, name) for row in summary.rows for each in row.figures]
    largest = max((value for value in found if math.isfinite(value)), default=0.0)
    rows = []
    for row in sorted(summary.rows, key=lambda row: _rank(row, name, form.higher_is_better)):
        values = [getattr(each, name) for each in row.figures]
        text = row.language.counts.text
        cells = _language_cell(row) + f'<td class="lesser"><code>{escape(row.language.script)}</code></td>'
        cells += tier_cell(row.tier, tiers.get(row.tier, "")).replace("tiername", "tiername lesser") if tiers else ""
        cells += "".join(cell(form.text(value), value) for value in values)
        cells += bars_cell(values, largest).replace('class="bars"', 'class="bars lesser"')
        if with_premium:
            parallel = row.language.parallel
            records = cell(f"{parallel.records:,}", parallel.records) if parallel else cell("–")
            cells += _lesser(cell(decimal_or_dash(row.byte_premium, 2), row.byte_premium)) + _lesser(records)
        cells += _lesser(cell(f"{compact(text.bytes)}B", text.bytes))
        rows.append(("" if any(map(math.isfinite, values)) else "aside", cells))
    return table(columns, rows, searchable="languages", css="scores tokens")


def _rank(row: Row, name: str, higher_is_better: bool) -> tuple[bool, float, str]:
    """Put the worst first, and last what has no value."""
    values = [value for each in row.figures if math.isfinite(value := getattr(each, name))]
    mean = math.fsum(values) / len(values) if values else 0.0
    return not values, mean if higher_is_better else -mean, row.language.code


def _language_cell(row: Row) -> str:
    language = row.language
    name = language_name(language.code)
    flags = ["uneven"] if language.parallel is not None and language.parallel.uneven else []
    marks = "".join(f' <span class="flag">{escape(flag)}</span>' for flag in flags)
    head = f"<bdi>{escape(name)}</bdi> " if name else ""
    return f"<td>{head}<code><bdi>{escape(language.code)}</bdi></code>{marks}</td>"


def _lesser(html: str) -> str:
    return html.replace('class="n"', 'class="n lesser"', 1)
