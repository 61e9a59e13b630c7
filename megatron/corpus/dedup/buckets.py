"""Which items go: those that meet a smaller one in a bucket of equal keys.

The rule looks at one bucket at a time, so buckets can be spread over files and processes in any way; and it looks at
nothing but the items' order, so the result is the same however they were spread. Every item that goes has a smaller one
in one of its buckets (which may go for the sake of a third), and no two items that stay share a bucket. Connected
components, the usual alternative, need all pairs at one place; and of two texts that both resemble a later third, but
not each other, they keep only one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.uint64]


def duplicates(keys: Numbers, items: Numbers) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """Return the items that are not the smallest in some bucket.

    A bucket is all entries with one key, and must be complete. Memory beside the arguments: 24 bytes an entry, and up
    to 52 where most keys are shared.

    Args:
        keys: uint64, shape ``[entries]``, in any order; an odd key is an exact one.
        items: uint64, shape ``[entries]``: what has the key. An item may have a key twice.

    Returns:
        The items, uint64, ascending, each once; and for each whether an exact bucket says so, bool, of the same shape.
    """
    if keys.shape != items.shape or keys.ndim != 1:
        raise ValueError(f"keys {keys.shape} and items {items.shape} need the same single dimension")
    order = np.argsort(keys)
    keys, items = keys[order], items[order]
    del order
    shared = _not_alone(keys)
    keys, items = keys[shared], items[shared]
    starts = _run_starts(keys)
    if not len(starts):
        return items, np.zeros(0, dtype=np.bool_)
    smallest = np.minimum.reduceat(items, starts)
    later = items > np.repeat(smallest, np.diff(starts, append=len(items)))
    return _distinct(items[later], (keys[later] & np.uint64(1)).astype(np.bool_))


def _distinct(items: Numbers, exact: npt.NDArray[np.bool_]) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """Sort the items and join those that are equal; one of them is exact if any was."""
    order = np.argsort(items)
    items, exact = items[order], exact[order]
    starts = _run_starts(items)
    return items[starts], np.logical_or.reduceat(exact, starts) if len(starts) else exact


def _not_alone(values: Numbers) -> npt.NDArray[np.bool_]:
    """Return which of the sorted values occur twice or more."""
    equal = values[1:] == values[:-1]
    alike = np.zeros(len(values), dtype=np.bool_)
    alike[1:] = equal
    alike[:-1] |= equal
    return alike


def _run_starts(values: Numbers) -> npt.NDArray[np.int64]:
    """Return where each run of equal values begins."""
    changes = np.ones(len(values), dtype=np.bool_)
    changes[1:] = values[1:] != values[:-1]
    return np.flatnonzero(changes)
