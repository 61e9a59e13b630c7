"""The comparison of several runs as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from megatron.evaluation.report.drawing import line_key
from megatron.evaluation.report.frame import page
from megatron.evaluation.report.incidents import happenings, incidents_of
from megatron.evaluation.report.page import tier_classes
from megatron.evaluation.report.runs import Runs
from megatron.evaluation.report.runs_curves import curves_section
from megatron.evaluation.report.runs_header import differences_section, run_columns, runs_header
from megatron.evaluation.report.runs_languages import run_languages_section
from megatron.evaluation.report.runs_mixture import mixtures_section
from megatron.evaluation.report.tables import Column, cell, section, table

# Neighbours are far apart in hue; dashes tell the runs apart without any colour.
_COLOURS = ("--t0", "--t4", "--t2", "--t5", "--t3", "--t6", "--t1", "--t7")
_DASHES = ("none", "8 4", "2 3", "12 4 2 4", "16 5", "6 3 2 3 2 3", "4 4")


def render_comparison(runs: Runs) -> str:
    """Return the whole page."""
    colours = [f"r{number}" for number in range(len(runs.runs))]
    tiers = tier_classes(runs.tiers())
    return page(
        title=f"{', '.join(runs.names)}: comparison",
        header=runs_header(runs, colours),
        sections=[
            ("differences", "What differs", differences_section(runs, colours)),
            ("training", "Training", curves_section(runs, colours)),
            ("incidents", "Incidents", _incidents_section(runs, colours)),
            ("languages", "Bits per byte", run_languages_section(runs, colours, tiers)),
            ("mixture", "Mixture", mixtures_section(runs, colours, tiers)),
        ],
        style="".join(
            f".{css} {{ --c: var({_COLOURS[number % len(_COLOURS)]}); --d: {_DASHES[number % len(_DASHES)]}; }}\n"
            for number, css in enumerate(colours)
        ),
    )


def _incidents_section(runs: Runs, colours: Sequence[str]) -> str:
    """Return how often what happened in each run, and the particulars of each."""
    kinds = [[happening.kind for happening in happenings(run) if happening.kind != "end"] for run in runs.runs]
    names = sorted({kind for each in kinds for kind in each})
    rows = []
    for name in names:
        counts = [each.count(name) for each in kinds]
        rows.append(("", f"<td>{escape(name)}</td>" + "".join(cell(f"{count:,}", count) for count in counts)))
    body = table([Column("How often"), *run_columns(runs, colours, "n")], rows) if rows else ""
    for run, css in zip(runs.runs, colours, strict=True):
        body += f"<h3>{line_key(css)}<bdi>{escape(run.name)}</bdi></h3>{incidents_of(run)}"
    lead = "Steps that were no numbers or spikes, hangs, failed checkpoints, restarts, and why each run ended."
    return section("incidents", "Incidents", lead, body)
