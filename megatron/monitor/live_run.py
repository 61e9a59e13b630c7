"""What is known of a run that goes on, event by event, in bounded memory."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Sequence

from megatron.monitor.curve import Curve
from megatron.monitor.record import Event
from megatron.monitor.summary import Row, TierLine, order_tiers, tier_table

_WINDOW_STEPS = 50
_KEPT_VALIDATIONS = 1000
_KEPT_CHECKPOINTS = 1000
_KEPT_PROBLEMS = 20
# Nobody is called silent before this, whatever the pace: compiling and a first validation take their time.
_LEAST_SILENCE_SECONDS, _LEAST_SILENCE_AT_START_SECONDS = 120.0, 600.0


@dataclasses.dataclass(frozen=True)
class Validation:
    """A validation beside the first one of the run.

    Attributes:
        step: of it.
        seconds: that it took.
        tiers: bits per byte of every tier and of all, in the first validation and in this one.
    """

    step: int
    seconds: float
    tiers: Sequence[TierLine]


class LiveRun:
    """Takes events one after the other, as a record has them, and knows how the run stands.

    What a ``start`` supersedes is forgotten, as :func:`megatron.monitor.record.current_events` does.

    Attributes:
        start: the newest ``start``.
        end: how the run ended, unless it goes on.
        last_time: of the newest event, unix seconds.
        recent: the last ``train`` events.
        curve: loss of all steps.
        checkpoint_failed: the newest one.
        tiers: in the order of the mixture's sizes.
        incidents: the newest ones.
    """

    def __init__(self) -> None:
        self.start: Event | None = None
        self.end: Event | None = None
        self.last_time: float | None = None
        self.recent: deque[Event] = deque(maxlen=_WINDOW_STEPS)
        self.curve = Curve()
        self.checkpoint_failed: Event | None = None
        self.tiers: Sequence[str] = ()
        self.incidents: deque[Event] = deque(maxlen=_KEPT_PROBLEMS)
        self._checkpoints: deque[Event] = deque(maxlen=_KEPT_CHECKPOINTS)
        self._validations: deque[Validation] = deque(maxlen=_KEPT_VALIDATIONS)
        self._first_validation: tuple[int, Sequence[Row]] | None = None
        self._first_since_start: Event | None = None

    def take(self, event: Event) -> None:
        """Take the next event; kinds that are not known are ignored."""
        kind = event["event"]
        self.last_time = event.get("time", self.last_time)
        if kind == "start":
            self._begin(event)
        elif kind == "train":
            self.recent.append(event)
            self.curve.add(event["step"], event["loss"])
            self._first_since_start = self._first_since_start or event
        elif kind == "validation":
            self._validate(event)
        elif kind == "mixture" and event.get("kind") == "planned":
            self.tiers = order_tiers(event["rows"])
        elif kind == "checkpoint":
            self._checkpoints.append(event)
        elif kind == "checkpoint_failed":
            self.checkpoint_failed = event
        elif kind == "incident":
            self.incidents.append(event)
        elif kind == "end":
            self.end = event

    @property
    def step(self) -> int:
        """Finished optimizer steps."""
        if self.recent:
            return int(self.recent[-1]["step"])
        return int(self.start["step"]) if self.start else 0

    @property
    def checkpoint(self) -> Event | None:
        """The newest ``checkpoint``."""
        return self._checkpoints[-1] if self._checkpoints else None

    @property
    def first_validated_step(self) -> int | None:
        """Step of the first validation."""
        return None if self._first_validation is None else self._first_validation[0]

    @property
    def validation(self) -> Validation | None:
        """The newest validation."""
        return self._validations[-1] if self._validations else None

    def mean(self, name: str) -> float | None:
        """Return the mean of a field over the recent steps that have it as a number; None where none has."""
        return _mean(event.get(name) for event in self.recent)

    def means(self, name: str) -> dict[str, float]:
        """Return the mean of every entry of a field that maps names to numbers, in the order of their names' coming."""
        parts = [event.get(name) or {} for event in self.recent]
        means = {key: _mean(part.get(key) for part in parts) for part in parts for key in part}
        return {key: value for key, value in means.items() if value is not None}

    def tokens_per_second(self) -> float | None:
        """Return the tokens of the recent steps over their seconds."""
        seconds = math.fsum(event["seconds"] for event in self.recent)
        tokens = math.fsum(event["tokens_per_second"] * event["seconds"] for event in self.recent)
        return tokens / seconds if seconds > 0 else None

    def data_share(self) -> float | None:
        """Return the part of the recent steps' time in which they waited for data."""
        timed = [event for event in self.recent if event.get("data_seconds") is not None]
        seconds = math.fsum(event["seconds"] for event in timed)
        return math.fsum(event["data_seconds"] for event in timed) / seconds if seconds > 0 else None

    def seconds_left(self) -> float | None:
        """Return how long the remaining steps take at the pace since the start, with its validations and checkpoints.

        None before the first step.
        """
        first, last = self._first_since_start, self.recent[-1] if self.recent else None
        if self.start is None or first is None or last is None:
            return None
        steps = last["step"] - first["step"]
        pace = (last["time"] - first["time"]) / steps if steps > 0 else last["seconds"]
        return max(float(pace), 0.0) * max(int(self.start["train_iters"]) - int(last["step"]), 0)

    def silent_seconds(self, now: float) -> float | None:
        """Return for how long no event came, where that is long for this run; else None."""
        if self.last_time is None:
            return None
        least = _LEAST_SILENCE_AT_START_SECONDS if self._first_since_start is None else _LEAST_SILENCE_SECONDS
        steps = [10 * event["seconds"] for event in self.recent]
        validations = [3 * validation.seconds for validation in self._validations]
        silence = now - self.last_time
        return silence if silence > max([least, *steps, *validations]) else None

    def _begin(self, event: Event) -> None:
        resumed_from = event.get("resumed_from")
        last = -1 if resumed_from is None else int(resumed_from)
        self.start, self.end, self._first_since_start = event, None, None
        self.curve.drop_after(last)
        for events in (self.recent, self._checkpoints):
            while events and events[-1]["step"] > last:
                events.pop()
        while self._validations and self._validations[-1].step > last:
            self._validations.pop()
        if self._first_validation is not None and self._first_validation[0] > last:
            self._first_validation = None

    def _validate(self, event: Event) -> None:
        if self._first_validation is None:
            self._first_validation = (event["step"], event["rows"])
        # Only the summary is kept: the rows of hundreds of corpora, some hundred times, are much.
        lines = tier_table(self._first_validation[1], event["rows"], tiers=self.tiers)
        self._validations.append(Validation(event["step"], event["seconds"], lines))


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = [value for value in values if value is not None and math.isfinite(value)]
    return math.fsum(numbers) / len(numbers) if numbers else None
