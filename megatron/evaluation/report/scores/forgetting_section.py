"""What the models have forgotten, on the page: pivots, the share of languages that lost, and the worst losers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from megatron.evaluation.report.data import language_name
from megatron.evaluation.report.scores.forgetting import MOST_LOSERS, Forgetting, LostShare, Pair
from megatron.evaluation.report.scores.forms import (
    change_cell,
    change_text,
    choice,
    digits_of,
    language_cell,
    title_of,
    value_text,
)
from megatron.evaluation.report.scores.intervals import Own
from megatron.evaluation.report.scores.summary import Summary, TableSummary
from megatron.evaluation.report.scores.sureness import MARK, is_undecided, mark_of, own_of
from megatron.evaluation.report.scores.values import Table, first_tier
from megatron.evaluation.report.tables import Column, cell, note, section, table, tier_cell


def forgetting_section(summary: Summary, tiers: Mapping[str, str]) -> str:
    """Return the section; the reader chooses a benchmark where there are several."""
    names = summary.evaluation.names
    tier = first_tier(summary.evaluation.tiers)
    first = "" if tier is None else f" and of the tier “{tier}”"
    lead = (
        f"What got worse than with {names[0]}. Pivots are {', '.join(summary.pivots) or 'the languages'}{first}. "
        "Here every model is compared with the base alone, over all languages that these two can be compared in."
    )
    entries = [entry for entry in summary.main if entry.forgetting]
    if not entries:
        body = note("No model can be compared with the base.")
    else:
        options = [(_name(entry), _benchmark(entry, names, tiers)) for entry in entries]
        body = _shares(entries, names) + choice("Benchmark", options)
    return section("forgetting", "Forgetting", lead, body)


def _name(entry: TableSummary) -> str:
    return f"{entry.table.benchmark}, {title_of(entry.table)}"


def _shares(entries: Sequence[TableSummary], names: Sequence[str]) -> str:
    """Lay out how many languages each model is worse in, a row for each benchmark."""
    models = sorted({found.model for entry in entries for found in entry.forgetting})
    columns = [Column("Benchmark")]
    for model in models:
        columns += [Column(names[model], "n run"), Column("Share", "n")]
    rows = []
    for entry in entries:
        cells = f'<td class="setting"><bdi>{escape(entry.table.benchmark)}</bdi></td>'
        by_model = {found.model: found for found in entry.forgetting}
        for model in models:
            found = by_model.get(model)
            cells += _share_cells(found.shares[-1] if found and found.shares else None)
        rows.append(("", cells))
    return f"<h3>Languages that got worse</h3>{table(columns, rows, css='tight')}"


def _benchmark(entry: TableSummary, names: Sequence[str], tiers: Mapping[str, str]) -> str:
    told = f"{MARK.strip()} marks a change that the language's own interval, over its documents, is sure of; "
    told += "others have no colour."
    parts = [note(told)] if entry.own else []
    parts.append(_pivots(entry, names))
    if any(len(found.shares) > 1 for found in entry.forgetting):
        parts.append(_tier_shares(entry, names, tiers))
    lists = "".join(_losers(entry, found, names) for found in entry.forgetting)
    return "".join(parts) + f'<div class="extremes">{lists}</div>'


def _pivots(entry: TableSummary, names: Sequence[str]) -> str:
    """Lay out the pivot languages, the models side by side."""
    values, digits = entry.table, digits_of(entry.table)
    missing = sorted({code for found in entry.forgetting for code in found.missing})
    told = note(f"Pivots without values that can be compared: {', '.join(missing)}.") if missing else ""
    codes = list(dict.fromkeys(pair.language.code for found in entry.forgetting for pair in found.pivots))
    if not codes:
        return f"<h3>Pivots</h3>{told}"
    columns = [Column("Language"), Column(names[0], "n run")]
    for found in entry.forgetting:
        columns += [Column(names[found.model], "n run"), Column("Change", "n", hint=f"against {names[0]}")]
    by_model = [{pair.language.code: pair for pair in found.pivots} for found in entry.forgetting]
    largest = max(abs(pair.change) for pairs in by_model for pair in pairs.values())
    rows = []
    for code in codes:
        pairs = [of.get(code) for of in by_model]
        known = next(pair for pair in pairs if pair is not None)
        cells = language_cell(known.language, language_name(code), [])
        cells += cell(value_text(known.base, digits))
        for found, pair in zip(entry.forgetting, pairs, strict=True):
            own = own_of(entry, known.language, found.model)
            cells += cell("–") * 2 if pair is None else _pair_cells(values, pair, digits, largest, own)
        rows.append(("", cells))
    return f"<h3>Pivots</h3>{told}{table(columns, rows, css='long tight')}"


def _pair_cells(values: Table, pair: Pair, digits: int, largest: float, own: Own | None) -> str:
    return cell(value_text(pair.value, digits)) + change_cell(
        values, pair.change, digits, largest, mark=mark_of(own), plain=is_undecided(own)
    )


def _tier_shares(entry: TableSummary, names: Sequence[str], tiers: Mapping[str, str]) -> str:
    columns = [Column("Tier")]
    for found in entry.forgetting:
        columns += [Column(names[found.model], "n run"), Column("Share", "n")]
    by_model = [{share.name: share for share in found.shares[:-1]} for found in entry.forgetting]
    shared = list(dict.fromkeys(name for of in by_model for name in of))
    ordered = [name for name in tiers if name in shared]
    rows = []
    for name in ordered:
        cells = tier_cell(name, tiers[name])
        for of in by_model:
            cells += _share_cells(of.get(name))
        rows.append(("", cells))
    return f"<h3>Languages that got worse, by tier</h3>{table(columns, rows, css='tight')}"


def _share_cells(share: LostShare | None) -> str:
    if share is None:
        return cell("–") * 2
    surely = "" if share.surely is None else f", {share.surely:,} surely"
    told = f"{share.worse:,} of {share.languages:,}{surely}"
    return cell(told, share.worse) + cell(f"{share.share:.1%}", share.share)


def _losers(entry: TableSummary, found: Forgetting, names: Sequence[str]) -> str:
    values, digits = entry.table, digits_of(entry.table)
    owns = [own_of(entry, pair.language, found.model) for pair in found.losers]
    items = "".join(
        f"<li><span><bdi>{escape(language_name(pair.language.code))}</bdi> "
        f"<code><bdi>{escape(pair.language.code)}</bdi></code></span><span class='from'>"
        f"{value_text(pair.base, digits)} → {value_text(pair.value, digits)} "
        f'<b class="{"" if is_undecided(own) else "bad"}">{escape(change_text(values, pair.change, digits))}'
        f"{mark_of(own)}</b></span></li>"
        for pair, own in zip(found.losers, owns, strict=True)
    )
    worse = found.shares[-1].worse if found.shares else 0
    shown = f"the worst {MOST_LOSERS} of {worse:,}" if worse > MOST_LOSERS else f"all {worse:,}"
    title = f"Lost most in {names[found.model]}" + (f" ({shown})" if worse else "")
    return f"<div><h3>{escape(title)}</h3>{f'<ol>{items}</ol>' if items else note('None got worse.')}</div>"
