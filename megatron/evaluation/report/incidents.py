"""What went wrong in a run, and how it went on: incidents, failed checkpoints, restarts and ends."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from html import escape

from megatron.evaluation.report.data import Run
from megatron.evaluation.report.drawing import Mark
from megatron.evaluation.report.tables import Column, cell, note, section, table
from megatron.monitor.console import incident_text
from megatron.monitor.record import KEPT, Event

_KINDS = {
    "not_finite": "not a number",
    "spike": "spike",
    "hang": "hang",
    "node_test": "machine test",
    "forgetting": "forgetting",
}
_MAX_ROWS = 300


@dataclasses.dataclass(frozen=True)
class Happening:
    """One thing that happened to a run.

    Attributes:
        step: number of steps that were finished.
        time: unix time in seconds.
        kind: what it was, in a word or three.
        text: the particulars, in a sentence.
        wrong: it is something that went wrong, no mere restart or end.
    """

    step: int
    time: float
    kind: str
    text: str
    wrong: bool


def happenings(run: Run) -> list[Happening]:
    """Return what happened to a run, in the order of its record."""
    found = []
    for before, event in zip([None, *run.history], run.history, strict=False):
        kind, text = _describe(event, before)
        found.append(Happening(event["step"], event["time"], kind, text, event["event"] in KEPT))
    return found


def loss_marks(run: Run) -> list[Mark]:
    """Return the marks of a run on its curve of the loss: what went wrong, and where it was resumed."""
    if not run.train:
        return []
    first, last = run.train[0]["step"], run.train[-1]["step"]
    marks = [
        # What stopped a run may have happened after its last recorded step.
        Mark(min(happening.step, last), happening.kind, "wrong" if happening.wrong else "")
        for happening in happenings(run)
        if happening.wrong or happening.kind != "end"
    ]
    return [mark for mark in marks if mark.place >= first]


def incidents_section(run: Run) -> str:
    """Return the section of one run."""
    lead = "Steps that were no numbers or spikes, hangs, failed checkpoints, restarts, and why the run ended."
    return section("incidents", "Incidents", lead, incidents_of(run))


def incidents_of(run: Run) -> str:
    """Return the table of one run, or a sentence where nothing went wrong."""
    found = happenings(run)
    ends = [happening for happening in found if happening.kind == "end"]
    if len(found) == len(ends[-1:]):
        how = f"It ended: {ends[-1].text}." if ends else "It has not ended, or was killed."
        return note(f"No incident, no failed checkpoint and no restart has been recorded. {how}")
    return _table(found)


def _table(found: Sequence[Happening]) -> str:
    columns = [Column("Step", "n"), Column("When, UTC"), Column("What"), Column("Particulars", sortable=False)]
    rows = []
    for happening in found[:_MAX_ROWS]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(happening.time))
        css = ' class="bad"' if happening.wrong else ""
        cells = f"<td>{when}</td><td{css}>{escape(happening.kind)}</td>"
        cells += f'<td class="text"><bdi>{escape(happening.text)}</bdi></td>'
        rows.append(("", cell(f"{happening.step:,}", happening.step) + cells))
    more = note(f"The first {_MAX_ROWS} of {len(found):,}.") if len(found) > _MAX_ROWS else ""
    return more + table(columns, rows, css="stack long" if len(rows) > 15 else "stack")


def _describe(event: Event, before: Event | None) -> tuple[str, str]:
    """Return the kind of an event and its particulars."""
    if event["event"] == "start":
        step = f"step {event['resumed_from']:,}"
        # A run that goes back writes a start of its own right after the incident.
        if before is not None and before["event"] == "incident" and before.get("action") == "went back":
            return "went back", f"to {step}"
        return "resumed", f"from {step}"
    if event["event"] != "incident":
        return event["event"].replace("_", " "), str(event.get("reason", ""))
    kind = str(event.get("kind"))
    try:
        return _KINDS.get(kind, kind), incident_text(event)
    except (KeyError, IndexError):  # written by another version
        return _KINDS.get(kind, kind), "the record does not say more"
