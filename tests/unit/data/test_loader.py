from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from megatron.data.indexed import ShardError, ShardWriter
from megatron.data.loader import Loader, micro_batch_numbers
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo
from megatron.data.order import SampleOrder


def write(folder: Path, name: str, tokens: NDArray[np.int64]) -> ShardInfo:
    with ShardWriter(folder / name, dtype=np.uint16) as writer:
        writer.add_document(tokens.astype(np.uint16))
    return ShardInfo(
        name=name,
        path=name,
        split="train",
        source="monolingual",
        language="eng",
        script="Latn",
        documents=1,
        words=1,
        tokens=len(tokens),
        bytes=1,
        unk_tokens=0,
        dtype="uint16",
        content_hash=writer.content_hash,
    )


def loader_of(folder: Path, shard: ShardInfo, *, vocab_size: int = 2000) -> Loader:
    order = SampleOrder(seed=0, names=[shard.name], tokens=[shard.tokens], shares=[1], seq_length=16)
    manifest = Manifest(TokenizerInfo("SPMTokenizer", "f", vocab_size, 2), (shard,), root=folder)
    return Loader(order=order, manifest=manifest, shards=[shard])


def test_a_shard_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    shard = write(tmp_path, "a", np.arange(100))
    write(tmp_path, "a", np.arange(300))
    with pytest.raises(ShardError, match="tokens 300, not 100"):
        loader_of(tmp_path, shard).sample(0)


def test_an_id_beyond_the_vocabulary_is_refused(tmp_path: Path) -> None:
    shard = write(tmp_path, "a", np.full(100, 77))
    with pytest.raises(ShardError, match=r"holds the id 77 .* only 50"):
        loader_of(tmp_path, shard, vocab_size=50).sample(0)


def test_samples_are_windows_of_the_ring(tmp_path: Path) -> None:
    sizes = {"a": 100, "b": 7}
    shards = [
        write(tmp_path, name, np.arange(size) + 1000 * index) for index, (name, size) in enumerate(sizes.items())
    ]
    manifest = Manifest(TokenizerInfo("SPMTokenizer", "f", 2000, 2), tuple(shards), root=tmp_path)
    order = SampleOrder(seed=3, names=list(sizes), tokens=list(sizes.values()), shares=[2, 1], seq_length=16)
    loader = Loader(order=order, manifest=manifest, shards=shards)
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
