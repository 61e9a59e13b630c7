from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from megatron.data.indexed import ShardWriter
from megatron.data.loader import Loader, micro_batch_numbers
from megatron.data.order import SampleOrder


def test_samples_are_windows_of_the_ring(tmp_path: Path) -> None:
    sizes = {"a": 100, "b": 7}
    for index, (name, size) in enumerate(sizes.items()):
        with ShardWriter(tmp_path / name, dtype=np.uint16) as writer:
            writer.add_document(np.arange(size, dtype=np.uint16) + 1000 * index)
    order = SampleOrder(seed=3, names=list(sizes), tokens=list(sizes.values()), shares=[2, 1], seq_length=16)
    loader = Loader(order=order, prefixes=[tmp_path / name for name in sizes])
    for number in range(60):
        where, row = order.sample(number), loader.sample(number)
        size = list(sizes.values())[where.corpus]
        assert row.dtype == np.int64
        assert row.tolist() == [1000 * where.corpus + (where.start + i) % size for i in range(17)]
    batch = loader.batch(range(4, 9))
    assert batch.shape == (5, 17)
    assert np.array_equal(batch[2], loader.sample(6))


@given(
    ranks=st.integers(1, 8), micro_size=st.integers(1, 5), accumulation=st.integers(1, 5), first=st.integers(0, 1000)
)
def test_every_layout_takes_the_same_samples(ranks: int, micro_size: int, accumulation: int, first: int) -> None:
    taken = [
        number
        for rank in range(ranks)
        for micro_step in range(accumulation)
        for number in micro_batch_numbers(
            first=first, micro_step=micro_step, rank=rank, ranks=ranks, micro_size=micro_size
        )
    ]
    assert sorted(taken) == list(range(first, first + ranks * micro_size * accumulation))
