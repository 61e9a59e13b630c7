"""Pictures of what languages gained: over the tiers, and against the tokens of their training text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from megatron.evaluation.report.data import language_name
from megatron.evaluation.report.scale import Bounds, Format, value_bounds
from megatron.evaluation.report.scores.forms import change_text, choice, digits_of, title_of, value_text
from megatron.evaluation.report.scores.gain_charts import Lane, Spot, lane_chart, token_chart
from megatron.evaluation.report.scores.statistics import ALL
from megatron.evaluation.report.scores.summary import Summary, TableSummary
from megatron.evaluation.report.scores.values import Row, Table
from megatron.evaluation.report.tables import note, section


def gains_section(summary: Summary, tiers: Mapping[str, str]) -> str:
    """Return the section; the reader chooses a benchmark where there are several."""
    names = summary.evaluation.names
    lead = (
        f"Every dot is a language: its change against {names[0]}. In each tier the dots stand in the order of their "
        "change; the shade spans the middle half of them, the bar is their median. Hover to read values."
    )
    entries = [entry for entry in summary.main if entry.forgetting]
    if not entries:
        return section("gains", "Gains over the tiers", lead, note("No model can be compared with the base."))
    options = [
        (f"{entry.table.benchmark}, {title_of(entry.table)}", _benchmark(entry, names, tiers)) for entry in entries
    ]
    return section("gains", "Gains over the tiers", lead, choice("Benchmark", options))


def _benchmark(entry: TableSummary, names: Sequence[str], tiers: Mapping[str, str]) -> str:
    models = [found.model for found in entry.forgetting]
    values = entry.table
    spots = {model: [_spot(values, row, model, tiers) for row in values.compared([0, model])] for model in models}
    changes = [spot.y for each in spots.values() for spot in each]
    if not changes:
        return note("No language can be compared.")
    # All models have one axis, so that the pictures can be compared.
    bounds = value_bounds(changes, [0.0], zero=False)
    form = _form(values)
    lanes = "".join(_lanes(values, names[model], spots[model], tiers, bounds, form) for model in models)
    charts = f'<div class="charts lanes">{lanes}</div>'
    with_tokens = {model: [spot for spot in each if spot.x is not None] for model, each in spots.items()}
    if any(len({spot.x for spot in each}) > 1 for each in with_tokens.values()):
        drawn = "".join(
            token_chart(with_tokens[model], list(tiers.items()), title=names[model], note=_untold(spots[model]),
                        bounds=bounds, form=form)
            for model in models
        )  # fmt: skip
        charts += f'<h3>Against the tokens of training text</h3><div class="charts lanes">{drawn}</div>'
    return charts


def _lanes(
    values: Table, name: str, spots: Sequence[Spot], tiers: Mapping[str, str], bounds: Bounds, form: Format
) -> str:
    groups: dict[str, list[Spot]] = {tier: [] for tier in tiers} or {ALL: []}
    for spot in spots:
        groups.setdefault(spot.group, []).append(spot)
    lanes = [Lane(tier, tiers.get(tier, "t0"), each) for tier, each in groups.items() if each]
    better = "Above" if values.higher_is_better else "Below"
    return lane_chart(lanes, title=name, note=f"{better} zero is better", bounds=bounds, form=form)


def _spot(values: Table, row: Row, model: int, tiers: Mapping[str, str]) -> Spot:
    language, digits = row.language, digits_of(values)
    change = values.change(row, model)
    name = language_name(language.code)
    tier = f", {language.tier}" if tiers else ""
    label = (
        f"{f'{name} ({language.code}{tier})' if name else f'{language.code}{tier}'}  "
        f"{value_text(row.values[0], digits)} → {value_text(row.values[model], digits)}"
    )
    return Spot(
        label=label,
        text=change_text(values, change, digits),
        x=math.log10(language.tokens) if language.tokens else None,
        y=math.expm1(change) * 100 if values.is_loss else change,
        group=language.tier if tiers else ALL,
        css=tiers.get(language.tier, "t0"),
    )


def _form(values: Table) -> Format:
    if values.is_loss:
        return lambda y: f"{y:+.0f}%".replace("-", "−") if round(y) else "0%"
    return lambda y: f"{y:+.3g}".replace("-", "−") if y else "0"


def _untold(spots: Sequence[Spot]) -> str:
    missing = sum(spot.x is None for spot in spots)
    return f"{missing:,} without a count are not shown" if missing else ""
