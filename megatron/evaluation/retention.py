"""What corpora have lost in the course of a run: against its beginning, and against their best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from megatron.monitor.summary import Row, Score, macro_mean, scores

_WORST = 5


class Loss(NamedTuple):
    """Bits per byte of a corpus over a run.

    Attributes:
        score: the present one.
        baseline: the first one that was a number; not a number where there was none.
        best: the lowest so far, the present one included.
    """

    score: Score
    baseline: float
    best: float

    @property
    def percent(self) -> float:
        """By how much it is worse than at the beginning; negative where it is better."""
        return _percent(self.score.bits_per_byte, self.baseline)

    @property
    def forgotten_percent(self) -> float:
        """By how much it is worse than at its best."""
        return _percent(self.score.bits_per_byte, self.best)


class Retention:
    """Follows every corpus through the validations of a run.

    Args:
        earlier: rows of the validations before, in their order; those of the run that is resumed.
    """

    def __init__(self, earlier: Iterable[Sequence[Row]] = ()) -> None:
        self._baseline: dict[str, float] = {}
        self._best: dict[str, float] = {}
        for rows in earlier:
            self.add(rows)

    def add(self, rows: Sequence[Row]) -> list[Loss]:
        """Take a validation in and return what it means for every corpus that has a score, in the order of the rows."""
        found = scores(rows)
        for score in found:
            if math.isfinite(score.bits_per_byte):  # a model that has broken down is nothing to compare with
                self._baseline.setdefault(score.corpus, score.bits_per_byte)
                self._best[score.corpus] = min(score.bits_per_byte, self._best.get(score.corpus, math.inf))
        return [
            Loss(score, self._baseline.get(score.corpus, math.nan), self._best.get(score.corpus, math.nan))
            for score in found
        ]


def exceeds(loss: Loss, limit_percent: float) -> bool:
    """Whether a corpus has lost more than is allowed; bits per byte that are no number always have."""
    return not math.isfinite(loss.score.bits_per_byte) or loss.percent > limit_percent


def is_pivot(score: Score, pivots: Sequence[str]) -> bool:
    """Whether a corpus is watched: its name, its code or its source is one of ``pivots``."""
    return not {score.corpus, score.code, score.source}.isdisjoint(pivots)


def forgetting(losses: Sequence[Loss], pivots: Sequence[str]) -> Mapping[str, Any]:
    """Return the part of a validation's record that says what has been lost.

    Returns:
        ``worse``, the number of corpora that are worse than at the beginning; ``percent``, the mean over all corpora of
        what they have lost since their best; ``worst``, the most that corpora have lost since the beginning, by name;
        and ``pivots``, the same of each that is watched, lost or gained.
    """
    worse = sorted((loss for loss in losses if loss.percent > 0), key=lambda loss: -loss.percent)
    return {
        "worse": len(worse),
        "percent": macro_mean(loss.forgotten_percent for loss in losses),
        "worst": {loss.score.corpus: loss.percent for loss in worse[:_WORST]},
        "pivots": {loss.score.corpus: loss.percent for loss in losses if is_pivot(loss.score, pivots)},
    }


def _percent(value: float, reference: float) -> float:
    return (value / reference - 1) * 100 if reference else math.nan
