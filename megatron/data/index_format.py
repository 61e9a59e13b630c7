r"""The layout of Megatron's ``MMIDIDX`` version 1 index, and the checks that opening one makes.

The ``.bin`` holds the tokens of all documents back to back and nothing else. The ``.idx`` is little-endian and packed:

====================  =====  ==========================================================
offset                bytes  content
====================  =====  ==========================================================
0                     9      ``MMIDIDX\0\0``
9                     8      u64 version, 1
17                    1      u8 dtype code
18                    8      u64 N, the number of sequences
26                    8      u64 M, the length of the document index
34                    4N     i32 sequence lengths in tokens
34 + 4N               8N     i64 byte offset of each sequence in the ``.bin``
34 + 12N              8M     i64 document index: 0, then the sequence count after each document
====================  =====  ==========================================================

We write one sequence per document. Files of others may hold several; then a document is the run of sequences that the
document index names. A merged GPT-NeoX shard carries the document index ``[0]``; then every sequence is a document.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    2: np.dtype("i1"),
    3: np.dtype("<i2"),
    4: np.dtype("<i4"),
    5: np.dtype("<i8"),
    8: np.dtype("<u2"),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
_FLOAT_CODES = (6, 7)  # GPT-NeoX and Megatron-Core give these two opposite meanings; neither is a token
_BLOCK_DOCUMENTS = 1 << 20
_UINT16_VOCAB_SIZE = 65500  # the bound that GPT-NeoX and Megatron-Core use


class ShardError(ValueError):
    """A shard on disk, or what was to be written into one, breaks a rule of the format."""


def dtype_for(vocab_size: int) -> np.dtype[Any]:
    """Return the smallest token type for a vocabulary, by Megatron's rule: uint16 below 65,500 entries, else int32."""
    return np.dtype("<u2") if vocab_size < _UINT16_VOCAB_SIZE else np.dtype("<i4")


def bin_path(prefix: Path | str) -> Path:
    """Return the path of the token file of a shard. The prefix may contain dots."""
    return Path(f"{prefix}.bin")


def idx_path(prefix: Path | str) -> Path:
    """Return the path of the index file of a shard."""
    return Path(f"{prefix}.idx")


@dataclass(frozen=True)
class Header:
    """What opening a shard learns: the counts, and where the three index arrays lie."""

    dtype: np.dtype[Any]
    num_sequences: int
    document_index_length: int
    bin_bytes: int

    @property
    def pointers_offset(self) -> int:
        """Where the byte offsets of the sequences begin."""
        return HEADER.size + 4 * self.num_sequences

    @property
    def documents_offset(self) -> int:
        """Where the document index begins."""
        return HEADER.size + 12 * self.num_sequences

    @property
    def end(self) -> int:
        """Where the index ends."""
        return self.documents_offset + 8 * self.document_index_length

    @property
    def degenerate(self) -> bool:
        """Whether the document index says nothing, so that every sequence is a document."""
        return self.document_index_length <= 1


def read_header(idx: Path, bin_: Path) -> Header:
    """Read and check what is cheap to check of a shard: the header, the file sizes, the ends of the index arrays."""
    idx_bytes, bin_bytes = file_bytes(idx), file_bytes(bin_)
    try:
        with idx.open("rb") as file:
            raw = file.read(HEADER.size)
            if raw[: len(MAGIC)] != MAGIC:
                raise ShardError(f"{idx}: does not begin with MMIDIDX; it is no index of data_impl mmap")
            if len(raw) < HEADER.size:
                raise ShardError(
                    f"{idx}: {idx_bytes} bytes, the header alone takes {HEADER.size}; the file is truncated"
                )
            _, version, code, num_sequences, index_length = HEADER.unpack(raw)
            if version != VERSION:
                raise ShardError(f"{idx}: format version {version}; only version {VERSION} is known")
            if code not in DTYPES:
                kind = "a floating-point type" if code in _FLOAT_CODES else "unknown"
                raise ShardError(f"{idx}: dtype code {code} is {kind}; tokens need one of {sorted(DTYPES)}")
            header = Header(DTYPES[code], num_sequences, index_length, bin_bytes)
            _check_sizes(header, idx=idx, idx_bytes=idx_bytes, bin_=bin_)
            _check_ends(header, file, idx=idx, bin_=bin_)
    except OSError as error:
        raise ShardError(f"{idx}: cannot be read ({error.strerror})") from error
    return header


def _check_sizes(header: Header, *, idx: Path, idx_bytes: int, bin_: Path) -> None:
    # Megatron's multimodal writer appends one byte (the mode) per sequence, which we do not need.
    if idx_bytes not in (header.end, header.end + header.num_sequences):
        raise ShardError(
            f"{idx}: {idx_bytes} bytes, but {header.num_sequences} sequences and a document index of "
            f"{header.document_index_length} take {header.end}; the file is truncated or damaged"
        )
    if header.bin_bytes % header.dtype.itemsize:
        raise ShardError(f"{bin_}: {header.bin_bytes} bytes is no whole number of {header.dtype} tokens")


def _check_ends(header: Header, file: BinaryIO, *, idx: Path, bin_: Path) -> None:
    """Check the first and last entries, which catches files that do not belong together without reading the index."""

    def entry(offset: int, kind: str) -> int:
        file.seek(offset)
        data = file.read(struct.calcsize(kind))
        if len(data) < struct.calcsize(kind):
            raise ShardError(f"{idx}: ends at byte {offset + len(data)}; it was longer a moment ago")
        return int(struct.unpack(kind, data)[0])

    count = header.num_sequences
    end_bytes = 0
    if count:
        last_tokens = entry(header.pointers_offset - 4, "<i")
        end_bytes = entry(header.documents_offset - 8, "<q") + last_tokens * header.dtype.itemsize
        if last_tokens < 0 or entry(header.pointers_offset, "<q") != 0:
            raise ShardError(f"{idx}: the first byte offset is not 0 or the last length is negative; it is damaged")
    if end_bytes != header.bin_bytes:
        raise ShardError(
            f"{bin_}: {header.bin_bytes} bytes, but {idx.name} says {end_bytes}; the two do not belong together"
        )
    if header.document_index_length and entry(header.documents_offset, "<q") != 0:
        raise ShardError(f"{idx}: the document index does not begin with 0; it is damaged")
    if not header.degenerate and entry(header.end - 8, "<q") != count:
        raise ShardError(f"{idx}: the document index does not end with the number of sequences, {count}; it is damaged")


def write_index(
    write: Callable[[bytes], object],
    dtype: np.dtype[Any],
    num_documents: int,
    lengths: Callable[[], Iterable[npt.NDArray[Any]]],
) -> None:
    """Write an index of one sequence per document, a block at a time.

    Args:
        write: takes the bytes, in order.
        dtype: type of a token.
        num_documents: how many documents there are.
        lengths: gives their lengths in tokens, in blocks, each time it is called (twice).
    """
    write(HEADER.pack(MAGIC, VERSION, CODES[dtype], num_documents, num_documents + 1))
    for block in lengths():
        write(block.astype("<i4").tobytes())
    position_bytes = 0
    for block in lengths():
        sizes_bytes = block.astype("<i8") * dtype.itemsize
        ends = np.cumsum(sizes_bytes) + position_bytes
        write((ends - sizes_bytes).astype("<i8").tobytes())
        position_bytes = int(ends[-1]) if len(ends) else position_bytes
    for start in range(0, num_documents + 1, _BLOCK_DOCUMENTS):
        write(np.arange(start, min(start + _BLOCK_DOCUMENTS, num_documents + 1), dtype="<i8").tobytes())


def file_bytes(path: Path) -> int:
    """Return the size of a file of a shard, or raise :class:`ShardError` when it is not there."""
    try:
        return path.stat().st_size
    except (OSError, ValueError) as error:  # ValueError: a path that no system takes, with a NUL in it say
        reason = error.strerror if isinstance(error, OSError) else error
        raise ShardError(f"{str(path)!a}: cannot be read ({reason}); a shard is a .bin and an .idx") from error
