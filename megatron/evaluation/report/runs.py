"""Several runs side by side: their names, how far each is, and the text that all of them scored."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from megatron.evaluation.report.data import ReportError, Run, load_run
from megatron.evaluation.report.scale import STEPS, TOKENS, Axis
from megatron.monitor.record import Event
from megatron.monitor.summary import Row, Score, macro_mean, scores

ALL = "all"


@dataclasses.dataclass(frozen=True)
class Runs:
    """Runs that are compared, under names that differ.

    They are compared over steps; where their steps have different numbers of tokens, over tokens.
    """

    runs: Sequence[Run]

    @functools.cached_property
    def axis(self) -> Axis:
        """What the runs are compared over."""
        sizes = {run.start["tokens_per_step"] for run in self.runs if run.start and "tokens_per_step" in run.start}
        return STEPS if len(sizes) < 2 else TOKENS

    @property
    def names(self) -> list[str]:
        """Names of the runs."""
        return [run.name for run in self.runs]

    def train_places(self, run: Run) -> list[int]:
        """Return where the run's steps lie on the axis."""
        return [event["step" if self.axis is STEPS else "tokens"] for event in run.train]

    def validations(self, run: Run) -> dict[int, Event]:
        """Return the run's validations by their place on the axis."""
        if self.axis is STEPS:
            return {event["step"]: event for event in run.validations}
        tokens = {event["step"]: event["tokens"] for event in run.train}
        per_step = run.start["tokens_per_step"] if run.start else 0
        return {tokens.get(event["step"], event["step"] * per_step): event for event in run.validations}

    def shared_place(self, runs: Sequence[Run]) -> int | None:
        """Return the last place at which all of these runs were validated."""
        places = [self.validations(run).keys() for run in runs]
        return max(set(places[0]).intersection(*places[1:]), default=None) if places else None

    @functools.cached_property
    def tokenizers_differ(self) -> bool:
        """Whether the same held-out text is other numbers of tokens in some of the runs, so that losses do not compare.

        A corpus counts as the same text where it has as many bytes.
        """
        tokens: dict[tuple[str, int], int] = {}
        rows = [row for run in self.runs for event in run.validations[-1:] for row in event["rows"]]
        return any(tokens.setdefault((row["corpus"], row["bytes"]), row["tokens"]) != row["tokens"] for row in rows)

    def place_text(self, place: int) -> str:
        """Name a place on the axis: ``step 2,000`` or ``1.2B tokens``."""
        return f"step {place:,}" if self.axis is STEPS else f"{self.axis.form(place)} tokens"

    def tiers(self) -> list[str]:
        """Return every tier of every run, in the order of the first that has it."""
        return list(dict.fromkeys(tier for run in self.runs for tier in run.tiers()))


@dataclasses.dataclass(frozen=True)
class Joined:
    """A corpus, as the first of several validations describes it, and its bits per byte in each of them."""

    score: Score
    values: Sequence[float]


@dataclasses.dataclass(frozen=True)
class Means:
    """Macro means of the corpora of one tier, or of all, in each of several validations."""

    name: str
    corpora: int
    values: Sequence[float]


def load_runs(folders: Sequence[Path]) -> Runs:
    """Read the records of several save folders.

    Raises:
        MetricsError: a folder holds no record.
        ReportError: a folder is given twice.
    """
    names = unique_names(folders)
    return Runs([dataclasses.replace(load_run(folder), name=name) for folder, name in zip(folders, names, strict=True)])


def unique_names(folders: Sequence[Path]) -> list[str]:
    """Name folders by as many of their last parts as it takes to tell each from the others.

    Raises:
        ReportError: a folder is given twice.
    """
    paths = [folder.resolve().parts[1:] for folder in folders]
    twice = [folder for folder, path in zip(folders, paths, strict=True) if paths.count(path) > 1]
    if twice:
        raise ReportError(f"{twice[0]} is given twice: a run cannot be compared with itself")

    def name(path: Sequence[str]) -> str:
        for count in range(1, len(path)):
            if sum(other[-count:] == path[-count:] for other in paths) == 1:
                return "/".join(path[-count:])
        return "/".join(path)

    return [name(path) for path in paths]


def join(validations: Sequence[Sequence[Row]]) -> list[Joined]:
    """Join validations on the corpus name; a corpus that one of them did not score is left out."""
    values = [{score.corpus: score.bits_per_byte for score in scores(rows)} for rows in validations]
    return [
        Joined(score, [scored[score.corpus] for scored in values])
        for score in (scores(validations[0]) if validations else [])
        if all(score.corpus in scored for scored in values)
    ]


def tier_means(joined: Sequence[Joined], tiers: Sequence[str]) -> list[Means]:
    """Return the means of every tier in the given order, and of all corpora last; nothing of nothing."""
    groups: dict[str, list[Joined]] = {tier: [] for tier in tiers}
    for entry in joined:
        groups.setdefault(entry.score.tier, []).append(entry)
    named = [*((tier, entries) for tier, entries in groups.items() if entries), (ALL, joined)]
    return [_means(name, entries) for name, entries in named] if joined else []


def mean_over(rows: Sequence[Row], corpora: Mapping[str, object]) -> float | None:
    """Return the mean bits per byte of a validation over some corpora; None where it has not scored all of them."""
    found = [score.bits_per_byte for score in scores(rows) if score.corpus in corpora]
    return macro_mean(found) if found and len(found) == len(corpora) else None


def _means(name: str, entries: Sequence[Joined]) -> Means:
    columns = zip(*(entry.values for entry in entries), strict=True)
    return Means(name, len(entries), [macro_mean(column) for column in columns])
