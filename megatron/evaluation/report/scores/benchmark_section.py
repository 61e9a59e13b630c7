"""One benchmark on the page, for each metric: its models, tiers, scripts, sources, and the table of all languages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from megatron.evaluation.report.scores.forms import (
    also,
    change_cell,
    change_column,
    choice,
    codes_text,
    digits_of,
    interval_text,
    title_of,
    value_text,
)
from megatron.evaluation.report.scores.language_table import language_table
from megatron.evaluation.report.scores.overview_section import anchor
from megatron.evaluation.report.scores.statistics import Change, Line
from megatron.evaluation.report.scores.summary import Summary, TableSummary
from megatron.evaluation.report.scores.sureness import SURE_COLUMNS, interval_notes
from megatron.evaluation.report.tables import Column, cell, note, section, table, tier_cell


def benchmark_section(summary: Summary, benchmark: str, tiers: Mapping[str, str]) -> str:
    """Return the section of a benchmark; where it has several metrics, the reader chooses one."""
    names = summary.evaluation.names
    entries = [entry for entry in summary.tables if entry.table.benchmark == benchmark]
    notes = "".join(map(note, [*missing_notes(entries[0], names), *summary.evaluation.notes.get(benchmark, ())]))
    parts = [(title_of(entry.table), _metric(entry, names, tiers)) for entry in entries]
    body = notes + choice("Metric", parts)
    heading = title_of(entries[0].table) if len(entries) == 1 else ""
    html = section(anchor(benchmark), benchmark, heading, body)
    # The heading is the benchmark's own text, in whichever direction it is written.
    return html.replace(f"<h2>{escape(benchmark)}</h2>", f"<h2><bdi>{escape(benchmark)}</bdi></h2>", 1)


def missing_notes(entry: TableSummary, names: Sequence[str]) -> list[str]:
    """Say which languages the models lack, and which are lossy: they are in no mean."""
    count, notes = len(entry.table.rows), []
    for name, lacking in zip(names, entry.lacking, strict=True):
        if len(lacking) == count:
            notes.append(f"{name} has no scores of this benchmark; the others are compared without it.")
        elif lacking:
            notes.append(
                f"{name} lacks {len(lacking):,} of {count:,} languages; they are in no mean: {codes_text(lacking)}."
            )
    for name, lossy in zip(names, entry.lossy, strict=True):
        if lossy:
            notes.append(
                f"The tokenizer of {name} cannot write {len(lossy):,} of {count:,} languages (lossy); they are in no "
                f"mean and no rank: {codes_text(lossy)}."
            )
    return notes


def _metric(entry: TableSummary, names: Sequence[str], tiers: Mapping[str, str]) -> str:
    parts = [_models_table(entry, names), "".join(map(note, interval_notes(entry, names)))]
    lines = [*entry.tiers, entry.total]
    if entry.tiers:
        if len(names) > 2:
            parts += ["<h3>By tier, all models</h3>", _means_table("Tier", lines, entry, names, tiers)]
        parts.append(_by("By tier", "Tier", lines, entry, names, tiers))
    if entry.sources:
        parts.append(_by("By source of the training text", "Source", entry.sources, entry, names, {}))
    if entry.scripts:
        by_script = _by("By script", "Script", entry.scripts, entry, names, {})
        parts.append(f"<details><summary>{len(entry.scripts):,} scripts</summary>{by_script}</details>")
    parts.append(f"<h3>All languages</h3>{language_table(entry, names, tiers)}")
    return "".join(parts)


def _models_table(entry: TableSummary, names: Sequence[str]) -> str:
    values, total, digits = entry.table, entry.total, digits_of(entry.table)
    columns = [
        Column("Model"), Column("Mean", "n"), *_change_columns(entry), Column("Mean rank", "n"),
        Column("Languages", "n", hint="that this model has a value of"),
    ]  # fmt: skip
    rows = []
    for model, name in enumerate(names):
        has = len(values.rows) - len(entry.lacking[model])
        if has:
            rows.append((
                "",
                f'<td class="setting"><bdi>{escape(name)}</bdi></td>' + cell(value_text(total.means[model], digits))
                + _change_cells(entry, total.changes[model], _largest([total]))
                + cell(value_text(entry.ranks[model], 2)) + cell(f"{has:,}"),
            ))  # fmt: skip
    caption = f"<p class='when'>{total.languages:,} languages that all of these models can be compared in.</p>"
    return f"<h3>Models</h3>{caption}{table(columns, rows, css='tight')}"


def _means_table(
    label: str, lines: Sequence[Line], entry: TableSummary, names: Sequence[str], tiers: Mapping[str, str]
) -> str:
    """Lay out the means of all models and their changes, a row for each group."""
    digits, largest, present = digits_of(entry.table), _largest(lines), entry.table.present
    columns = [Column(label), Column("Languages", "n")]
    for model in present:
        columns.append(Column(names[model], "n run lesser" if 0 in present else "n run"))
        columns += [change_column(names[model], names[0])] if model and 0 in present else []
    rows = []
    for line in lines:
        cells = tier_cell(line.name, _dot(line, entry, tiers)) + cell(f"{line.languages:,}")
        for model in present:
            text = cell(value_text(line.means[model], digits))
            cells += also(text, "lesser") if 0 in present else text
            change = line.changes[model]
            if model and 0 in present:
                cells += change_cell(entry.table, math.nan if change is None else change.change, digits, largest)
        rows.append(("total" if line is entry.total else "", cells))
    return table(columns, rows, css="tight")


def _by(
    title: str, label: str, lines: Sequence[Line], entry: TableSummary, names: Sequence[str], tiers: Mapping[str, str]
) -> str:
    """Lay out everything known of each model against the base, one model at a time."""
    compared = [model for model, change in enumerate(entry.total.changes) if change is not None]
    if not compared:
        return ""
    largest = _largest(lines)
    options = []
    for model in compared:
        columns = [
            Column(label), Column("Languages", "n"), Column("Left out", "n lesser"), *_change_columns(entry)[:1],
            Column(names[0], "n run"), Column(names[model], "n run"), *_change_columns(entry)[1:],
        ]  # fmt: skip
        rows = [
            (
                "total" if line is entry.total else "",
                tier_cell(line.name, _dot(line, entry, tiers)) + cell(f"{line.languages:,}")
                + also(cell(f"{line.left_out:,}"), "lesser")
                + _change_cells(entry, line.changes[model], largest, means=(line.means[0], line.means[model])),
            )
            for line in lines
        ]  # fmt: skip
        options.append((f"{names[model]} against {names[0]}", table(columns, rows, css="tight")))
    return f"<h3>{escape(title)}</h3>{choice('Compare', options)}"


def _change_columns(entry: TableSummary) -> list[Column]:
    over = "geometric mean of the languages' ratios, less 1" if entry.table.is_loss else "mean difference"
    columns = [
        Column("Change", "n", hint=f"{over}, over languages"),
        Column("95% interval", "n", sortable=False, hint="of the change"),
        *(SURE_COLUMNS if entry.own else ()), Column("Improved", "n"), Column("Worse", "n"),
    ]  # fmt: skip
    if entry.table.is_loss:
        columns += [
            Column("Ratio, geometric mean", "n", hint="exp of the mean over languages of the log-ratio"),
            Column("Ratio, mean", "n", hint="mean over languages of the ratio"),
            Column("Ratio of sums", "n", hint="languages with large losses count most"),
        ]
    return columns


def _change_cells(
    entry: TableSummary, change: Change | None, largest: float, *, means: Sequence[float] = ()
) -> str:
    """Return the cells of :func:`_change_columns`, with those of means behind the first."""
    digits = digits_of(entry.table)
    values = "".join(cell(value_text(mean, digits)) for mean in means)
    if change is None:
        return cell("–") + values + cell("–") * (len(_change_columns(entry)) - 1)
    cells = change_cell(entry.table, change.change, digits, largest) + values
    cells += cell(interval_text(entry.table, change.low, change.high, digits))
    counts = [change.surely_better, change.surely_worse, change.undecided] if entry.own else []
    cells += "".join(cell(f"{count:,}") for count in [*counts, change.improved, change.worse])
    if entry.table.is_loss:
        ratios = (math.exp(change.change), change.mean_ratio, change.ratio_of_sums)
        cells += "".join(cell(value_text(ratio, 4)) for ratio in ratios)
    return cells


def _largest(lines: Sequence[Line]) -> float:
    changes = [change.change for line in lines for change in line.changes if change is not None]
    return max((abs(change) for change in changes if math.isfinite(change)), default=0.0)


def _dot(line: Line, entry: TableSummary, tiers: Mapping[str, str]) -> str:
    return "" if line is entry.total else tiers.get(line.name, "")
