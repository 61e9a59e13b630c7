"""Confidence intervals of means over languages, by resampling the languages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Interval = Callable[[Sequence[float]], tuple[float, float]]
"""Takes the values of languages, returns the ends of the interval of their mean; not numbers where there is none."""

LEVEL = 0.95
RESAMPLES = 1000

_SEED = 20240926
_MAX_DRAWN = 1 << 22


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of a mean: other languages might have been in the benchmark.

    The same values give the same interval. Fewer than two values give none.
    """
    if len(values) < 2:
        return math.nan, math.nan
    data = np.asarray(values, dtype=np.float64)
    random = np.random.default_rng(_SEED)
    step = max(1, _MAX_DRAWN // len(data))
    means = np.concatenate([
        data[random.integers(len(data), size=(min(step, RESAMPLES - start), len(data)))].mean(axis=1)
        for start in range(0, RESAMPLES, step)
    ])  # fmt: skip
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
