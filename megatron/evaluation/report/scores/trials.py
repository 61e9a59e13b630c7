"""Trial runs, which asked only the first items of each language: their scores are no results, and that must be seen."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from megatron.evaluation.results import Score

_FLAG = re.compile(r"limit=([1-9]\d{0,11})")


@dataclasses.dataclass(frozen=True)
class Trial:
    """A model's scores of one benchmark that are of the first items only.

    Attributes:
        benchmark: its name.
        model: its name.
        limits: at most so many items of each language; ascending, usually one.
        languages: number of those that were cut so.
        of: number of all languages that the model has scores of.
    """

    benchmark: str
    model: str
    limits: tuple[int, ...]
    languages: int
    of: int

    @property
    def text(self) -> str:
        """What was asked, in words."""
        most = " or ".join(f"{limit:,}" for limit in self.limits)
        return f"at most {most} items of a language in {self.languages:,} of {self.of:,} languages"


def limit_of(score: Score) -> int | None:
    """Return how many items at most a score is of, by its settings or its flags; None where it is of all."""
    texts = score.settings.get("texts")  # a parity is made of texts that were scored before
    for settings in (score.settings, texts if isinstance(texts, Mapping) else {}):
        limit = settings.get("limit")
        if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
            return limit
    found = [match for flag in score.flags if (match := _FLAG.fullmatch(flag))]
    return min((int(match[1]) for match in found), default=None)


def trials_of(benchmark: str, columns: Sequence[Mapping[str, Score]], names: Sequence[str]) -> list[Trial]:
    """Return the trial runs among the models' scores of one benchmark.

    Args:
        benchmark: its name.
        columns: of each model, its scores by language.
        names: of the models.
    """
    found = []
    for name, column in zip(names, columns, strict=True):
        limits = [limit for score in column.values() if (limit := limit_of(score)) is not None]
        if limits:
            found.append(Trial(benchmark, name, tuple(sorted(set(limits))), len(limits), len(column)))
    return found


def trial_sentences(trials: Sequence[Trial]) -> list[str]:
    """Return one sentence for each benchmark with a trial run."""
    by_benchmark: dict[str, dict[str, list[str]]] = {}
    for trial in trials:
        by_benchmark.setdefault(trial.benchmark, {}).setdefault(trial.text, []).append(trial.model)
    return [
        f"{benchmark}: " + "; ".join(f"{', '.join(models)}, {text}" for text, models in told.items()) + "."
        for benchmark, told in by_benchmark.items()
    ]
