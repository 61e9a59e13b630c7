"""All benchmarks and models at a glance, and what is known of the models."""

from __future__ import annotations

import math
from html import escape

from megatron.evaluation.report.scores.forms import also, change_cell, digits_of, items_cell, title_of, value_text
from megatron.evaluation.report.scores.summary import Summary, TableSummary
from megatron.evaluation.report.tables import Column, cell, note, section, table

_MAX_CHARACTERS = 200


def overview_section(summary: Summary) -> str:
    """Return the table of benchmarks and models: means over the languages that all models can be compared in."""
    names = summary.evaluation.names
    columns = [Column("Benchmark"), Column("Metric"), Column("Languages", "n lesser"), Column("Left out", "n lesser")]
    columns.append(Column("Items", "n lesser", hint="texts or questions of a language"))
    columns.append(Column(names[0], "n run", hint="the base"))
    for name in names[1:]:
        columns += [Column(name, "n run"), Column("Change", "n", hint=f"{name} against {names[0]}")]
    trials = {trial.benchmark for trial in summary.evaluation.trials}
    rows = [("", _overview_cells(entry, entry.table.benchmark in trials)) for entry in summary.main]
    lead = (
        f"Means over the languages that all models can be compared in, each with the same weight. Changes are against "
        f"{names[0]}: for losses (bits per byte, NLL) the geometric mean of the languages' ratios, for all else the "
        "mean difference. An arrow points to where a metric is better."
    )
    ignored = summary.evaluation.ignored
    passed = note("Passed over in tables, being no language: " + "; ".join(ignored) + ".") if ignored else ""
    near = summary.evaluation.other_scripts
    told = ", ".join(f"{code} ({', '.join(others)})" for code, others in near.items())
    passed += note(f"Without a tier, though their language has one in another script: {told}.") if near else ""
    return section("overview", "Overview", lead, table(columns, rows, css="overview") + passed)


def models_section(summary: Summary) -> str:
    """Return what tells the models apart."""
    rows = []
    for number, model in enumerate(summary.evaluation.models):
        told = "; ".join(f"{key}: {value}" for key, value in model.facts.items() if key != "name")
        cut = told if len(told) <= _MAX_CHARACTERS else f"{told[:_MAX_CHARACTERS]} …"
        role = ' <span class="flag">base</span>' if not number else ""
        rows.append((
            "",
            f'<td class="setting"><bdi>{escape(model.name)}</bdi>{role}</td><td class="setting"><bdi>'
            f'{escape(model.origin)}</bdi></td><td class="value"><bdi>{escape(cut) or "–"}</bdi></td>',
        ))  # fmt: skip
    columns = [Column("Model", sortable=False), Column("From", sortable=False), Column("What it is", sortable=False)]
    return section("models", "Models", "", table(columns, rows, css="stack"))


def _overview_cells(entry: TableSummary, is_trial: bool) -> str:
    values, total, digits = entry.table, entry.total, digits_of(entry.table)
    mark = ' <span class="flag warn">trial</span>' if is_trial else ""
    link = f'<a href="#{anchor(values.benchmark)}"><bdi>{escape(values.benchmark)}</bdi></a>'
    cells = (
        f'<td class="setting">{link}{mark}</td>'
        f"<td><bdi>{escape(title_of(values))}</bdi></td>"
        + also(cell(f"{total.languages:,}"), "lesser") + also(cell(f"{total.left_out:,}"), "lesser")
        + items_cell(values.item_counts) + cell(value_text(total.means[0], digits))
    )  # fmt: skip
    changes = [change.change for change in total.changes if change is not None and math.isfinite(change.change)]
    largest = max(map(abs, changes), default=0.0)
    for mean, change in zip(total.means[1:], total.changes[1:], strict=True):
        cells += cell(value_text(mean, digits))
        cells += change_cell(values, math.nan if change is None else change.change, digits, largest)
    return cells


def anchor(benchmark: str) -> str:
    """Return the anchor of a benchmark's section; whatever its name is, the anchor is harmless."""
    safe = (letter if letter.isascii() and letter.isalnum() else f"-{ord(letter):x}-" for letter in benchmark)
    return "b-" + "".join(safe)
