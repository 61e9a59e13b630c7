"""Reads the samples of a step from the shards; holds no state besides open files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from megatron.data.indexed import ShardError
from megatron.data.manifest import Manifest, ShardInfo
from megatron.data.order import SampleOrder
from megatron.data.parts import Parts, ShardPart


class Loader:
    """Turns sample numbers into token ids.

    Args:
        order: says where each sample comes from.
        manifest: knows where the shards lie, and the size of the vocabulary.
        shards: every corpus's shard, numbered as in ``order``.

    Raises:
        ShardError: (while reading) a shard is damaged, is not the one of the manifest, or holds ids that the tokenizer
            does not have.
    """

    def __init__(self, *, order: SampleOrder, manifest: Manifest, shards: Sequence[ShardInfo]) -> None:
        self._order = order
        self._vocab_size = manifest.tokenizer.vocab_size
        self._shards = list(shards)
        self._parts = Parts(manifest.root)
        self._opened: dict[int, ShardPart] = {}

    def sample(self, number: int) -> NDArray[np.int64]:
        """Return the ``seq_length + 1`` token ids of one sample: the inputs, and one more as the last target."""
        row: NDArray[np.int64] = self.batch([number])[0]
        return row

    def batch(self, numbers: Sequence[int]) -> NDArray[np.int64]:
        """Return the samples ``numbers`` as rows: int64 ``[len(numbers), seq_length + 1]``."""
        rows = np.empty((len(numbers), self._order.seq_length + 1), dtype=np.int64)
        for number, row in zip(numbers, rows, strict=True):
            corpus, _, _, start = self._order.sample(number)
            part = self._opened.get(corpus) or self._open(corpus)
            part.read_into(start, row)
        # One pass for both rules: a negative id is, as an unsigned number, larger than any vocabulary.
        if rows.size and rows.view(np.uint64).max() >= self._vocab_size:
            self._refuse(numbers, rows)
        return rows

    def corpora(self, numbers: Sequence[int]) -> list[int]:
        """Return the corpus of each of the samples ``numbers``, as numbered in the order."""
        return [self._order.sample(number).corpus for number in numbers]

    def _open(self, corpus: int) -> ShardPart:
        part = self._opened[corpus] = self._parts.open(self._shards[corpus])
        return part

    def _refuse(self, numbers: Sequence[int], rows: NDArray[np.int64]) -> None:
        """Say which shard holds the first id that is not in the vocabulary."""
        row, column = map(int, np.argwhere((rows < 0) | (rows >= self._vocab_size))[0])
        where = self._order.sample(numbers[row])
        part = self._opened[where.corpus]
        raise ShardError(
            f"{part.prefix}: holds the id {rows[row, column]} at token {(where.start + column) % part.num_tokens} of "
            f"{part.shard.name}, but the tokenizer has only {self._vocab_size}; the file is damaged: tokenise this "
            "corpus again"
        )


def micro_batch_numbers(*, first: int, micro_step: int, rank: int, ranks: int, micro_size: int) -> range:
    """Return the sample numbers of one micro-batch of a step whose samples begin at ``first``.

    A step takes consecutive samples; micro-steps and data-parallel ranks only divide them up (in GPT-NeoX's way), so
    the layout never changes what a step trains on.
    """
    start = first + (micro_step * ranks + rank) * micro_size
    return range(start, start + micro_size)
