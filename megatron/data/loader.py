"""Reads the samples of a step from the shards; holds no state besides open files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from megatron.data.indexed import FileCache, ShardError, ShardReader
from megatron.data.manifest import Manifest, ShardInfo, check_shard
from megatron.data.order import SampleOrder


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
        self._manifest = manifest
        self._shards = list(shards)
        self._readers: dict[int, ShardReader] = {}
        self._files = FileCache()  # bounds the open files, however many corpora there are

    def sample(self, number: int) -> NDArray[np.int64]:
        """Return the ``seq_length + 1`` token ids of one sample: the inputs, and one more as the last target."""
        where = self._order.sample(number)
        reader = self._readers.get(where.corpus)
        if reader is None:
            # Opened on first use: thousands of corpora cost nothing before they are read.
            shard = self._shards[where.corpus]
            reader = ShardReader(self._manifest.prefix(shard), files=self._files)
            check_shard(reader, shard)
            self._readers[where.corpus] = reader
        wanted, start = self._order.seq_length + 1, where.start
        pieces = []
        while wanted > 0:
            piece = reader.tokens(start, min(start + wanted, reader.num_tokens))
            pieces.append(piece)
            wanted -= len(piece)
            start = 0
        tokens = np.concatenate(pieces).astype(np.int64)
        if tokens.min() < 0 or tokens.max() >= self._manifest.tokenizer.vocab_size:
            raise ShardError(
                f"{reader.prefix}: holds the id {tokens.max()} near token {where.start}, but the tokenizer has only "
                f"{self._manifest.tokenizer.vocab_size}; the file is damaged: tokenise this corpus again"
            )
        return tokens

    def batch(self, numbers: Sequence[int]) -> NDArray[np.int64]:
        """Return the samples ``numbers`` as rows: int64 ``[len(numbers), seq_length + 1]``."""
        return np.stack([self.sample(number) for number in numbers])


def micro_batch_numbers(*, first: int, micro_step: int, rank: int, ranks: int, micro_size: int) -> range:
    """Return the sample numbers of one micro-batch of a step whose samples begin at ``first``.

    A step takes consecutive samples; micro-steps and data-parallel ranks only divide them up (in GPT-NeoX's way), so
    the layout never changes what a step trains on.
    """
    start = first + (micro_step * ranks + rank) * micro_size
    return range(start, start + micro_size)
