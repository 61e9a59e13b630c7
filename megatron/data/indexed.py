"""Token shards on disk: a reader and a writer of Megatron's format, ``<prefix>.bin`` and ``<prefix>.idx``.

The ``.bin`` holds the tokens of all documents back to back and nothing else; the ``.idx`` is described in
:mod:`megatron.data.index_format`. We write one sequence per document. Files of others may hold several; then a document
is the run of sequences that the document index names. A merged GPT-NeoX shard carries the document index ``[0]``; then
every sequence is a document.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import xxhash

from megatron.data.index_format import CODES, ShardError, bin_path, dtype_for, idx_path, write_index
from megatron.data.shard_files import FileCache, ShardFile, file_chunks
from megatron.data.shard_index import ShardIndex
from megatron.utils.files import atomic_write

__all__ = ["FileCache", "ShardError", "ShardReader", "ShardWriter", "bin_path", "content_hash", "dtype_for", "idx_path"]

Array = npt.NDArray[Any]


def content_hash(prefix: Path | str) -> str:
    """Return the XXH3 128-bit hash of a shard's ``.bin`` bytes followed by its ``.idx`` bytes, in hexadecimal."""
    digest = xxhash.xxh3_128()
    for path in (bin_path(prefix), idx_path(prefix)):
        for chunk in file_chunks(path):
            digest.update(chunk)
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
        data = np.ascontiguousarray(flat, dtype=self.dtype).view(np.uint8).data
        self._digest.update(data)
        self._file.write(data)
        self._lengths.append(lengths.astype("<i4"))
        self.num_documents += len(lengths)
        self.num_tokens += len(flat)

    def _write_index(self) -> None:
        with atomic_write(idx_path(self.prefix)) as file:

            def write(data: bytes) -> None:
                self._digest.update(data)
                file.write(data)

            write_index(write, self.dtype, self.num_documents, lambda: self._lengths)


class ShardReader:
    """Reads one shard; every file size is checked before use, so a damaged shard is a :class:`ShardError`.

    Opening reads the header and the ends of the index arrays, a few hundred bytes. Everything else is read when asked
    for, with ``pread``, and nothing is held per document. No file is mapped: one that becomes shorter while it is open
    is an error too, and does not kill the process.

    Args:
        prefix: path of the shard without ``.bin``.
        files: keeps files open between reads; without it each read opens and closes the file.

    Attributes:
        num_sequences: sequences in the index.
        num_documents: documents, by the document index.
        num_tokens: tokens in the ``.bin``.
        dtype: type of a token.
    """

    def __init__(self, prefix: Path | str, *, files: FileCache | None = None) -> None:
        self.prefix = Path(prefix)
        self._bin = ShardFile(bin_path(prefix), files)
        self._index = ShardIndex(idx_path(prefix), bin_path(prefix), files=files)
        header = self._index.header
        self.dtype = header.dtype
        self.num_sequences = header.num_sequences
        self.num_documents = self._index.num_documents
        self.num_tokens = header.bin_bytes // self.dtype.itemsize

    def __len__(self) -> int:
        return self.num_documents

    def tokens(self, start: int, stop: int) -> Array:
        """Return tokens ``start`` to ``stop`` (exclusive) of the shard's documents laid end to end.

        Returns:
            A new array of shape ``[stop - start]`` and type :attr:`dtype`.

        Raises:
            ShardError: the range is not inside ``[0, num_tokens]``, or the file has become shorter.
        """
        if not 0 <= start <= stop <= self.num_tokens:
            raise ShardError(f"{self._bin.path}: tokens {start} to {stop} asked for, the shard has {self.num_tokens}")
        return self._bin.read(self.dtype, stop - start, start * self.dtype.itemsize)

    def read_into(self, start: int, out: Array) -> None:
        """Fill ``out`` with the tokens from ``start`` on: one read, no copy.

        Args:
            start: first token.
            out: contiguous, of shape ``[tokens]`` and type :attr:`dtype`.

        Raises:
            ShardError: the tokens are not all inside ``[0, num_tokens]``, or the file has become shorter.
        """
        if not 0 <= start <= start + len(out) <= self.num_tokens:
            raise ShardError(
                f"{self._bin.path}: tokens {start} to {start + len(out)} asked for, the shard has {self.num_tokens}"
            )
        if out.dtype != self.dtype:
            raise TypeError(f"read_into needs {self.dtype}, not {out.dtype}")
        self._bin.read_into(out, start * self.dtype.itemsize)

    def document(self, number: int) -> Array:
        """Return the tokens of one document, shape ``[tokens]``.

        Raises:
            ShardError: there is no such document, or its index entry is damaged.
        """
        return self.tokens(*self.document_span(number))

    def document_span(self, number: int) -> tuple[int, int]:
        """Return where a document lies in the token stream: its first token and the one after its last.

        Raises:
            ShardError: there is no such document, or its index entry is damaged.
        """
        return self._index.span(number)

    def document_at(self, token: int) -> int:
        """Return the number of the document that holds a token of the stream, by a search that reads a few entries.

        Raises:
            ShardError: there is no such token, or the index is damaged where the search ends.
        """
        if not 0 <= token < self.num_tokens:
            raise ShardError(f"{self._bin.path}: token {token} asked for, the shard has {self.num_tokens}")
        return self._index.document_at(token)

    @property
    def document_lengths(self) -> Array:
        """Tokens of every document, shape ``[num_documents]``; int32 unless one is longer than that.

        It takes 4 bytes per document; :meth:`length_blocks` takes less.
        """
        blocks = [block.astype(np.int32) if (block < 1 << 31).all() else block for block in self.length_blocks()]
        return np.concatenate([np.zeros(0, dtype=np.int32), *blocks])

    def length_blocks(self, first: int = 0, stop: int | None = None) -> Iterator[Array]:
        """Yield the lengths in tokens of documents ``first`` to ``stop`` (all by default) as int64 arrays, in order.

        Raises:
            ShardError: there are no such documents, or the index is damaged there.
        """
        return self._index.blocks(first, stop)

    def verify(self, content: str | None = None) -> None:
        """Check the whole index, and the content too when its hash is given.

        Args:
            content: the hash in the sidecar (see :func:`content_hash`); a flipped bit in the ``.bin`` shows only here.

        Raises:
            ShardError: naming the file and the broken rule.
        """
        self._index.verify()
        if content is not None and (found := content_hash(self.prefix)) != content:
            raise ShardError(
                f"{self._bin.path}: content hash {found}, the sidecar says {content}; tokenise the corpus again"
            )
