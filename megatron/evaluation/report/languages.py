"""Bits per byte in the report: before and after, by tier, by source, over the run and by language."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from megatron.evaluation.report.charts import Dot, Line, dot_chart, lines_chart
from megatron.evaluation.report.data import Run, language_name
from megatron.evaluation.report.scale import decimal
from megatron.evaluation.report.tables import Column, cell, name_cell, note, section, signed_percent, table, tier_cell
from megatron.monitor.summary import (
    NO_TIER,
    UNTIERED,
    Change,
    TierLine,
    compare,
    group_lines,
    macro_means,
    scores,
    tier_table,
)

_EXTREMES = 8


def languages_section(run: Run, tiers: Mapping[str, str]) -> str:
    """Return the section; a plain note when nothing was validated yet."""
    title = "Bits per byte"
    if not run.validations:
        return section("languages", title, "", note("No validation has been recorded yet."))
    lead = (
        "How many bits the model needs per byte of held-out text: lower is better. It compares models and steps on the "
        "same text, not languages with each other. Means give every corpus the same weight."
    )
    first, last = run.validations[0], run.validations[-1]
    parts = []
    if run.unscored:
        parts.append(note(f"{run.unscored:,} corpora have no held-out text and are not scored."))
    changes = compare(first["rows"], last["rows"]) if len(run.validations) > 1 else []
    if changes:
        parts.append(f"<p class='when'>Before: step {first['step']:,}. After: step {last['step']:,}.</p>")
        lines = tier_table(first["rows"], last["rows"], tiers=list(tiers))
        parts.append(_change_tables(changes, lines, tiers))
        parts.append(_over_steps(run, tiers))
        parts.append(_change_dots(changes, tiers))
        parts.append(_language_table(changes, tiers))
    else:
        parts.append(note(f"There is one validation so far, at step {first['step']:,}: nothing to compare with yet."))
        parts.append(_single_tables(run, tiers))
    return section("languages", title, lead, "".join(parts))


def _change_tables(changes: Sequence[Change], lines: Sequence[TierLine], tiers: Mapping[str, str]) -> str:
    by_source = group_lines(changes, by="source")
    top = max([line.before for line in [*lines, *by_source]] + [line.after for line in [*lines, *by_source]])
    parts = ["<h3>By tier</h3>", _before_after("Tier", lines, top, tiers)]
    if len(by_source) > 1:
        parts += ["<h3>By source</h3>", _before_after("Source", by_source, top, {})]
    return "".join(parts)


def _before_after(label: str, lines: Sequence[TierLine], top: float, tiers: Mapping[str, str]) -> str:
    columns = [
        Column(label), Column("Corpora", "n"), Column("Before, after", "bars", sortable=False), Column("Before", "n"),
        Column("After", "n"), Column("Change", "n"),
        Column("Mean ratio", "n", hint="geometric mean over corpora of after / before"),
        Column("Improved", "n"), Column("Worse", "n"),
    ]  # fmt: skip
    rows = []
    for number, line in enumerate(lines, start=1):
        css = tiers.get(line.name, "")
        bars = (
            f'<td class="bars"><i class="bar old" style="width:{_width(line.before, top)}%"></i>'
            f'<i class="bar new {css}" style="width:{_width(line.after, top)}%"></i></td>'
        )
        rows.append(
            (
                "total" if number == len(lines) and label == "Tier" else "",
                tier_cell(line.name, css) + cell(f"{line.corpora:,}") + bars + cell(f"{line.before:.4f}")
                + cell(f"{line.after:.4f}") + change_cell(line.relative, 1.0) + cell(f"{line.ratio:.4f}")
                + cell(f"{line.improved:,}") + cell(f"{line.worse:,}"),
            )
        )  # fmt: skip
    return table(columns, rows)


def _over_steps(run: Run, tiers: Mapping[str, str]) -> str:
    """Draw every tier's mean over the validations, when there are more than before and after."""
    if len(run.validations) < 3:
        return ""
    steps = [event["step"] for event in run.validations]
    means = [macro_means(event["rows"], by="tier") for event in run.validations]
    lines = [
        Line(name, [_finite(mean.get(name)) for mean in means], css)
        for name, css in tiers.items()
        if any(name in mean for mean in means)
    ]
    chart = lines_chart(steps, lines, title="Over the run, by tier", form=decimal, css="wide")
    return f'<div class="charts">{chart}</div>'


def ranked_changes(changes: Sequence[Change]) -> list[Change]:
    """Return the changes that are known, from the largest gain to the largest loss."""
    return sorted((change for change in changes if math.isfinite(change.relative)), key=lambda c: c.relative)


def change_chart(
    ranked: Sequence[Change], tiers: Mapping[str, str], *, title: str, note: str, between: str
) -> str:
    """Draw a dot for every corpus, in the colour of its tier; the two values are told with ``between`` between them."""
    dots = [
        Dot(
            f"{corpus_label(change)}  {change.before:.3f}{between}{change.after:.3f}", change.relative * 100,
            tiers.get(change.tier, "t0"),
        )
        for change in ranked
    ]  # fmt: skip
    present = {dot.css for dot in dots}
    groups = [(name, css) for name, css in tiers.items() if css in present]
    return dot_chart(dots, groups, title=title, note=note, form=signed_points)


def _change_dots(changes: Sequence[Change], tiers: Mapping[str, str]) -> str:
    ranked = ranked_changes(changes)
    if not ranked:
        return ""
    hint = "Every dot is one corpus, from the largest gain to the largest loss. Below zero is better."
    chart = change_chart(ranked, tiers, title="Change per corpus", note=hint, between=" → ")
    if len(ranked) < 2 * _EXTREMES:
        return chart
    best = [change for change in ranked[:_EXTREMES] if change.relative < 0]
    worst = ranked[: -_EXTREMES - 1 : -1]
    lists = extremes("Gained most", best) + extremes("Gained least or lost", worst)
    return f'{chart}<div class="extremes">{lists}</div>'


def extremes(title: str, changes: Sequence[Change]) -> str:
    """Return a list of corpora with their change under a title."""
    items = "".join(
        f"<li><span><bdi>{escape(language_name(change.code) or change.corpus)}</bdi> "
        f"<code><bdi>{escape(change.corpus)}</bdi></code></span>"
        f'<b class="{"good" if change.relative < 0 else "bad"}">{signed_percent(change.relative)}</b></li>'
        for change in changes
    )
    return f"<div><h3>{escape(title)}</h3>{f'<ol>{items}</ol>' if items else note('None.')}</div>"


def _language_table(changes: Sequence[Change], tiers: Mapping[str, str]) -> str:
    columns = [
        Column("Language"), Column("Corpus"), Column("Tier"), Column("Source"), Column("Before", "n"),
        Column("After", "n"), Column("Change", "n"),
    ]  # fmt: skip
    largest = max((abs(c.relative) for c in changes if math.isfinite(c.relative)), default=1.0) or 1.0
    rows = [
        (
            "",
            name_cell(language_name(change.code)) + name_cell(change.corpus, code=True)
            + tier_cell(change.tier, tiers.get(change.tier, "")) + name_cell(change.source)
            + cell(f"{change.before:.4f}") + cell(f"{change.after:.4f}") + change_cell(change.relative, largest),
        )
        for change in sorted(changes, key=lambda c: (language_name(c.code) or c.corpus, c.corpus))
    ]  # fmt: skip
    return "<h3>By language</h3>" + table(columns, rows, searchable="languages")


def _single_tables(run: Run, tiers: Mapping[str, str]) -> str:
    """Return the tables of a single validation, which has no change to show."""
    rows = run.validations[-1]["rows"]
    means = macro_means(rows, by="tier", tiers=list(tiers))
    counts = [score.tier for score in scores(rows)]
    by_tier = [
        ("", tier_cell(name, tiers.get(name, "")) + cell(f"{counts.count(name):,}") + cell(f"{mean:.4f}"))
        for name, mean in means.items()
    ]
    by_language = [
        (
            "",
            name_cell(language_name(score.code)) + name_cell(score.corpus, code=True)
            + tier_cell(score.tier, tiers.get(score.tier, "")) + name_cell(score.source)
            + cell(f"{score.bits_per_byte:.4f}"),
        )
        for score in sorted(scores(rows), key=lambda s: (language_name(s.code) or s.corpus, s.corpus))
    ]  # fmt: skip
    tier_columns = [Column("Tier"), Column("Corpora", "n"), Column("Bits per byte", "n")]
    columns = [Column("Language"), Column("Corpus"), Column("Tier"), Column("Source"), Column("Bits per byte", "n")]
    return (
        f"<h3>By tier</h3>{table(tier_columns, by_tier)}"
        f"<h3>By language</h3>{table(columns, by_language, searchable='languages')}"
    )


def change_cell(relative: float, largest: float) -> str:
    """Return the cell of a relative change, with a bar as long as its part of the largest."""
    if not math.isfinite(relative):
        return '<td class="n">–</td>'
    css = "good" if relative < 0 else "bad" if relative > 0 else ""
    return f'<td class="n chg {css}" style="--w:{_width(abs(relative), largest)}%">{signed_percent(relative)}</td>'


def signed_points(points: float) -> str:
    """Write percentage points of change."""
    return f"{points:+.0f}%".replace("-", "−") if round(points) else "0%"


def _width(value: float, top: float) -> str:
    share = value / top * 100 if top > 0 and math.isfinite(value) else 0.0
    return f"{min(100.0, share):.1f}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def corpus_label(change: Change) -> str:
    """Name a corpus for people: its language, its code and its tier."""
    name = language_name(change.code)
    tier = "" if change.tier in (NO_TIER, UNTIERED) else f", {change.tier}"
    return f"{name} ({change.corpus}{tier})" if name else f"{change.corpus}{tier}"
