"""How sure a mean is: its percentile bootstrap interval.

Source: Efron, 1979. What is drawn depends on the seed alone. Draws are made piece by piece, so that memory does not
grow with their number.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_RESAMPLES = 1000
_LEVEL = 0.95
# Items drawn at a time: 16 MiB of indices and as much of values.
_DRAWN_ITEMS = 1 << 21


class Interval(NamedTuple):
    """A value, and between which bounds it would lie with other items of the same kind.

    Attributes:
        value: of the items as they are; not a number without any.
        low: lower bound; not a number with fewer than two items, which say nothing about others.
        high: upper bound.
    """

    value: float
    low: float
    high: float


def mean_interval(
    values: ArrayLike, *, seed: int = 0, resamples: int = _RESAMPLES, level: float = _LEVEL
) -> Interval:
    """Return the mean of values, and its interval.

    Args:
        values: one for each item: right or wrong, or the log-ratio of a language; all are finite.
        seed: of the draws.
        resamples: how often as many items are drawn.
        level: share of the resampled means between the bounds.

    Raises:
        ValueError: values are no numbers, or not one for each item; ``resamples`` or ``level`` makes no sense.
    """
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"give one value for each item, not an array of {column.shape}")
    if not np.isfinite(column).all():
        raise ValueError("values must be finite numbers; leave items without a value out, and say so")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples must be at least 1 and level between 0 and 1, not {resamples} and {level}")
    if not len(column):
        return Interval(math.nan, math.nan, math.nan)
    value = float(column.mean())
    if len(column) == 1:
        return Interval(value, math.nan, math.nan)
    means = _resampled_means(column, np.random.default_rng(seed), resamples)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return Interval(value, float(low), float(high))


def _resampled_means(
    column: NDArray[np.float64], rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Draw as many items as there are, again and again; return their means [resamples]."""
    items = len(column)
    means = np.empty(resamples)
    step = max(1, _DRAWN_ITEMS // items)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        means[start:stop] = column[rng.integers(items, size=(stop - start, items))].sum(axis=1) / items
    return means
