"""How sure a mean, a ratio of sums or a comparison of two models is: percentile bootstrap intervals.

Source: Efron, 1979; Koehn, 2004, "Statistical Significance Tests for Machine Translation Evaluation", for the paired
form. What is drawn depends on the seed alone. Draws are made piece by piece, so that memory does not grow with their
number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_RESAMPLES = 1000
_LEVEL = 0.95
# Items drawn at a time: 16 MiB of indices and as much for each column of values.
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
    """
    [column] = _columns(values)
    return _interval((column,), lambda sums: sums[:, 0] / len(column), seed, resamples, level)


def ratio_interval(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    scale: float = 1.0,
    seed: int = 0,
    resamples: int = _RESAMPLES,
    level: float = _LEVEL,
) -> Interval:
    """Return ``scale`` times the sum of numerators over the sum of denominators, and its interval.

    Args:
        numerators: one for each item.
        denominators: of the same items; all above 0.
        scale: factor of value and bounds.
        seed: of the draws.
        resamples: how often as many items are drawn.
        level: share of the resampled ratios between the bounds.
    """
    columns = _columns(numerators, denominators)
    _must_be_positive("denominators", columns[1])
    return _interval(columns, lambda sums: scale * sums[:, 0] / sums[:, 1], seed, resamples, level)


def bits_per_byte_interval(
    nats: ArrayLike, num_bytes: ArrayLike, *, seed: int = 0, resamples: int = _RESAMPLES, level: float = _LEVEL
) -> Interval:
    """Return the bits per byte of documents, from the nats and the UTF-8 bytes of each, and their interval."""
    return ratio_interval(nats, num_bytes, scale=1 / math.log(2), seed=seed, resamples=resamples, level=level)


def log_ratio_interval(
    ours: ArrayLike, base: ArrayLike, *, seed: int = 0, resamples: int = _RESAMPLES, level: float = _LEVEL
) -> Interval:
    """Return ln(sum of ours / sum of base) over the documents of one language, and its interval.

    Both models are judged by the same draws of documents, so what makes a document hard for both cancels out.

    Args:
        ours: nats of each document under one model; all above 0.
        base: nats of the same documents under another; all above 0.
        seed: of the draws.
        resamples: how often as many documents are drawn.
        level: share of the resampled values between the bounds.
    """
    columns = _positive_pair(ours, base)
    return _interval(columns, _log_ratio, seed, resamples, level)


def macro_log_ratio_interval(
    documents: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    over: Literal["languages", "documents", "both"] = "both",
    seed: int = 0,
    resamples: int = _RESAMPLES,
    level: float = _LEVEL,
) -> Interval:
    """Return the mean over languages of ln(sum of ours / sum of base), and its interval.

    Args:
        documents: of each language the nats of its documents under one model and under another, as in
            :func:`log_ratio_interval`; at least one document each.
        over: what is drawn again: ``languages`` asks how it would be in other languages, ``documents`` in the same
            ones with other texts, ``both`` with other texts in other languages.
        seed: of the draws.
        resamples: how often it is drawn.
        level: share of the resampled means between the bounds.
    """
    if over not in ("languages", "documents", "both"):
        raise ValueError(f"over must be languages, documents or both, not {over!r}")
    pairs = [_positive_pair(ours, base) for ours, base in documents]
    empty = [index for index, (ours, _) in enumerate(pairs) if not len(ours)]
    if empty:
        raise ValueError(f"languages without documents: {', '.join(map(str, empty))}; leave them out, and say so")
    values = np.array([math.log(ours.sum() / base.sum()) for ours, base in pairs])
    if over == "languages":
        return mean_interval(values, seed=seed, resamples=resamples, level=level)
    _check(resamples, level)
    rng = np.random.default_rng(seed)
    says_something = max((len(ours) for ours, _ in pairs), default=0) > 1 and (over == "documents" or len(pairs) > 1)
    if not says_something:
        return Interval(_mean(values), math.nan, math.nan)
    drawn = np.stack([_log_ratio(_resampled_sums(pair, rng, resamples)) for pair in pairs])
    return _bounded(_mean(values), _over_languages(drawn, rng) if over == "both" else drawn.mean(axis=0), level)


def _over_languages(drawn: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw languages anew for every column of ``drawn`` [languages, resamples]; return their means [resamples].

    A language that is drawn twice brings two draws of its documents.
    """
    languages, resamples = drawn.shape
    means = np.empty(resamples)
    for start, stop in _pieces(resamples, languages):
        shape = (stop - start, languages)
        means[start:stop] = drawn[rng.integers(languages, size=shape), rng.integers(resamples, size=shape)].mean(axis=1)
    return means


def _interval(
    columns: tuple[NDArray[np.float64], ...],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    seed: int,
    resamples: int,
    level: float,
) -> Interval:
    """Return a statistic of sums, and its interval; ``statistic`` turns sums [n, columns] into values [n]."""
    _check(resamples, level)
    items = len(columns[0])
    if not items:
        return Interval(math.nan, math.nan, math.nan)
    value = float(statistic(np.array([[column.sum() for column in columns]]))[0])
    if items == 1:
        return Interval(value, math.nan, math.nan)
    return _bounded(value, statistic(_resampled_sums(columns, np.random.default_rng(seed), resamples)), level)


def _resampled_sums(
    columns: tuple[NDArray[np.float64], ...], rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Draw as many items as there are, again and again; return the sums of their columns [resamples, columns]."""
    items = len(columns[0])
    sums = np.empty((resamples, len(columns)))
    for start, stop in _pieces(resamples, items):
        drawn = rng.integers(items, size=(stop - start, items))
        for index, column in enumerate(columns):
            sums[start:stop, index] = column[drawn].sum(axis=1)
    return sums


def _pieces(resamples: int, items: int) -> list[tuple[int, int]]:
    """Divide resamples into pieces that are drawn at a time."""
    step = max(1, _DRAWN_ITEMS // items)
    return [(start, min(start + step, resamples)) for start in range(0, resamples, step)]


def _bounded(value: float, resampled: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(resampled, ((1 - level) / 2, (1 + level) / 2))
    return Interval(value, float(low), float(high))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _log_ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    ratios: NDArray[np.float64] = np.log(sums[:, 0] / sums[:, 1])
    return ratios


def _positive_pair(ours: ArrayLike, base: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    columns = _columns(ours, base)
    _must_be_positive("ours", columns[0])
    _must_be_positive("base", columns[1])
    return columns


def _columns(*values: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    columns = tuple(np.asarray(column, dtype=np.float64) for column in values)
    shapes = {column.shape for column in columns}
    if len(shapes) > 1 or any(column.ndim != 1 for column in columns):
        raise ValueError(f"give one value for each item, not arrays of {' and '.join(map(str, sorted(shapes)))}")
    if not all(np.isfinite(column).all() for column in columns):
        raise ValueError("values must be finite numbers; leave items without a value out, and say so")
    return columns


def _must_be_positive(name: str, column: NDArray[np.float64]) -> None:
    if not (column > 0).all():
        raise ValueError(f"{name} must be above 0 for every item; the smallest is {column.min()}")


def _check(resamples: int, level: float) -> None:
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples must be at least 1 and level between 0 and 1, not {resamples} and {level}")
