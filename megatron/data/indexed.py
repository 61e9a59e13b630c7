"""Token shards on disk: a reader and a writer of Megatron's format, ``<prefix>.bin`` and ``<prefix>.idx``.

The ``.bin`` holds the tokens of all documents back to back and nothing else; the ``.idx`` is described in
:mod:`megatron.data.index_format`. We write one sequence per document. Files of others may hold several; then a document
is the run of sequences that the document index names. A merged GPT-NeoX shard carries the document index ``[0]``; then
every sequence is a document.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import xxhash

from megatron.data.index_format import (
    CODES,
    HEADER,
    MAGIC,
    VERSION,
    ShardError,
    bin_path,
    dtype_for,
    file_bytes,
    idx_path,
    read_header,
)
from megatron.utils.files import atomic_write

__all__ = ["FileCache", "ShardError", "ShardReader", "ShardWriter", "bin_path", "content_hash", "dtype_for", "idx_path"]

Array = npt.NDArray[Any]

_BLOCK_DOCUMENTS = 1 << 20


def content_hash(prefix: Path | str) -> str:
    """Return the XXH3 128-bit hash of a shard's ``.bin`` bytes followed by its ``.idx`` bytes, in hexadecimal."""
    digest = xxhash.xxh3_128()
    for path in (bin_path(prefix), idx_path(prefix)):
        try:
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        except OSError as error:
            raise ShardError(f"{path}: cannot be read ({error.strerror}); tokenise the corpus again") from error
    return digest.hexdigest()


class ShardWriter:
    """Writes one shard, document by document or in batches; a context manager.

    The files take their final names only when the ``with`` block ends without an error: ``.bin`` first, ``.idx`` last.
    After an error nothing is left behind.

    Args:
        prefix: path of the shard without ``.bin``.
        dtype: type of a token on disk (see :func:`dtype_for`).

    Attributes:
        num_documents: documents added so far.
        num_tokens: tokens added so far.
        content_hash: as :func:`content_hash`; empty until the shard is complete.
    """

    def __init__(self, prefix: Path | str, *, dtype: npt.DTypeLike) -> None:
        self.prefix = Path(prefix)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        if self.dtype not in CODES:
            raise ShardError(f"{prefix}: dtype {self.dtype} cannot hold tokens; use uint16 or int32 (see dtype_for)")
        self.num_documents = 0
        self.num_tokens = 0
        self.content_hash = ""
        self._lengths: list[Array] = []
        self._digest = xxhash.xxh3_128()
        self._stack = ExitStack()
        self._file: BinaryIO | None = None

    def __enter__(self) -> ShardWriter:
        self._file = self._stack.enter_context(atomic_write(bin_path(self.prefix)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file = None
        if error is not None:
            self._stack.__exit__(kind, error, traceback)
            return
        # Without its index a shard does not exist, so an old index must never stand beside the new tokens.
        idx_path(self.prefix).unlink(missing_ok=True)
        self._stack.close()
        self._write_index()
        self.content_hash = self._digest.hexdigest()

    def add_document(self, ids: Array) -> None:
        """Append one document.

        Args:
            ids: token ids, shape ``[tokens]``.

        Raises:
            ShardError: an id does not fit the dtype.
        """
        self.add_documents(ids, np.array([len(ids)], dtype=np.int32))

    def add_documents(self, flat: Array, lengths: Array) -> None:
        """Append several documents.

        Args:
            flat: the token ids of all of them, back to back, shape ``[sum(lengths)]``.
            lengths: tokens of each, shape ``[documents]``.

        Raises:
            ShardError: an id does not fit the dtype, or the lengths do not add up to ``flat``.
        """
        if self._file is None:
            raise ShardError(f"{self.prefix}: the writer is closed; add documents inside its `with` block")
        flat, lengths = np.asarray(flat), np.asarray(lengths)
        if flat.ndim != 1 or lengths.ndim != 1 or int(lengths.sum()) != len(flat) or (lengths < 0).any():
            raise ShardError(f"{self.prefix}: lengths add up to {int(lengths.sum())}, but there are {flat.size} tokens")
        if len(lengths) and int(lengths.max()) > np.iinfo(np.int32).max:
            raise ShardError(f"{self.prefix}: a document of {int(lengths.max())} tokens; the format allows 2^31 - 1")
        limits = np.iinfo(self.dtype)
        if len(flat) and (int(flat.min()) < max(0, limits.min) or int(flat.max()) > limits.max):
            raise ShardError(
                f"{self.prefix}: token ids {int(flat.min())} to {int(flat.max())} do not fit {self.dtype} "
                f"(0 to {limits.max}); choose the dtype with dtype_for(vocab_size)"
            )
        data = np.ascontiguousarray(flat, dtype=self.dtype).tobytes()
        self._digest.update(data)
        self._file.write(data)
        self._lengths.append(lengths.astype("<i4"))
        self.num_documents += len(lengths)
        self.num_tokens += len(flat)

    def _write_index(self) -> None:
        """Write the ``.idx`` from the collected lengths, a block of documents at a time."""
        header = HEADER.pack(MAGIC, VERSION, CODES[self.dtype], self.num_documents, self.num_documents + 1)
        with atomic_write(idx_path(self.prefix)) as file:

            def write(data: bytes) -> None:
                self._digest.update(data)
                file.write(data)

            write(header)
            for lengths in self._lengths:
                write(lengths.tobytes())
            position_bytes = 0
            for lengths in self._lengths:
                ends = np.cumsum(lengths, dtype="<i8") * self.dtype.itemsize + position_bytes
                write((ends - lengths.astype("<i8") * self.dtype.itemsize).tobytes())
                position_bytes = int(ends[-1]) if len(ends) else position_bytes
            for start in range(0, self.num_documents + 1, _BLOCK_DOCUMENTS):
                stop = min(start + _BLOCK_DOCUMENTS, self.num_documents + 1)
                write(np.arange(start, stop, dtype="<i8").tobytes())


class FileCache:
    """Keeps the most recently read files open, so that thousands of shards need only ``limit`` file handles.

    Args:
        limit: handles that stay open at the same time.
    """

    def __init__(self, limit: int = 256) -> None:
        self.limit = limit
        self._files: OrderedDict[Path, int] = OrderedDict()

    def __reduce__(self) -> tuple[type[FileCache], tuple[int]]:
        return FileCache, (self.limit,)  # handles belong to one process

    def __del__(self) -> None:
        self.close()

    def handle(self, path: Path) -> int:
        """Return a file descriptor of ``path`` opened for reading; it may be closed by the next call."""
        if path in self._files:
            self._files.move_to_end(path)
        else:
            self._files[path] = os.open(path, os.O_RDONLY)
            while len(self._files) > self.limit:
                os.close(self._files.popitem(last=False)[1])
        return self._files[path]

    def close(self) -> None:
        """Close all files; the cache stays usable."""
        while self._files:
            os.close(self._files.popitem()[1])


class ShardReader:
    """Reads one shard; every file size is checked before use, so a damaged shard is a :class:`ShardError`.

    Opening reads the header and the ends of the index arrays, a few hundred bytes. Tokens are read when asked for, with
    ``pread``; the index is mapped when a document is asked for. Nothing is held per document.

    Args:
        prefix: path of the shard without ``.bin``.
        files: keeps ``.bin`` files open between reads; without it each read opens and closes the file.

    Attributes:
        num_sequences: sequences in the index.
        num_documents: documents, by the document index.
        num_tokens: tokens in the ``.bin``.
        dtype: type of a token.
    """

    def __init__(self, prefix: Path | str, *, files: FileCache | None = None) -> None:
        self.prefix = Path(prefix)
        self._bin, self._idx = bin_path(prefix), idx_path(prefix)
        self._files = files
        self._header = read_header(self._idx, self._bin)
        self.dtype = self._header.dtype
        self.num_sequences = self._header.num_sequences
        self.num_documents = self.num_sequences if self._header.degenerate else self._header.document_index_length - 1
        self.num_tokens = self._header.bin_bytes // self.dtype.itemsize
        self._maps: tuple[Array, Array, Array] | None = None
        self._verified = False

    def __len__(self) -> int:
        return self.num_documents

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": None}

    def tokens(self, start: int, stop: int) -> Array:
        """Return tokens ``start`` to ``stop`` (exclusive) of the shard's documents laid end to end.

        Returns:
            A new array of shape ``[stop - start]`` and type :attr:`dtype`.

        Raises:
            ShardError: the range is not inside ``[0, num_tokens]``, or the file has become shorter.
        """
        if not 0 <= start <= stop <= self.num_tokens:
            raise ShardError(f"{self._bin}: tokens {start} to {stop} asked for, the shard has {self.num_tokens}")
        size = self.dtype.itemsize
        data = self._pread((stop - start) * size, start * size)
        return np.frombuffer(bytearray(data), dtype=self.dtype)

    def document(self, number: int) -> Array:
        """Return the tokens of one document, shape ``[tokens]``.

        Raises:
            ShardError: there is no such document, or its index entry is damaged.
        """
        return self.tokens(*self.document_span(number))

    def document_span(self, number: int) -> tuple[int, int]:
        """Return where a document lies in the token stream: its first token and the one after its last."""
        if not 0 <= number < self.num_documents:
            raise ShardError(f"{self._idx}: document {number} asked for, the shard has {self.num_documents}")
        lengths, pointers, documents = self._arrays()
        first, last = (number, number + 1) if self._header.degenerate else map(int, documents[number : number + 2])
        if not 0 <= first <= last <= self.num_sequences:
            raise self._damaged(f"document {number} spans sequences {first} to {last} of {self.num_sequences}")
        start = int(pointers[first]) if first < self.num_sequences else self._header.bin_bytes
        stop = int(pointers[last]) if last < self.num_sequences else self._header.bin_bytes
        size = self.dtype.itemsize
        if not 0 <= start <= stop <= self._header.bin_bytes or start % size or stop % size:
            raise self._damaged(f"document {number} spans bytes {start} to {stop} of {self._header.bin_bytes}")
        if int(lengths[first:last].sum(dtype=np.int64)) * size != stop - start:
            raise self._damaged(f"the length of document {number} disagrees with its byte offsets")
        return start // size, stop // size

    def document_at(self, token: int) -> int:
        """Return the number of the document that holds a token of the stream (a binary search in the index)."""
        if not 0 <= token < self.num_tokens:
            raise ShardError(f"{self._bin}: token {token} asked for, the shard has {self.num_tokens}")
        self.verify()
        _, pointers, documents = self._arrays()
        sequence = int(np.searchsorted(pointers, token * self.dtype.itemsize, side="right")) - 1
        if self._header.degenerate:
            return sequence
        return int(np.searchsorted(documents, sequence, side="right")) - 1

    @property
    def document_lengths(self) -> Array:
        """Tokens of every document, shape ``[num_documents]``: the file's own int32 array, mapped, where it can be."""
        self.verify()
        lengths, pointers, documents = self._arrays()
        if self._header.degenerate or _is_identity(documents):
            return lengths
        starts = np.append(pointers, self._header.bin_bytes) // self.dtype.itemsize
        return np.diff(starts[documents])

    def verify(self, content: str | None = None) -> None:
        """Check the whole index, and the content too when its hash is given.

        Args:
            content: the hash in the sidecar (see :func:`content_hash`); a flipped bit in the ``.bin`` shows only here.

        Raises:
            ShardError: naming the file and the broken rule.
        """
        if not self._verified:
            self._verify_index()
            self._verified = True
        if content is not None and (found := content_hash(self.prefix)) != content:
            raise ShardError(
                f"{self._bin}: content hash {found}, the sidecar says {content}; tokenise the corpus again"
            )

    def close(self) -> None:
        """Release the mapped index; the reader stays usable."""
        self._maps = None

    def _verify_index(self) -> None:
        lengths, pointers, documents = self._arrays()
        position_bytes = 0
        for start in range(0, self.num_sequences, _BLOCK_DOCUMENTS):
            block = lengths[start : start + _BLOCK_DOCUMENTS].astype(np.int64)
            if (block < 0).any():
                raise self._damaged("a sequence length is negative")
            ends = np.cumsum(block) * self.dtype.itemsize + position_bytes
            if not np.array_equal(ends - block * self.dtype.itemsize, pointers[start : start + _BLOCK_DOCUMENTS]):
                raise self._damaged("the byte offsets are not the running sum of the lengths")
            position_bytes = int(ends[-1])
        if position_bytes != self._header.bin_bytes:
            raise self._damaged(
                f"the lengths add up to {position_bytes} bytes, {self._bin} has {self._header.bin_bytes}"
            )
        for start in range(0, len(documents) - 1, _BLOCK_DOCUMENTS):
            block = documents[start : start + _BLOCK_DOCUMENTS + 1]
            if (block[1:] < block[:-1]).any():
                raise self._damaged("the document index goes down")

    def _arrays(self) -> tuple[Array, Array, Array]:
        """Map the index: sequence lengths (int32), byte offsets (int64), document index (int64)."""
        if self._maps is None:
            header = self._header
            actual = file_bytes(self._idx)
            if actual < header.end:
                raise self._damaged(f"{actual} bytes on disk, {header.end} when it was opened")
            self._maps = (
                _map(self._idx, "<i4", HEADER.size, header.num_sequences),
                _map(self._idx, "<i8", header.pointers_offset, header.num_sequences),
                _map(self._idx, "<i8", header.documents_offset, header.document_index_length),
            )
        return self._maps

    def _pread(self, count_bytes: int, offset: int) -> bytes:
        try:
            if self._files is not None:
                data = _pread_all(self._files.handle(self._bin), count_bytes, offset)
            else:
                with self._bin.open("rb") as file:
                    data = _pread_all(file.fileno(), count_bytes, offset)
        except OSError as error:
            raise ShardError(f"{self._bin}: cannot be read ({error.strerror})") from error
        if len(data) != count_bytes:
            raise ShardError(f"{self._bin}: ends at byte {offset + len(data)}; it was longer when it was opened")
        return data

    def _damaged(self, rule: str) -> ShardError:
        return ShardError(f"{self._idx}: {rule}; the index is damaged, tokenise the corpus again")


def _is_identity(documents: Array) -> bool:
    """Whether the document index is 0, 1, 2, ...: one sequence per document."""
    for start in range(0, len(documents), _BLOCK_DOCUMENTS):
        block = documents[start : start + _BLOCK_DOCUMENTS]
        if not np.array_equal(block, np.arange(start, start + len(block))):
            return False
    return True


def _map(path: Path, dtype: str, offset: int, count: int) -> Array:
    if count == 0:
        return np.zeros(0, dtype=dtype)  # an empty range cannot be mapped
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(count,))


def _pread_all(descriptor: int, count_bytes: int, offset: int) -> bytes:
    """Read ``count_bytes``; the kernel returns at most 2 GiB per call, and less at the end of the file."""
    parts = []
    while count_bytes > 0 and (part := os.pread(descriptor, count_bytes, offset)):
        parts.append(part)
        count_bytes -= len(part)
        offset += len(part)
    return b"".join(parts)
