"""What the report is about: one run, read from its record, and samples of text that its model wrote."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from iso639 import Language, LanguageNotFoundError

from megatron.monitor.record import KEPT, Event, current_events, read_all_events
from megatron.monitor.summary import Row, num_unscored, order_tiers

METRICS_NAME = "metrics.jsonl"
SAMPLES_NAME = "samples.jsonl"

_CODE = re.compile(r"([a-z]{3})_([A-Z][a-z]{3})")
# ISO 639-3 tells macrolanguages from individual languages of the same name; the code beside the name does that here.
_SCOPE = re.compile(r" \((?:macrolanguage|individual language)\)$")


class ReportError(ValueError):
    """A file that the report is made from cannot be read."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One generated text: the prompt, what the model added, the language code if known, and why it stopped."""

    prompt: str
    output: str
    code: str | None
    stop_reason: str


@dataclasses.dataclass(frozen=True)
class Run:
    """One run as its record tells it.

    Attributes:
        name: of the save folder, with the folder it lies in.
        start: the latest ``start`` event; None when the record has none.
        train: ``train`` events in order, every step once.
        validations: ``validation`` events that scored something, in order, every step once.
        unscored: corpora of the last validation without any held-out byte.
        planned: mixture rows planned before the run; empty when there are none.
        used: mixture rows really used.
        phases: what each source has in every phase of the mixture; empty in records of earlier versions.
        end: the ``end`` event of the latest attempt.
        resumed_at: the step of every restart since the run began, superseded restarts too.
        wall_seconds: time during which the run was up, all attempts together.
        folder: the save folder.
        history: in the order of the record, all that went wrong, and every restart and end since the run began.
    """

    name: str
    start: Event | None
    train: Sequence[Event]
    validations: Sequence[Event]
    unscored: int
    planned: Sequence[Row]
    used: Sequence[Row]
    phases: Sequence[Mapping[str, Any]]
    end: Event | None
    resumed_at: Sequence[int]
    wall_seconds: float
    folder: Path
    history: Sequence[Event]

    @property
    def samples_per_step(self) -> float | None:
        """The batch size as the record tells it; None where it does not."""
        rows = self.used or self.planned
        samples, tokens = (sum(row.get(key, 0) for row in rows) for key in ("samples", "sampled_tokens"))
        if self.start is None or not samples or not tokens or "tokens_per_step" not in self.start:
            return None
        return float(self.start["tokens_per_step"] * samples / tokens)

    @property
    def step(self) -> int:
        """Number of finished steps."""
        return int(self.train[-1]["step"]) if self.train else int(self.start["step"] if self.start else 0)

    def tiers(self) -> list[str]:
        """Return every tier that the run names, in the order of :func:`order_tiers`."""
        scored = [row for event in reversed(self.validations) for row in event["rows"]]
        # The plan knows whole corpora, a validation only what was held out of them; but both may know some tiers alone.
        found = [name for rows in (self.planned, self.used, scored) for name in order_tiers(rows)]
        return list(dict.fromkeys(found))


def load_run(save_folder: Path) -> Run:
    """Read ``metrics.jsonl`` of a save folder.

    Raises:
        MetricsError: the folder holds no record.
    """
    everything = read_all_events(save_folder / METRICS_NAME)
    events = current_events(everything)
    starts = [event for event in events if event["event"] == "start"]
    last_start = starts[-1] if starts else None
    after_start = events[events.index(last_start) :] if last_start else events
    ends = [event for event in after_start if event["event"] == "end"]
    attempts = _attempts(everything)
    scored = {event["step"]: event for event in events if event["event"] == "validation"}
    validations, unscored = [], 0
    for event in scored.values():
        rows = [row for row in event["rows"] if row["bytes"] > 0]
        unscored = num_unscored(event["rows"])
        if rows:
            validations.append({**event, "rows": rows})
    return Run(
        name="/".join(save_folder.resolve().parts[1:][-2:]),
        start=last_start,
        train=[event for event in events if event["event"] == "train"],
        validations=validations,
        unscored=unscored,
        planned=_mixture(events, "planned").get("rows", []),
        used=_mixture(events, "used").get("rows", []),
        phases=_mixture(events, "planned").get("phases", []),
        end=ends[-1] if ends else None,
        resumed_at=[attempt[0]["resumed_from"] for attempt in attempts if attempt[0].get("resumed_from") is not None],
        wall_seconds=sum(attempt[-1]["time"] - attempt[0]["time"] for attempt in attempts),
        folder=save_folder,
        history=_history(everything),
    )


def load_samples(path: Path) -> list[Sample]:
    """Read generated texts, one JSON object a line.

    Raises:
        ReportError: the file is missing or a line is no sample; the message names file, line and rule.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise ReportError(f"{path} does not exist: give the file that generate.py wrote") from None
    samples = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ReportError(f"{path}, line {number}: not valid JSON ({error}); write it again") from None
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("prompt", "output")):
            raise ReportError(f"{path}, line {number}: a sample is an object with the strings 'prompt' and 'output'")
        code = entry.get("code")
        samples.append(
            Sample(entry["prompt"], entry["output"], str(code) if code else None, str(entry.get("stop_reason") or ""))
        )
    return samples


@functools.lru_cache(maxsize=4096)
def language_name(code: str) -> str:
    """Return the ISO 639-3 reference name for a corpus code; of a pair both; an empty string when unknown."""
    names = []
    for part in code.split("-"):
        match = _CODE.fullmatch(part)
        if match is None:
            return ""
        try:
            names.append(_SCOPE.sub("", Language.from_part3(match[1]).name))
        except LanguageNotFoundError:
            return ""
    return " – ".join(names)


def language_tag(code: str | None) -> str:
    """Return the BCP 47 tag of a corpus code for an HTML ``lang`` attribute; an empty string when unknown."""
    match = _CODE.fullmatch(code or "")
    if match is None:
        return ""
    try:
        part1 = Language.from_part3(match[1]).part1
    except LanguageNotFoundError:
        return ""
    return f"{part1 or match[1]}-{match[2]}"


def _attempts(events: Sequence[Event]) -> list[list[Event]]:
    """Split a whole record at its ``start`` events, from the last start that resumed from nothing."""
    attempts: list[list[Event]] = []
    for event in events:
        if event["event"] == "start":
            if event.get("resumed_from") is None:
                attempts.clear()
            attempts.append([])
        if attempts:
            attempts[-1].append(event)
    return attempts


def _history(events: Sequence[Event]) -> list[Event]:
    """Return what went wrong, and the restarts and ends since the last start that resumed from nothing."""
    history: list[Event] = []
    for event in events:
        if event["event"] == "start" and event.get("resumed_from") is None:
            history = [earlier for earlier in history if earlier["event"] in KEPT]
        elif event["event"] in (*KEPT, "start", "end"):
            history.append(event)
    return history


def _mixture(events: Sequence[Event], kind: str) -> Event:
    """Return the latest mixture of a kind, or an empty event."""
    found = [event for event in events if event["event"] == "mixture" and event.get("kind") == kind]
    return found[-1] if found else {}
