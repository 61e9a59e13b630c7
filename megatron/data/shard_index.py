"""Looking things up in a shard's ``.idx`` without trusting it and without holding it.

Every look-up reads the few entries that it needs and compares what they say in more than one way (lengths against byte
offsets, borders against the size of the ``.bin``), so that a damaged entry is an error and not another document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from megatron.data.index_format import HEADER, ShardError, read_header
from megatron.data.shard_files import Array, FileCache, ShardFile

BLOCK_ENTRIES = 1 << 18
"""Entries of the index that are read at a time where all of it is wanted."""

_LAST_ENTRIES = 512  # where a binary search becomes one read


class ShardIndex:
    """The index of one shard.

    Args:
        idx: its file.
        bin_: the tokens that it describes; only the size is looked at.
        files: keeps files open between reads.

    Attributes:
        header: counts and places.
        num_documents: documents, by the document index; sequences where that says nothing.
    """

    def __init__(self, idx: Path, bin_: Path, *, files: FileCache | None = None) -> None:
        self.header = read_header(idx, bin_)
        self._file = ShardFile(idx, files)
        self._bin = bin_
        header = self.header
        self.num_documents = header.num_sequences if header.degenerate else header.document_index_length - 1

    def span(self, document: int) -> tuple[int, int]:
        """Return a document's first token and the one after its last.

        Raises:
            ShardError: there is no such document, or what the index says of it does not agree.
        """
        if not 0 <= document < self.num_documents:
            raise ShardError(f"{self._file.path}: document {document} asked for, the shard has {self.num_documents}")
        with self._file.opened() as descriptor:
            return self._span(descriptor, document)

    def document_at(self, token: int) -> int:
        """Return the document that holds a token: binary searches whose answer is checked.

        Args:
            token: a token of the shard.

        Raises:
            ShardError: the index does not agree with itself there.
        """
        byte = token * self.header.dtype.itemsize
        count = self.header.num_sequences
        with self._file.opened() as descriptor:
            sequence = _last_at_most(byte, count, lambda first, stop: self._pointers(descriptor, first, stop))
            document = sequence if self.header.degenerate else self._document_of(descriptor, sequence)
            if 0 <= document < self.num_documents:
                start, stop = self._span(descriptor, document)
                if start <= token < stop:
                    return document
        raise self._damaged(f"token {token} is not in document {document}, where the search for it ends")

    def lengths(self, first: int, stop: int) -> Array:
        """Return the tokens of documents ``first`` to ``stop`` (exclusive), int64 ``[stop - first]``.

        Raises:
            ShardError: there are no such documents, or the index does not agree with itself there.
        """
        if not 0 <= first <= stop <= self.num_documents:
            raise ShardError(
                f"{self._file.path}: documents {first} to {stop} asked for, the shard has {self.num_documents}"
            )
        if first == stop:
            return np.zeros(0, dtype=np.int64)
        with self._file.opened() as descriptor:
            borders = self._borders(descriptor, first, stop)
            if borders[-1] - borders[0] == stop - first and (np.diff(borders) == 1).all():
                return self._sequence_lengths(descriptor, int(borders[0]), int(borders[-1]))
            starts = self._starts(descriptor, borders)
        if (starts[1:] < starts[:-1]).any() or starts[0] < 0 or starts[-1] > self.header.bin_bytes:
            raise self._damaged(f"byte offsets of documents {first} to {stop} go down or beyond the end")
        if (starts % self.header.dtype.itemsize).any():
            raise self._damaged(f"a byte offset of documents {first} to {stop} is inside a token")
        return np.diff(starts) // self.header.dtype.itemsize

    def blocks(self, first: int = 0, stop: int | None = None) -> Iterator[Array]:
        """Yield the lengths of documents ``first`` to ``stop`` (all by default), a bounded number at a time."""
        stop = self.num_documents if stop is None else stop
        for start in range(first, stop, BLOCK_ENTRIES):
            yield self.lengths(start, min(start + BLOCK_ENTRIES, stop))

    def verify(self) -> None:
        """Check every entry.

        Raises:
            ShardError: naming the file and the first broken rule.
        """
        header, position = self.header, 0
        with self._file.opened() as descriptor:
            for start in range(0, header.num_sequences, BLOCK_ENTRIES):
                stop = min(start + BLOCK_ENTRIES, header.num_sequences)
                lengths = self._sequence_lengths(descriptor, start, stop)
                if int(self._pointers(descriptor, start, start + 1)[0]) != position:
                    raise self._damaged(f"sequence {start} does not begin where the one before ends")
                position += int(lengths.sum()) * header.dtype.itemsize
            for start in range(0, header.document_index_length - 1, BLOCK_ENTRIES):
                self._borders(descriptor, start, min(start + BLOCK_ENTRIES, header.document_index_length - 1))
        if position != header.bin_bytes:
            raise self._damaged(f"the lengths add up to {position} bytes, {self._bin} has {header.bin_bytes}")

    def _span(self, descriptor: int, document: int) -> tuple[int, int]:
        first, last = map(int, self._borders(descriptor, document, document + 1))
        start, stop = (int(self._starts(descriptor, np.array([border]))[0]) for border in (first, last))
        size = self.header.dtype.itemsize
        if not 0 <= start <= stop <= self.header.bin_bytes or start % size or stop % size:
            raise self._damaged(f"document {document} spans bytes {start} to {stop} of {self.header.bin_bytes}")
        tokens = 0
        for block in range(first, last, BLOCK_ENTRIES):
            tokens += int(self._raw_lengths(descriptor, block, min(block + BLOCK_ENTRIES, last)).sum(dtype=np.int64))
        if tokens * size != stop - start:
            raise self._damaged(f"the length of document {document} disagrees with its byte offsets")
        return start // size, stop // size

    def _document_of(self, descriptor: int, sequence: int) -> int:
        """Return the document of a sequence; almost always they have the same number."""
        count = self.header.document_index_length

        def read(first: int, stop: int) -> Array:
            return self._file.read_from(descriptor, "<i8", stop - first, self.header.documents_offset + 8 * first)

        if 0 <= sequence < count - 1 and read(sequence, sequence + 2).tolist() == [sequence, sequence + 1]:
            return sequence
        return _last_at_most(sequence, count, read)

    def _borders(self, descriptor: int, first: int, stop: int) -> Array:
        """Return the first sequence of documents ``first`` to ``stop``, the latter included: ``[stop - first + 1]``."""
        if self.header.degenerate:
            return np.arange(first, stop + 1)
        borders = self._file.read_from(
            descriptor, "<i8", stop - first + 1, self.header.documents_offset + 8 * first
        )
        if (borders[1:] < borders[:-1]).any() or borders[0] < 0 or borders[-1] > self.header.num_sequences:
            raise self._damaged(
                f"the document index goes down or beyond {self.header.num_sequences} sequences "
                f"within documents {first} to {stop}"
            )
        return borders

    def _sequence_lengths(self, descriptor: int, first: int, stop: int) -> Array:
        """Return the lengths of sequences, int64, after comparing them with the byte offsets."""
        lengths = self._raw_lengths(descriptor, first, stop).astype(np.int64)
        if (lengths < 0).any():
            raise self._damaged(f"a sequence length within {first} to {stop} is negative")
        starts = self._pointers(descriptor, first, min(stop + 1, self.header.num_sequences))
        ends = np.append(starts[1:], self.header.bin_bytes) if stop == self.header.num_sequences else starts[1:]
        if not np.array_equal(starts[: len(ends)] + lengths * self.header.dtype.itemsize, ends):
            raise self._damaged(f"lengths disagree with byte offsets within sequences {first} to {stop}")
        return lengths

    def _starts(self, descriptor: int, sequences: Array) -> Array:
        """Return the byte offset of each sequence of a rising list; the size of the ``.bin`` after the last one."""
        starts = np.full(len(sequences), self.header.bin_bytes, dtype=np.int64)
        inside = int(np.searchsorted(sequences, self.header.num_sequences))
        if inside and sequences[inside - 1] - sequences[0] <= 4 * len(sequences) + _LAST_ENTRIES:
            block = self._pointers(descriptor, int(sequences[0]), int(sequences[inside - 1]) + 1)
            starts[:inside] = block[sequences[:inside] - sequences[0]]
        else:  # far apart: what lies between them must not be read into memory
            for place, sequence in enumerate(sequences[:inside].tolist()):
                starts[place] = self._pointers(descriptor, sequence, sequence + 1)[0]
        return starts

    def _raw_lengths(self, descriptor: int, first: int, stop: int) -> Array:
        return self._file.read_from(descriptor, "<i4", stop - first, HEADER.size + 4 * first)

    def _pointers(self, descriptor: int, first: int, stop: int) -> Array:
        return self._file.read_from(descriptor, "<i8", stop - first, self.header.pointers_offset + 8 * first)

    def _damaged(self, rule: str) -> ShardError:
        return ShardError(f"{self._file.path}: {rule}; the index is damaged, tokenise the corpus again")


def _last_at_most(value: int, count: int, read: Callable[[int, int], Array]) -> int:
    """Return the place of the last entry that is at most ``value`` among ``count`` rising ones; -1 when there is none.

    Args:
        value: what to look for.
        count: number of entries.
        read: returns entries ``first`` to ``stop``.
    """
    low, high = 0, count
    while high - low > _LAST_ENTRIES:
        middle = (low + high) // 2
        if int(read(middle, middle + 1)[0]) <= value:
            low = middle
        else:
            high = middle
    return low - 1 + int(np.searchsorted(read(low, high), value, side="right"))
