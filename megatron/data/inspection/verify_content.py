"""One pass over the bytes of a shard: hash, ids outside the vocabulary, documents without their first or last id."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import xxhash

from megatron.data.indexed import ShardReader, idx_path
from megatron.data.manifest import TokenizerInfo
from megatron.data.shard_files import Array, file_chunks

_BLOCK_TOKENS = 1 << 20
_EXAMPLES = 5


@dataclasses.dataclass(frozen=True)
class Scan:
    """What a pass over a shard has found.

    Attributes:
        content_hash: as :func:`megatron.data.indexed.content_hash`.
        findings: one line for each broken rule, with a count and the first few places.
    """

    content_hash: str
    findings: tuple[str, ...]


def scan(
    reader: ShardReader, tokenizer: TokenizerInfo | None, *, borders: bool, report: Callable[[int], object]
) -> Scan:
    """Read a whole shard once, in blocks.

    Args:
        reader: the shard.
        tokenizer: says which ids there are, and which of them begin and end documents; None leaves that unchecked.
        borders: look at the borders of documents; not of use when the index is damaged.
        report: is told of the bytes that were read.

    Raises:
        ShardError: a file cannot be read, or has become shorter.
    """
    digest = xxhash.xxh3_128()
    findings = _Findings()
    documents = _Borders(reader.length_blocks() if borders else iter(()), findings)
    for start in range(0, reader.num_tokens, _BLOCK_TOKENS):
        block = reader.tokens(start, min(start + _BLOCK_TOKENS, reader.num_tokens))
        digest.update(block.data.cast("B"))
        report(block.nbytes)
        documents.load(start + len(block))
        if tokenizer is not None:
            _check_block(block, start, documents, tokenizer, findings)
        documents.drop(start + len(block))
    documents.load(reader.num_tokens + 1)  # documents without tokens at the very end
    for data in file_chunks(idx_path(reader.prefix)):
        digest.update(data)
        report(len(data))
    return Scan(digest.hexdigest(), tuple(findings.lines()))


def _check_block(
    block: Array, start: int, documents: _Borders, tokenizer: TokenizerInfo, findings: _Findings
) -> None:
    size = tokenizer.vocab_size
    # Two passes that find nothing are faster than one that says where.
    if int(block.max()) >= size or int(block.min()) < 0:
        places = np.flatnonzero((block >= size) | (block < 0)) + start
        findings.add(f"tokens are outside the vocabulary of {size}: at", places)
    ends, numbers = documents.ends_in(start, start + len(block))
    findings.add(
        f"documents do not end with {tokenizer.eod_id}:", numbers[block[ends - 1 - start] != tokenizer.eod_id]
    )
    if tokenizer.prepend_bos:
        starts, numbers = documents.starts_in(start, start + len(block))
        findings.add(
            f"documents do not begin with {tokenizer.bos_id}:", numbers[block[starts - start] != tokenizer.bos_id]
        )


class _Findings:
    """Counts the places where each rule is broken, and remembers the first few."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first: dict[str, list[int]] = {}

    def add(self, rule: str, places: Array) -> None:
        if len(places):
            self._counts[rule] = self._counts.get(rule, 0) + len(places)
            first = self._first.setdefault(rule, [])
            first += places[: _EXAMPLES - len(first)].tolist()

    def lines(self) -> Iterator[str]:
        for rule, count in self._counts.items():
            more = ", ..." if count > len(self._first[rule]) else ""
            yield f"{count:,} {rule} {', '.join(map(str, self._first[rule]))}{more}"


class _Borders:
    """First tokens and ends of the documents around the block that is being read; those without tokens are findings."""

    def __init__(self, lengths: Iterator[Array], findings: _Findings) -> None:
        self._lengths = lengths
        self._findings = findings
        self._starts = self._ends = self._numbers = np.zeros(0, dtype=np.int64)
        self._last_end = self._next_number = 0

    def load(self, stop: int) -> None:
        """Make sure that every document that begins before token ``stop`` is known."""
        while self._last_end < stop and (lengths := next(self._lengths, None)) is not None:
            ends = np.cumsum(lengths) + self._last_end
            numbers = np.arange(self._next_number, self._next_number + len(lengths))
            some = lengths > 0
            self._findings.add("documents have no tokens:", numbers[~some])
            self._starts = np.concatenate([self._starts, (ends - lengths)[some]])
            self._ends = np.concatenate([self._ends, ends[some]])
            self._numbers = np.concatenate([self._numbers, numbers[some]])
            self._last_end, self._next_number = int(ends[-1]), self._next_number + len(lengths)

    def drop(self, stop: int) -> None:
        """Forget the documents that end at or before token ``stop``."""
        kept = int(np.searchsorted(self._ends, stop, side="right"))
        self._starts, self._ends, self._numbers = self._starts[kept:], self._ends[kept:], self._numbers[kept:]

    def ends_in(self, start: int, stop: int) -> tuple[Array, Array]:
        """Return the ends in ``(start, stop]`` and the numbers of their documents."""
        first, last = np.searchsorted(self._ends, [start, stop], side="right")
        return self._ends[first:last], self._numbers[first:last]

    def starts_in(self, start: int, stop: int) -> tuple[Array, Array]:
        """Return the first tokens in ``[start, stop)`` and the numbers of their documents."""
        first, last = np.searchsorted(self._starts, [start, stop], side="left")
        return self._starts[first:last], self._numbers[first:last]
