"""Our shards and Megatron-Core's are the same files: each side reads what the other wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from megatron.data.indexed import ShardReader, ShardWriter, bin_path, dtype_for, idx_path

torch = pytest.importorskip("torch")
indexed_dataset = pytest.importorskip(
    "megatron.core.datasets.indexed_dataset", reason="megatron-core is not installed: pip install megatron-core"
)


def documents_of(vocab_size: int, *, count: int = 200) -> list[np.ndarray]:
    generator = np.random.default_rng(vocab_size)
    lengths = generator.integers(0, 60, size=count)
    return [generator.integers(0, vocab_size, size=length) for length in lengths]


@pytest.mark.parametrize("vocab_size", [300, 65499, 65500, 128256])
def test_the_files_are_identical(tmp_path: Path, vocab_size: int) -> None:
    documents = documents_of(vocab_size)
    with ShardWriter(tmp_path / "ours", dtype=dtype_for(vocab_size)) as writer:
        writer.add_documents(np.concatenate(documents), np.array([len(document) for document in documents]))
    dtype = indexed_dataset.DType.optimal_dtype(vocab_size)
    builder = indexed_dataset.IndexedDatasetBuilder(str(bin_path(tmp_path / "theirs")), dtype=dtype)
    for document in documents:
        builder.add_document(torch.from_numpy(document), [len(document)])
    builder.finalize(str(idx_path(tmp_path / "theirs")))
    for path in (bin_path, idx_path):
        assert path(tmp_path / "ours").read_bytes() == path(tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("vocab_size", [32000, 128256])
def test_megatron_core_reads_ours(tmp_path: Path, vocab_size: int) -> None:
    documents = documents_of(vocab_size)
    with ShardWriter(tmp_path / "x", dtype=dtype_for(vocab_size)) as writer:
        for document in documents:
            writer.add_document(document)
    theirs = indexed_dataset.IndexedDataset(str(tmp_path / "x"))
    assert len(theirs) == len(documents)
    assert theirs.document_indices.tolist() == list(range(len(documents) + 1))
    for number, document in enumerate(documents):
        assert theirs[number].tolist() == document.tolist()


@pytest.mark.parametrize("multimodal", [False, True])
def test_we_read_megatron_cores_documents_of_several_sequences(tmp_path: Path, multimodal: bool) -> None:
    pieces = documents_of(50000)
    builder = indexed_dataset.IndexedDatasetBuilder(
        str(bin_path(tmp_path / "x")), dtype=np.uint16, multimodal=multimodal
    )
    for start in range(0, len(pieces), 4):
        group = pieces[start : start + 4]
        modes = [1] * len(group) if multimodal else None
        builder.add_document(torch.from_numpy(np.concatenate(group)), [len(piece) for piece in group], modes)
    builder.finalize(str(idx_path(tmp_path / "x")))
    ours = ShardReader(tmp_path / "x")
    ours.verify()
    expected = [np.concatenate(pieces[start : start + 4]).tolist() for start in range(0, len(pieces), 4)]
    assert ours.num_documents == len(expected)
    assert [ours.document(number).tolist() for number in range(len(ours))] == expected
    assert ours.document_lengths.tolist() == [len(document) for document in expected]
