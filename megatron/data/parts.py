"""The shards of a manifest, opened: whole files, or parts of files that several corpora share (containers).

A container is one ``.bin`` and ``.idx`` that holds the documents of one corpus after those of another. Each corpus sees
only its own part, numbered from 0, so that nothing that reads corpora needs to know where their tokens lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron.data.indexed import FileCache, ShardError, ShardReader
from megatron.data.manifest import ShardInfo, check_shard

Array = NDArray[Any]


class ShardPart:
    """One shard of a manifest; all numbers are relative to it, whether it is a whole file or a part of one.

    Args:
        reader: the file that holds it.
        shard: its entry in the manifest; :func:`megatron.data.manifest.check_shard` has accepted it.

    Attributes:
        shard: the entry.
        num_documents: documents of the shard.
        num_tokens: tokens of the shard.
        dtype: type of a token on disk.
        prefix: path of the file without ``.bin``.
    """

    def __init__(self, reader: ShardReader, shard: ShardInfo) -> None:
        self.shard = shard
        self.num_documents = shard.documents
        self.num_tokens = shard.tokens
        self.dtype = reader.dtype
        self.prefix = reader.prefix
        self._reader = reader
        self._first_token = shard.first_token
        self._first_document = shard.first_document

    def tokens(self, start: int, stop: int) -> Array:
        """Return tokens ``start`` to ``stop`` (exclusive): a new array of shape ``[stop - start]``, type :attr:`dtype`.

        Raises:
            ShardError: the range is not inside ``[0, num_tokens]``, or the file has become shorter.
        """
        if not 0 <= start <= stop <= self.num_tokens:
            raise ShardError(f"{self._name}: tokens {start} to {stop} asked for, it has {self.num_tokens}")
        return self._reader.tokens(self._first_token + start, self._first_token + stop)

    def read_into(self, start: int, out: NDArray[np.int64]) -> None:
        """Fill ``out`` with the tokens from ``start`` on and, past the end, from the beginning again.

        At most two reads go to the file, however short the shard is.

        Args:
            start: first token.
            out: int64 ``[any]``, contiguous; filled completely.

        Raises:
            ShardError: there is no token ``start``, or the file has become shorter.
        """
        if not 0 <= start < self.num_tokens:
            raise ShardError(f"{self._name}: token {start} asked for, it has {self.num_tokens}")
        wanted, rest = len(out), self.num_tokens - start
        if wanted > self.num_tokens:
            ring = self.tokens(0, self.num_tokens)
            np.take(ring, np.arange(start, start + wanted), mode="wrap", out=(raw := np.empty(wanted, self.dtype)))
        else:
            raw = np.empty(wanted, self.dtype)
            self._reader.read_into(self._first_token + start, raw[:rest] if rest < wanted else raw)
            if rest < wanted:
                self._reader.read_into(self._first_token, raw[rest:])
        out[...] = raw

    def document(self, number: int) -> Array:
        """Return the tokens of one document, shape ``[tokens]``.

        Raises:
            ShardError: there is no such document, or the index is damaged.
        """
        return self.tokens(*self.document_span(number))

    def document_span(self, number: int) -> tuple[int, int]:
        """Return where a document lies: its first token and the one after its last.

        Raises:
            ShardError: there is no such document, or the index is damaged.
        """
        if not 0 <= number < self.num_documents:
            raise ShardError(f"{self._name}: document {number} asked for, it has {self.num_documents}")
        start, stop = self._reader.document_span(self._first_document + number)
        start, stop = start - self._first_token, stop - self._first_token
        if not 0 <= start <= stop <= self.num_tokens:
            raise ShardError(
                f"{self._name}: document {number} spans tokens {start} to {stop} of {self.num_tokens}; "
                "the index is damaged, tokenise the corpus again"
            )
        return start, stop

    def length_blocks(self) -> Iterator[Array]:
        """Yield the tokens of every document, a bounded number of documents at a time.

        Raises:
            ShardError: the index is damaged.
        """
        return self._reader.length_blocks(self._first_document, self._first_document + self.num_documents)

    def document_at(self, token: int) -> int:
        """Return the number of the document that holds a token.

        Raises:
            ShardError: there is no such token, or the index is damaged.
        """
        if not 0 <= token < self.num_tokens:
            raise ShardError(f"{self._name}: token {token} asked for, it has {self.num_tokens}")
        number = self._reader.document_at(self._first_token + token) - self._first_document
        if not 0 <= number < self.num_documents:
            raise ShardError(
                f"{self._name}: token {token} lies in document {number} of {self.num_documents}; "
                "the index is damaged, tokenise the corpus again"
            )
        return number

    @property
    def _name(self) -> str:
        return f"{self.prefix}: {self.shard.name} ({self.shard.split})"


class Parts:
    """Opens the shards of a manifest on first use; thousands of them cost nothing before they are read.

    Each file has one reader, however many shards it holds, and only so many stay open at a time.

    Args:
        root: folder that the paths of shards are relative to.
        files: keeps files open between reads; one of its own when absent.
    """

    def __init__(self, root: Path, *, files: FileCache | None = None) -> None:
        self._root = root
        self._files = FileCache() if files is None else files
        self._readers: dict[Path, ShardReader] = {}
        self._parts: dict[ShardInfo, ShardPart] = {}

    def open(self, shard: ShardInfo) -> ShardPart:
        """Return a shard, opened and checked against its entry the first time.

        Raises:
            ShardError: it is missing, damaged, or not the one that the entry describes.
        """
        part = self._parts.get(shard)
        if part is None:
            prefix = self._root / shard.path
            reader = self._readers.get(prefix)
            if reader is None:
                reader = self._readers[prefix] = ShardReader(prefix, files=self._files)
            check_shard(reader, shard)
            part = self._parts[shard] = ShardPart(reader, shard)
        return part
