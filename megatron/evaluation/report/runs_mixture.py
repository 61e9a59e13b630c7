"""The mixtures of several runs side by side: the share of every source and tier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from megatron.evaluation.report.data import Run
from megatron.evaluation.report.mixture import Part, corpus_parts, group_parts
from megatron.evaluation.report.runs import Runs
from megatron.evaluation.report.runs_header import run_columns
from megatron.evaluation.report.tables import Column, cell, note, percent, section, table, tier_cell


def mixtures_section(runs: Runs, colours: Sequence[str], tiers: Mapping[str, str]) -> str:
    """Return the section; a plain note when no record holds a mixture."""
    parts = [corpus_parts(run.planned, run.used) for run in runs.runs]
    if not any(parts):
        return section("mixture", "Mixture", "", note("No mixture has been recorded yet."))
    notes = [note(f"{run.name}: {_lacks(run)}") for run in runs.runs if not run.used]
    lead = "Which share of the tokens each part had. The bars stand in the order of the columns."
    by_source = _shares(parts, by="source")
    by_tier = _shares(parts, by="tier")
    by_tier = {name: by_tier[name] for name in tiers if name in by_tier}
    body = "<h3>By source</h3>" + _table("Source", by_source, runs, colours, {})
    body += "<h3>By tier</h3>" + _table("Tier", by_tier, runs, colours, tiers)
    return section("mixture", "Mixture", lead, "".join(notes) + body)


def _lacks(run: Run) -> str:
    if run.planned:
        return "what was really used is recorded when a run ends or pauses; its shares are those of the plan."
    return "no mixture has been recorded yet."


def _shares(parts: Sequence[Sequence[Part]], *, by: str) -> dict[str, list[float | None]]:
    """Return the share of every group in each run: as used, where that is known, else as planned."""
    groups = [{group.name: group for group in group_parts(corpora, by=by)} for corpora in parts]
    names = dict.fromkeys(name for found in groups for name in found)
    return {name: [_share(found, name) for found in groups] for name in names}


def _share(groups: Mapping[str, Part], name: str) -> float | None:
    if not groups:
        return None
    part = groups.get(name)
    return 0.0 if part is None else part.planned if part.used is None else part.used


def _table(
    label: str, shares: Mapping[str, Sequence[float | None]], runs: Runs, colours: Sequence[str],
    tiers: Mapping[str, str],
) -> str:
    columns = [Column(label), Column("Shares", "bars", sortable=False), *run_columns(runs, colours, "n")]
    top = max((share or 0.0 for each in shares.values() for share in each), default=0.0) or 1.0
    rows = []
    for name, each in shares.items():
        bars = "".join(
            f'<i class="bar new {css}" style="width:{(share or 0.0) / top * 100:.1f}%"></i>'
            for share, css in zip(each, colours, strict=True)
        )
        numbers = "".join(cell("–") if share is None else cell(percent(share), share) for share in each)
        rows.append(("", f'{tier_cell(name, tiers.get(name, ""))}<td class="bars">{bars}</td>{numbers}'))
    return table(columns, rows)
