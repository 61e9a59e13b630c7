from __future__ import annotations

import itertools
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.data.indexed import (
    FileCache,
    ShardError,
    ShardReader,
    ShardWriter,
    bin_path,
    content_hash,
    dtype_for,
    idx_path,
)

DOCUMENTS = [[5, 6, 7], [8, 9], [1, 2, 3, 4]]


def write(prefix: Path, documents: list[list[int]], dtype: str = "uint16") -> Path:
    with ShardWriter(prefix, dtype=dtype) as writer:
        for document in documents:
            writer.add_document(np.array(document, dtype=np.int64))
    return prefix


def write_raw(
    prefix: Path,
    *,
    lengths: list[int],
    documents: list[int],
    code: int = 8,
    tokens: list[int] | None = None,
    tail: bytes = b"",
) -> Path:
    """Write any index, right or wrong, independently of the writer under test."""
    values = tokens if tokens is not None else list(range(sum(lengths)))
    bin_path(prefix).write_bytes(struct.pack(f"<{len(values)}H", *values))
    pointers = [2 * sum(lengths[:number]) for number in range(len(lengths))]
    index = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, code, len(lengths), len(documents))
    index += struct.pack(f"<{len(lengths)}i", *lengths) + struct.pack(f"<{len(pointers)}q", *pointers)
    idx_path(prefix).write_bytes(index + struct.pack(f"<{len(documents)}q", *documents) + tail)
    return prefix


def test_bytes_are_the_documented_ones(tmp_path: Path) -> None:
    prefix = write(tmp_path / "shard.v1", DOCUMENTS)
    expected = "4d4d494449445800 00 0100000000000000 08 0300000000000000 0400000000000000 03000000 02000000 04000000"
    index = idx_path(prefix).read_bytes()
    assert index[:46].hex() == expected.replace(" ", "")
    assert struct.unpack("<7q", index[46:]) == (0, 6, 10, 0, 1, 2, 3)
    assert bin_path(prefix).read_bytes() == struct.pack("<9H", 5, 6, 7, 8, 9, 1, 2, 3, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shard.v1.bin", "shard.v1.idx"]


def test_dtype_follows_megatrons_bound() -> None:
    assert dtype_for(65499) == np.uint16
    assert dtype_for(65500) == np.int32
    assert dtype_for(32000).itemsize == 2
    assert dtype_for(128256).itemsize == 4


@settings(max_examples=60, deadline=None)
@given(
    documents=st.lists(st.lists(st.integers(0, 65535), max_size=20), max_size=30),
    dtype=st.sampled_from(["uint16", "int32"]),
    cut=st.integers(0, 30),
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], dtype: str, cut: int) -> None:
    prefix = tmp_path_factory.mktemp("shard") / "x"
    with ShardWriter(prefix, dtype=dtype) as writer:
        for batch in (documents[:cut], documents[cut:]):
            flat = np.array([token for document in batch for token in document], dtype=np.int64)
            writer.add_documents(flat, np.array([len(document) for document in batch], dtype=np.int64))
    reader = ShardReader(prefix)
    reader.verify(writer.content_hash)
    assert writer.content_hash == content_hash(prefix)
    assert (reader.num_documents, reader.num_tokens) == (len(documents), sum(map(len, documents)))
    assert (writer.num_documents, writer.num_tokens) == (reader.num_documents, reader.num_tokens)
    assert [reader.document(number).tolist() for number in range(len(reader))] == documents
    assert reader.document_lengths.tolist() == [len(document) for document in documents]
    assert reader.document_lengths.dtype == np.int32
    flat_list = [token for document in documents for token in document]
    assert reader.tokens(0, reader.num_tokens).tolist() == flat_list
    owners = [number for number, document in enumerate(documents) for _ in document]
    assert [reader.document_at(token) for token in range(len(flat_list))] == owners
    # One batch or many: the same bytes.
    other = write(prefix.with_name("y"), documents, dtype)
    assert bin_path(other).read_bytes() == bin_path(prefix).read_bytes()
    assert idx_path(other).read_bytes() == idx_path(prefix).read_bytes()


def test_long_index_is_written_and_read_in_blocks(tmp_path: Path) -> None:
    lengths = np.arange(1000) % 7
    blocks = mock.patch("megatron.data.index_format._BLOCK_DOCUMENTS", 64)
    with blocks, ShardWriter(tmp_path / "x", dtype="int32") as writer:
        writer.add_documents(np.arange(lengths.sum()), lengths)
    with ShardWriter(tmp_path / "y", dtype="int32") as writer:
        writer.add_documents(np.arange(lengths.sum()), lengths)
    assert content_hash(tmp_path / "x") == content_hash(tmp_path / "y")
    with mock.patch("megatron.data.shard_index.BLOCK_ENTRIES", 64):
        reader = ShardReader(tmp_path / "x")
        assert np.array_equal(reader.document_lengths, lengths)
        index = bytearray(idx_path(tmp_path / "x").read_bytes())
        struct.pack_into("<i", index, 34 + 4 * 500, -1)
        idx_path(tmp_path / "x").write_bytes(index)
        with pytest.raises(ShardError, match="negative"):
            ShardReader(tmp_path / "x").verify()


def test_several_sequences_make_one_document(tmp_path: Path) -> None:
    reader = ShardReader(write_raw(tmp_path / "x", lengths=[2, 1, 4, 3], documents=[0, 2, 2, 4]))
    assert reader.num_documents == 3
    assert [reader.document(number).tolist() for number in range(3)] == [[0, 1, 2], [], [3, 4, 5, 6, 7, 8, 9]]
    assert reader.document_lengths.tolist() == [3, 0, 7]
    assert [reader.document_at(token) for token in (0, 2, 3, 9)] == [0, 0, 2, 2]


def test_documents_of_thousands_of_sequences(tmp_path: Path) -> None:
    borders = [0, 5000, 5000, 5001, 9999, 10000]
    reader = ShardReader(write_raw(tmp_path / "x", lengths=[1, 2] * 5000, documents=borders))
    expected = [7500, 0, 1, 7497, 2]
    assert reader.document_lengths.tolist() == expected
    assert [block.tolist() for block in reader.length_blocks(1, 4)] == [expected[1:4]]
    starts = np.cumsum([0, *expected])
    assert [reader.document_span(number) for number in range(5)] == list(itertools.pairwise(starts))
    assert [reader.document_at(token) for token in (0, 7499, 7500, 7501, 14997, 14998, 14999)] == [0, 0, 2, 3, 3, 4, 4]


def test_a_damaged_entry_never_gives_another_document(tmp_path: Path) -> None:
    prefix = write(tmp_path / "x", [[7] * length for length in (3, 1, 4, 1, 5, 9, 2, 6)])
    sound = idx_path(prefix).read_bytes()
    owners = [number for number, size in enumerate((3, 1, 4, 1, 5, 9, 2, 6)) for _ in range(size)]
    refused = 0
    for position in range(34, len(sound)):
        damaged = bytearray(sound)
        damaged[position] ^= 1
        idx_path(prefix).write_bytes(damaged)
        try:
            reader = ShardReader(prefix)
        except ShardError:
            continue
        for token, owner in enumerate(owners):
            try:
                document = reader.document_at(token)
            except ShardError:
                refused += 1
                continue
            start, stop = reader.document_span(document)
            assert start <= token < stop
            # Only the document index can name another document, and then its sequences do lie there.
            assert document == owner or position >= 34 + 12 * 8
    assert refused


@pytest.mark.parametrize("documents", [[0], []])
def test_a_merged_neox_shard_has_a_document_per_sequence(tmp_path: Path, documents: list[int]) -> None:
    reader = ShardReader(write_raw(tmp_path / "x", lengths=[2, 3], documents=documents))
    assert [reader.document(number).tolist() for number in range(len(reader))] == [[0, 1], [2, 3, 4]]
    assert reader.document_lengths.tolist() == [2, 3]
    assert reader.document_at(2) == 1


def test_multimodal_modes_at_the_end_are_tolerated_and_other_bytes_are_not(tmp_path: Path) -> None:
    reader = ShardReader(write_raw(tmp_path / "x", lengths=[2, 3], documents=[0, 1, 2], tail=b"\1\0"))
    assert reader.document(1).tolist() == [2, 3, 4]
    with pytest.raises(ShardError, match="truncated or damaged"):
        ShardReader(write_raw(tmp_path / "x", lengths=[2, 3], documents=[0, 1, 2], tail=b"\1\0\0"))


@pytest.mark.parametrize("code", [6, 7])
def test_float_codes_are_refused(tmp_path: Path, code: int) -> None:
    with pytest.raises(ShardError, match=f"code {code} is a floating-point type"):
        ShardReader(write_raw(tmp_path / "x", lengths=[2], documents=[0, 1], code=code))


def test_a_negative_last_length_is_an_error_even_if_the_sum_fits(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="negative"):
        ShardReader(write_raw(tmp_path / "x", lengths=[5, -1], documents=[0, 1, 2], tokens=[0, 1, 2, 3]))


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
def test_truncation_at_every_byte_is_an_error(tmp_path: Path, suffix: str) -> None:
    prefix = write(tmp_path / "x", DOCUMENTS)
    path = Path(f"{prefix}{suffix}")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ShardError, match=path.name):
            ShardReader(prefix)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ShardError):
        ShardReader(prefix)
    path.unlink()
    with pytest.raises(ShardError, match="cannot be read"):
        ShardReader(prefix)


def test_every_flipped_bit_of_the_index_is_an_error_never_a_crash(tmp_path: Path) -> None:
    prefix = write(tmp_path / "x", [[0xFFFF, 1, 2], [3], [4, 5]])
    digest = content_hash(prefix)
    whole = idx_path(prefix).read_bytes()
    inner_documents = (34 + 12 * 3 + 8, 34 + 12 * 3 + 8 * 3)
    for position in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            idx_path(prefix).write_bytes(damaged)
            with pytest.raises(ShardError):
                ShardReader(prefix).verify(digest)
            # Another place of a boundary inside the document index is a possible file; only the hash shows it.
            if not inner_documents[0] <= position < inner_documents[1]:
                with pytest.raises(ShardError):
                    ShardReader(prefix).verify()
            try:
                reader = ShardReader(prefix)
                found = [reader.document(number) for number in range(min(len(reader), 10))]
            except ShardError:
                continue
            assert sum(map(len, found)) <= 6


def test_a_flipped_token_shows_in_the_content_hash(tmp_path: Path) -> None:
    prefix = write(tmp_path / "x", DOCUMENTS)
    digest = content_hash(prefix)
    data = bytearray(bin_path(prefix).read_bytes())
    data[3] ^= 16
    bin_path(prefix).write_bytes(data)
    with pytest.raises(ShardError, match="content hash"):
        ShardReader(prefix).verify(digest)


def test_a_file_cut_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    prefix = write(tmp_path / "x", DOCUMENTS)
    for files in (None, FileCache()):
        reader = ShardReader(prefix, files=files)
        assert reader.tokens(0, 9).tolist() == [5, 6, 7, 8, 9, 1, 2, 3, 4]
        whole = bin_path(prefix).read_bytes()
        os.truncate(bin_path(prefix), 10)
        with pytest.raises(ShardError, match="longer when it was opened"):
            reader.tokens(0, 9)
        bin_path(prefix).write_bytes(whole)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 10), (5, 4), (10, 10)])
def test_token_ranges_are_checked(tmp_path: Path, start: int, stop: int) -> None:
    reader = ShardReader(write(tmp_path / "x", DOCUMENTS))
    with pytest.raises(ShardError, match=f"tokens {start} to {stop}"):
        reader.tokens(start, stop)


def test_document_numbers_are_checked(tmp_path: Path) -> None:
    reader = ShardReader(write(tmp_path / "x", DOCUMENTS))
    for number in (-1, 3):
        with pytest.raises(ShardError, match=f"document {number}"):
            reader.document(number)
    for token in (-1, 9):
        with pytest.raises(ShardError, match=f"token {token}"):
            reader.document_at(token)


def test_ids_that_do_not_fit_are_refused_and_leave_nothing_behind(tmp_path: Path) -> None:
    for bad, dtype in (([65536], "uint16"), ([-1], "uint16"), ([-1], "int32"), ([2**31], "int32")):
        with pytest.raises(ShardError, match="do not fit"):
            write(tmp_path / "x", [[1], bad], dtype)
    with pytest.raises(ShardError, match="add up to"), ShardWriter(tmp_path / "x", dtype="uint16") as writer:
        writer.add_documents(np.arange(3), np.array([1, 1]))
    with pytest.raises(ShardError, match="cannot hold tokens"):
        ShardWriter(tmp_path / "x", dtype="float32")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rewrite_keeps_the_old_shard(tmp_path: Path) -> None:
    prefix = write(tmp_path / "x", DOCUMENTS)
    digest = content_hash(prefix)
    with pytest.raises(ShardError):
        write(prefix, [[1], [-1]])
    ShardReader(prefix).verify(digest)
    write(prefix, [[1, 2]])
    assert ShardReader(prefix).document(0).tolist() == [1, 2]


def test_a_crash_between_the_two_files_leaves_no_index(tmp_path: Path) -> None:
    prefix = write(tmp_path / "x", DOCUMENTS)
    with mock.patch.object(ShardWriter, "_write_index", side_effect=OSError("disk full")), pytest.raises(OSError):
        write(prefix, [[1, 2, 3, 4, 5, 6, 7, 8, 9]])  # as many tokens as before: the old index would have fitted
    assert not idx_path(prefix).exists()


def test_a_closed_writer_refuses(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "x", dtype="uint16") as writer:
        writer.add_document(np.array([1]))
    with pytest.raises(ShardError, match="closed"):
        writer.add_document(np.array([1]))


def test_file_cache_keeps_few_files_open(tmp_path: Path) -> None:
    files = FileCache(limit=2)
    readers = [ShardReader(write(tmp_path / str(number), [[number, 7]]), files=files) for number in range(6)]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        assert [reader.tokens(0, 1).item() for reader in readers] == list(range(6))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    files.close()
    assert readers[3].tokens(0, 2).tolist() == [3, 7]


def test_file_cache_leaves_files_to_the_rest_of_the_process() -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (300, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from megatron.data.indexed import FileCache
assert FileCache().limit == 75
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_that_is_written_anew_while_it_is_read(tmp_path: Path) -> None:
    files = FileCache(limit=1)
    first, second = (ShardReader(write(tmp_path / name, [[5, 6, 7]]), files=files) for name in "ab")
    assert first.tokens(0, 3).tolist() == [5, 6, 7]
    write(tmp_path / "a", [[5, 6, 7], [8]])
    assert first.tokens(0, 3).tolist() == [5, 6, 7]  # the old file, which is still open
    assert second.tokens(0, 1).tolist() == [5]  # now it is closed
    with pytest.raises(ShardError, match=r"a\.bin: has 8 bytes, had 6 when it was opened before: it was written anew"):
        first.tokens(0, 3)


def test_a_reader_travels_to_another_process(tmp_path: Path) -> None:
    reader = ShardReader(write(tmp_path / "x", DOCUMENTS), files=FileCache())
    reader.document(0)
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.document(2).tolist() == [1, 2, 3, 4]
    assert reader.document(1).tolist() == [8, 9]


def test_imports_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import megatron.data.indexed, megatron.data.manifest"
    subprocess.run([sys.executable, "-c", code], check=True)
