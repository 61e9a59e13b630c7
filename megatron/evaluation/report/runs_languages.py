"""Bits per byte of several runs: by tier before and after, and by language at the last point that they share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from megatron.evaluation.report.data import Run, language_name
from megatron.evaluation.report.drawing import line_key
from megatron.evaluation.report.languages import change_cell, change_chart, extremes, ranked_changes
from megatron.evaluation.report.runs import Joined, Means, Runs, join, tier_means
from megatron.evaluation.report.tables import Column, cell, name_cell, note, section, table, tier_cell
from megatron.monitor.summary import Change, scores

_EXTREMES = 8
_EQUAL = 5e-5  # what four decimals do not show


def run_languages_section(runs: Runs, colours: Sequence[str], tiers: Mapping[str, str]) -> str:
    """Return the section; a plain note when fewer than two runs were validated."""
    title = "Bits per byte"
    scored = [(run, css) for run, css in zip(runs.runs, colours, strict=True) if run.validations]
    parts = [note(f"{run.name}: no validation has been recorded yet.") for run in runs.runs if not run.validations]
    if len(scored) < 2:
        parts.append(note("Fewer than two runs have been validated: there is nothing to compare."))
        return section("languages", title, "", "".join(parts))
    chosen, css = [run for run, _ in scored], [css for _, css in scored]
    first = chosen[0].name
    lead = (
        "How many bits the model needs per byte of held-out text: lower is better. Means give every corpus that all "
        f"runs scored the same weight; its tier is that of {first}. A difference is that from {first}: below zero is "
        "better than there."
    )
    place = runs.shared_place(chosen)
    last = [run.validations[-1] for run in chosen]
    shared = [] if place is None else [runs.validations(run)[place] for run in chosen]
    if shared != last:
        steps = ", ".join(
            f"{run.name} at step {event['step']:,}" for run, event in zip(chosen, last, strict=True)
        )
        parts += ["<h3>By tier, at the last validation of each run</h3>", note(f"{steps}.")]
        parts.append(_tier_table(chosen, [event["rows"] for event in last], css, tiers))
    if place is None:
        parts.append(note("The runs share no point at which all of them were validated."))
        return section("languages", title, lead, "".join(parts))
    rows = [event["rows"] for event in shared]
    parts.append(f"<h3>By tier, at {escape(runs.place_text(place))}, the last validation that all share</h3>")
    parts.append(_tier_table(chosen, rows, css, tiers))
    joined = join(rows)
    if joined:
        parts.append(_first_and_second(joined, chosen, tiers))
        parts.append(_language_table(joined, chosen, css, tiers))
    return section("languages", title, lead, "".join(parts))


def _tier_table(runs: Sequence[Run], after: Sequence[Sequence[Mapping[str, object]]], css: Sequence[str],
                tiers: Mapping[str, str]) -> str:  # fmt: skip
    before = [run.validations[0]["rows"] for run in runs]
    lines = tier_means(join([*before, *after]), list(tiers))
    if not lines:
        return note("No corpus was scored in all of these validations.")
    count = len(runs)
    left_out = len({score.corpus for rows in [*before, *after] for score in scores(rows)}) - lines[-1].corpora
    parts = [note(f"{left_out:,} corpora are left out: not every run scored them.")] if left_out else []
    one = all(abs(value - line.values[0]) < _EQUAL for line in lines for value in line.values[:count])
    columns = [Column("Tier"), Column("Corpora", "n"), Column("Before", "n")]
    if not one:
        columns = [*columns[:2], *(Column(f"Before: {run.name}", "n run") for run in runs)]
    columns += _run_columns(runs, css)
    rows = []
    for line in lines:
        dot = "" if line is lines[-1] else tiers.get(line.name, "")
        starts = line.values[:1] if one else line.values[:count]
        cells = tier_cell(line.name, dot) + cell(f"{line.corpora:,}")
        cells += "".join(cell(f"{value:.4f}") for value in starts)
        cells += _values(line.values[count:], _largest(lines, count))
        rows.append(("total" if line is lines[-1] else "", cells))
    return "".join(parts) + table(columns, rows, css="tiers")


def _run_columns(runs: Sequence[Run], css: Sequence[str]) -> list[Column]:
    """Return the heads of the runs' values; behind every run but the first stands its difference from that."""
    columns = []
    for run, colour in zip(runs, css, strict=True):
        columns.append(Column(run.name, "n run", key=line_key(colour)))
        if run is not runs[0]:
            columns.append(Column("Difference", "n", hint=f"{run.name} against {runs[0].name}"))
    return columns


def _values(values: Sequence[float], largest: float) -> str:
    cells = cell(f"{values[0]:.4f}")
    for value in values[1:]:
        cells += cell(f"{value:.4f}") + change_cell(_difference(values[0], value), largest)
    return cells


def _largest(lines: Sequence[Means], count: int) -> float:
    found = [_difference(line.values[count], value) for line in lines for value in line.values[count:]]
    return max((abs(value) for value in found if math.isfinite(value)), default=1.0) or 1.0


def _difference(first: float, other: float) -> float:
    return other / first - 1.0 if first else math.nan


def _first_and_second(joined: Sequence[Joined], runs: Sequence[Run], tiers: Mapping[str, str]) -> str:
    """Draw what every corpus gained or lost from the first run to the second, and list the most."""
    changes = [
        Change(entry.score.corpus, entry.score.code, entry.score.tier, entry.score.source, *entry.values[:2])
        for entry in joined
    ]
    ranked = ranked_changes(changes)
    first, second = runs[0].name, runs[1].name
    hint = f"Every dot is one corpus: {second} against {first}. Below zero {second} is better."
    chart = change_chart(ranked, tiers, title="Difference per corpus", note=hint, between=", ")
    better = [change for change in ranked if change.relative < 0][:_EXTREMES]
    worse = [change for change in reversed(ranked) if change.relative > 0][:_EXTREMES]
    lists = extremes(f"Gained most in {second}", better) + extremes(f"Lost most in {second}", worse)
    return f'{chart}<div class="extremes">{lists}</div>'


def _language_table(
    joined: Sequence[Joined], runs: Sequence[Run], css: Sequence[str], tiers: Mapping[str, str]
) -> str:
    columns = [Column("Language"), Column("Corpus"), Column("Tier"), Column("Source"), *_run_columns(runs, css)]
    found = [_difference(entry.values[0], value) for entry in joined for value in entry.values]
    largest = max((abs(value) for value in found if math.isfinite(value)), default=1.0) or 1.0
    rows = [
        (
            "",
            name_cell(language_name(entry.score.code)) + name_cell(entry.score.corpus, code=True)
            + tier_cell(entry.score.tier, tiers.get(entry.score.tier, "")) + name_cell(entry.score.source)
            + _values(entry.values, largest),
        )
        for entry in sorted(joined, key=lambda e: (language_name(e.score.code) or e.score.corpus, e.score.corpus))
    ]  # fmt: skip
    return "<h3>By language</h3>" + table(columns, rows, searchable="languages", css="many")
