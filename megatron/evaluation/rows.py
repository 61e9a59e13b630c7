"""Rows that a model reads, in which windows that begin alike share their beginning.

The answers to one question, or the questions after the same examples, differ at their ends only. What they have in
common is read once: a row is a tree of tokens, each of which sees those on the way from the root to itself, and stands
at the position that it has in its window.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from megatron.model.loss import IGNORE
from megatron.model.mask import Mask

_LEAST_SHARED = 0.5
"""Part of a window that must be there already; below that a row of its own costs no more than attention over both."""

_MOST_ROW_TOKENS = 1024
"""Attention looks at every pair in a row: longer ones save fewer tokens than they cost (docs/performance.md)."""


@dataclasses.dataclass(frozen=True)
class Window:
    """A piece of a text: ``inputs[i]`` predicts ``targets[i]``.

    Attributes:
        group: what its sums are added to, such as the number of a document or of a corpus.
        inputs: int64 ids; the first one begins a text.
        targets: int64 ids, as long as ``inputs``; ``IGNORE`` where another window scores them.
    """

    group: int
    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]


class Piece(NamedTuple):
    """A window in a row: its first ``shared`` tokens are those of the window before, the others begin at ``start``."""

    window: Window
    shared: int
    start: int


@dataclasses.dataclass
class Row:
    """Windows that are read together.

    Attributes:
        pieces: the windows; the first one shares nothing.
        num_tokens: of all of them, what is shared counted once.
    """

    pieces: list[Piece]
    num_tokens: int

    @classmethod
    def of(cls, window: Window) -> Row:
        """Return the row of one window."""
        return cls([Piece(window, 0, 0)], len(window.inputs))

    def take(self, window: Window, *, most_tokens: int) -> bool:
        """Add a window if its beginning is that of the last one and there is room for the rest; return whether."""
        # A token predicts one other: the last one in common is there once for each window.
        shared = _length_in_common(self.pieces[-1].window.inputs, window.inputs) - 1
        longer = self.num_tokens + len(window.inputs) - shared
        if shared < _LEAST_SHARED * len(window.inputs) or longer > most_tokens:
            return False
        self.pieces.append(Piece(window, shared, self.num_tokens))
        self.num_tokens = longer
        return True

    def paths(self) -> Iterator[NDArray[np.int64]]:
        """Yield the places of each window's tokens in the row."""
        path = np.empty(0, dtype=np.int64)
        for window, shared, start in self.pieces:
            own = np.arange(start, start + len(window.inputs) - shared)
            path = np.concatenate((path[:shared], own))
            yield path


def shared_rows(windows: Iterable[Window], *, batch_tokens: int) -> list[Row]:
    """Put windows that begin alike into the same rows; return the rows, the longest first.

    Args:
        windows: where a target is not ``IGNORE`` and is not the last one, it is the id that follows in ``inputs``.
        batch_tokens: no row of several windows is longer.
    """
    # Those that begin alike come one after the other, whatever the order of ids.
    alike = sorted(windows, key=lambda window: (window.inputs.astype(np.int32).tobytes(), window.group))
    rows: list[Row] = []
    most_tokens = 0
    for window in alike:
        if not rows or not rows[-1].take(window, most_tokens=most_tokens):
            rows.append(Row.of(window))
            most_tokens = min(batch_tokens, max(_MOST_ROW_TOKENS, len(window.inputs) * 5 // 4))
    return sorted(rows, key=lambda row: -row.num_tokens)


class Batch(NamedTuple):
    """Rows as a model reads them.

    Attributes:
        inputs: int64 ``[rows, tokens]``.
        targets: as ``inputs``; ``IGNORE`` for none.
        positions: as ``inputs``; None where each row is one window.
        mask: which tokens see which; None where each row is one window.
        places: int64 ``[scores]``, where in ``inputs``, flattened, each score of a window is found.
        groups: int64 ``[scores]``, the group that it is added to.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    positions: torch.Tensor | None
    mask: Mask | None
    places: torch.Tensor
    groups: torch.Tensor

    @classmethod
    def of(cls, rows: Sequence[Row], *, multiple: int, device: torch.device) -> Batch:
        """Return rows, the longest first, filled up to a multiple of so many tokens."""
        shape = (len(rows), -(-rows[0].num_tokens // multiple) * multiple)
        inputs, targets = np.zeros(shape, dtype=np.int64), np.full(shape, IGNORE, dtype=np.int64)
        positions, places, groups = np.zeros(shape, dtype=np.int64), [], []
        for number, row in enumerate(rows):
            for piece, path in zip(row.pieces, row.paths(), strict=True):
                window = piece.window
                inputs[number, path], positions[number, path] = window.inputs, np.arange(len(path))
                wanted = window.targets != IGNORE
                targets[number, path[wanted]] = window.targets[wanted]
                places.append(path[wanted] + number * shape[1])
                groups.append(np.full(len(places[-1]), window.group))
        alone = all(len(row.pieces) == 1 for row in rows)

        def moved(array: NDArray[np.generic]) -> torch.Tensor:
            return torch.from_numpy(array).to(device)

        return cls(
            moved(inputs),
            moved(targets),
            None if alone else moved(positions),
            None if alone else Mask(moved(_visible(rows, shape[1]))),
            moved(np.concatenate(places)),
            moved(np.concatenate(groups)),
        )


def _visible(rows: Sequence[Row], width: int) -> NDArray[np.bool_]:
    visible = np.zeros((len(rows), width, width), dtype=np.bool_)
    visible[:, np.arange(width), np.arange(width)] = True  # also where rows are only filled up
    for sees, row in zip(visible, rows, strict=True):
        for (_, shared, start), path in zip(row.pieces, row.paths(), strict=True):
            own = slice(start, start + len(path) - shared)
            sees[own, path[:shared]] = True
            sees[own, own] = np.tri(len(path) - shared, dtype=np.bool_)
    return visible


def _length_in_common(first: NDArray[np.int64], second: NDArray[np.int64]) -> int:
    length = min(len(first), len(second))
    differ = first[:length] != second[:length]
    return int(differ.argmax()) if differ.any() else length
