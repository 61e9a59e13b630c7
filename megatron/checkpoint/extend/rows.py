"""Rows of a matrix for tokens that it does not have yet, made of the rows of the old ones.

* ``mean``: the mean of the rows of the old tokens that spell the new one. Fast Vocabulary Transfer (Gee et al., EMNLP
  2022 Industry Track, arXiv 2402.09977); competitive with costlier ones for Llama 2 (Yamaguchi et al., arXiv
  2406.11477).
* ``first``, ``last``: the row of the first or last of them. AdaptiVocab (Nakash et al., arXiv 2503.19693) gives the
  last tokens most weight in the input and the first ones in the output; these two are the limits of that.
* ``average``: the mean of all old rows, the same for every new token. No new token of the output then takes more than
  one part in the number of old ones (Hewitt, "Initializing New Word Embeddings for Pretrained Language Models", 2021).
* ``normal``: random, every dimension with the mean and the standard deviation of the old rows: what those papers
  compare with.

All but ``normal`` are within the convex hull of the old rows, where a new token of the output is never likelier than
every old one (Mundra et al., arXiv 2407.05841). Everything is computed in float64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from megatron.checkpoint.shards import row_groups

METHODS = ("mean", "first", "last", "average", "normal")
"""How rows are made; the first is the default."""

_CHUNK_BYTES = 16 << 20


class _Use(NamedTuple):
    """Which old row goes into which new one, int64 ``[uses]`` by rising old row; and how many in each, ``[new]``."""

    old: Tensor
    new: Tensor
    counts: Tensor


class NewRows:
    """New rows of one matrix.

    Args:
        read: returns the old rows ``[first, stop)``, ``[rows, width]``; never asked for more than some 16 MiB of them.
        width: of the matrix.
        itemsize: bytes of a number as it is stored.
        spellings: of each new token the old ones, by their rows.
        old_size: old rows that have a token; padding after them is not looked at.
        method: one of :data:`METHODS`.
        seed: of ``normal``; another one for each matrix. Rows do not depend on which others are asked for.
    """

    def __init__(
        self,
        read: Callable[[int, int], Tensor],
        *,
        width: int,
        itemsize: int,
        spellings: Sequence[Sequence[int]],
        old_size: int,
        method: str,
        seed: Sequence[int],
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"{method!r} makes no rows; take one of {', '.join(METHODS)}")
        self._read, self._width, self._itemsize = read, width, itemsize
        self._spellings, self._old_size = spellings, old_size
        self._method, self._seed = method, tuple(seed)

    def rows(self, first: int, stop: int) -> Tensor:
        """Return the rows of the new tokens ``[first, stop)``, counted from 0, float64 ``[rows, width]``."""
        if self._method == "average":
            return self.average.expand(stop - first, -1)
        if self._method == "normal":
            drawn = np.stack([self._drawn(row) for row in range(first, stop)])
            return self.average + self._deviation * torch.from_numpy(drawn)
        made = torch.zeros(stop - first, self._width, dtype=torch.float64)
        uses = self._uses(first, stop)
        most = max(1, _CHUNK_BYTES // (8 * self._width))
        for begin, end in self._groups():
            low, high = torch.searchsorted(uses.old, torch.tensor([begin, end])).tolist()
            old = self._read(begin, end) if low < high else None
            for start in range(low, high, most):
                assert old is not None
                chunk = slice(start, min(start + most, high))
                made.index_add_(0, uses.new[chunk], old[uses.old[chunk] - begin].double())
        return made.div_(uses.counts[:, None])

    @property
    def average(self) -> Tensor:
        """The mean of all old rows, float64 ``[width]``."""
        return self._moments[0]

    @property
    def _deviation(self) -> Tensor:
        return self._moments[1]

    @functools.cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of every dimension over all old rows."""
        mean = sum((self._read(begin, end).double().sum(0) for begin, end in self._groups()), self._zeros())
        mean /= self._old_size
        groups = (self._read(begin, end).double() - mean for begin, end in self._groups())
        squares = sum((rows.square_().sum(0) for rows in groups), self._zeros())
        return mean, (squares / self._old_size).sqrt()

    def _drawn(self, row: int) -> NDArray[np.float64]:
        return np.random.default_rng((*self._seed, row)).standard_normal(self._width)

    def _zeros(self) -> Tensor:
        return torch.zeros(self._width, dtype=torch.float64)

    def _groups(self) -> Iterator[tuple[int, int]]:
        for rows, _ in row_groups((self._old_size, self._width), self._itemsize):
            yield rows.start, rows.stop

    def _uses(self, first: int, stop: int) -> _Use:
        chosen = [self._chosen(spelling) for spelling in self._spellings[first:stop]]
        old = torch.tensor([token for tokens in chosen for token in tokens], dtype=torch.int64)
        counts = torch.tensor([len(tokens) for tokens in chosen], dtype=torch.int64)
        new = torch.repeat_interleave(torch.arange(stop - first), counts)
        order = old.argsort(stable=True)
        return _Use(old[order], new[order], counts)

    def _chosen(self, spelling: Sequence[int]) -> Sequence[int]:
        return {"first": spelling[:1], "last": spelling[-1:]}.get(self._method, spelling)
