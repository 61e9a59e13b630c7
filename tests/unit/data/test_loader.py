from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from megatron.data.indexed import ShardError, ShardWriter
from megatron.data.loader import Loader, micro_batch_numbers
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo
from megatron.data.order import SampleOrder
from megatron.data.phased_interleaving import OrderPhase


def write(folder: Path, name: str, tokens: NDArray[np.int64], *, dtype: str = "uint16") -> ShardInfo:
    with ShardWriter(folder / name, dtype=dtype) as writer:
        writer.add_document(tokens)
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
        dtype=dtype,
        content_hash=writer.content_hash,
    )


def loader_of(
    folder: Path, *shards: ShardInfo, vocab_size: int = 2000, seq_length: int = 16
) -> tuple[Loader, SampleOrder]:
    order = SampleOrder(
        seed=3,
        names=[shard.name for shard in shards],
        tokens=[shard.tokens for shard in shards],
        phases=[OrderPhase(0, 0, tuple(float(1 + number) for number in range(len(shards))))],
        seq_length=seq_length,
    )
    manifest = Manifest(TokenizerInfo("SPMTokenizer", "f", vocab_size, 2), shards, root=folder)
    return Loader(order=order, manifest=manifest, shards=shards), order


def test_a_shard_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    shard = write(tmp_path, "a", np.arange(100))
    write(tmp_path, "a", np.arange(300))
    with pytest.raises(ShardError, match="tokens 300, not 100"):
        loader_of(tmp_path, shard)[0].sample(0)


@pytest.mark.parametrize(("dtype", "bad"), [("uint16", 77), ("int32", 77), ("int32", -1), ("int64", 1 << 40)])
def test_an_id_beyond_the_vocabulary_is_refused(tmp_path: Path, dtype: str, bad: int) -> None:
    tokens = np.arange(40)
    good, bad_tokens = write(tmp_path, "a", tokens, dtype=dtype), tokens.copy()
    bad_tokens[13] = bad
    shard = write(tmp_path, "b", tokens, dtype=dtype)
    # The writer refuses such ids, so they are put into the finished file.
    (tmp_path / "b.bin").write_bytes(bad_tokens.astype(dtype).tobytes())
    loader, _ = loader_of(tmp_path, good, shard, vocab_size=50, seq_length=40)
    with pytest.raises(ShardError, match=rf"b: holds the id {bad} at token 13 of b, .* only 50"):
        loader.batch(range(6))


def test_a_shard_that_has_become_shorter_is_refused(tmp_path: Path) -> None:
    shard = write(tmp_path, "a", np.arange(100))
    loader, _ = loader_of(tmp_path, shard)
    loader.sample(0)
    with (tmp_path / "a.bin").open("r+b") as file:
        file.truncate(20)
    with pytest.raises(ShardError, match=r"a\.bin: ends at byte"):
        loader.batch(range(8))


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=5),
    dtypes=st.lists(st.sampled_from(["uint16", "int32"]), min_size=5, max_size=5),
    seq_length=st.integers(1, 200),
)
def test_samples_are_windows_of_the_ring(sizes: list[int], dtypes: list[str], seq_length: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = [np.arange(size) + 100 * corpus for corpus, size in enumerate(sizes)]
        shards = [
            write(folder, str(corpus), text, dtype=dtype)
            for corpus, (text, dtype) in enumerate(zip(texts, dtypes, strict=False))
        ]
        loader, order = loader_of(folder, *shards, seq_length=seq_length)
        rows = loader.batch(range(3, 43))
        assert rows.dtype == np.int64
        assert rows.shape == (40, seq_length + 1)
        for number, row in zip(range(3, 43), rows, strict=True):
            where = order.sample(number)
            text = texts[where.corpus].tolist()
            assert row.tolist() == [text[(where.start + i) % len(text)] for i in range(seq_length + 1)]
        assert np.array_equal(loader.sample(20), rows[17])
        assert loader.batch([]).shape == (0, seq_length + 1)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_few_files_are_open_however_many_corpora_there_are(tmp_path: Path) -> None:
    loader, order = loader_of(tmp_path, *(write(tmp_path, f"{n}", np.arange(20)) for n in range(300)))
    before = open_files()
    number = 0
    missing = set(range(300))
    while missing:
        loader.sample(number)
        missing.discard(order.sample(number).corpus)
        number += 1
    assert open_files() - before <= 256


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
