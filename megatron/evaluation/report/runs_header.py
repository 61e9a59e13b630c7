"""The head of a comparison: how the runs stand, and what is the same and what differs between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from megatron.config.compare import settings_side_by_side
from megatron.evaluation.report.data import Run
from megatron.evaluation.report.drawing import line_key
from megatron.evaluation.report.facts import run_facts, run_state
from megatron.evaluation.report.frame import facts_list
from megatron.evaluation.report.runs import Runs
from megatron.evaluation.report.tables import Column, note, section, table
from megatron.monitor.run_steps import configuration_path

_MAX_CHARACTERS = 400
_OWN = ("save",)  # every run has its own folder, and the page names it


def runs_header(runs: Runs, colours: Sequence[str]) -> str:
    """Return the heading of the page, the state of every run, and the facts that all share."""
    states = ""
    for run, css in zip(runs.runs, colours, strict=True):
        state, badge = run_state(run)
        states += (
            f"<li>{line_key(css)}<b><bdi>{escape(run.name)}</bdi></b> "
            f'<span class="state {badge}">{escape(state)}</span></li>'
        )
    same = [(name, values[0]) for name, values in _facts(runs.runs).items() if len(set(values)) == 1]
    shared = f'<p class="lead">The same in all runs:</p>{facts_list(same)}' if same else ""
    return (
        f'<p class="kicker">Comparison of training runs</p><h1>{len(runs.runs)} runs</h1>'
        f'<ul class="runs">{states}</ul>{shared}'
    )


def differences_section(runs: Runs, colours: Sequence[str]) -> str:
    """Return the section of the facts and settings that differ."""
    facts = {name: values for name, values in _facts(runs.runs).items() if len(set(values)) > 1}
    parts = ["<h3>Runs</h3>", _table("", facts, runs, colours)] if facts else []
    parts.append("<h3>Settings</h3>")
    texts, missing = _configurations(runs.runs)
    if missing:
        whose = "any run" if not texts else ", ".join(missing)
        parts.append(note(f"No resolved configuration was found of {whose}: settings are not compared."))
        return section("differences", "What differs", "", "".join(parts))
    try:
        settings = settings_side_by_side(texts)
    except ValueError as error:
        parts.append(note(f"The settings cannot be compared: {error}."))
        return section("differences", "What differs", "", "".join(parts))
    settings = {name: values for name, values in settings.items() if name not in _OWN}
    differ = {name: values for name, values in settings.items() if len(set(values)) > 1}
    same = [(name, values[0]) for name, values in settings.items() if name not in differ]
    parts.append(_table("Setting", differ, runs, colours) if differ else note("All settings are the same."))
    rows = [("", f'<td class="setting"><code>{escape(name)}</code></td>{_value(value)}') for name, value in same]
    columns = [Column("Setting"), Column("Value", sortable=False)]
    parts.append(
        f"<details><summary>{len(same):,} settings that are the same</summary>"
        f"{table(columns, rows, css='long')}</details>"
    )
    return section("differences", "What differs", "", "".join(parts))


def run_columns(runs: Runs, colours: Sequence[str], css: str = "") -> list[Column]:
    """Return a column's head for each run, with its line."""
    return [
        Column(name, f"{css} run".strip(), key=line_key(colour))
        for name, colour in zip(runs.names, colours, strict=True)
    ]


def _facts(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return every fact with its value in each run."""
    found = [dict(run_facts(run)) for run in runs]
    names = dict.fromkeys(name for facts in found for name in facts)
    return {name: [facts.get(name, "–") for facts in found] for name in names}


def _table(label: str, values: Mapping[str, Sequence[str]], runs: Runs, colours: Sequence[str]) -> str:
    columns = [Column(label or "Fact"), *(_unsorted(column) for column in run_columns(runs, colours))]
    rows = []
    for name, each in values.items():
        head = f'<td class="setting"><code>{escape(name)}</code></td>' if label else f"<td>{escape(name)}</td>"
        rows.append(("", head + "".join(map(_value, each))))
    return table(columns, rows, css="long" if len(rows) > 20 else "")


def _unsorted(column: Column) -> Column:
    return Column(column.label, column.css, sortable=False, key=column.key)


def _value(text: str) -> str:
    cut = text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]} … {len(text) - _MAX_CHARACTERS:,} more"
    return f'<td class="value"><bdi>{escape(cut)}</bdi></td>'


def _configurations(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """Return the resolved configuration of every run that has one, and the names of the runs that have none."""
    texts, missing = [], []
    for run in runs:
        path = configuration_path(run.folder, [run.start] if run.start else [])
        if path is None:
            missing.append(run.name)
        else:
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return texts, missing
