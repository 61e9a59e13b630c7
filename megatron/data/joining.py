"""Documents of several shards in one new shard: tokens byte for byte, with an index that is computed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from megatron.data.index_format import write_index
from megatron.data.indexed import ShardReader, bin_path, idx_path
from megatron.data.shard_files import Array
from megatron.utils.files import atomic_write

_BLOCK_TOKENS = 1 << 20


@dataclass(frozen=True)
class Span:
    """Documents that follow each other in a shard.

    Attributes:
        reader: the shard.
        first_document: the first of them ...
        documents: ... and how many.
        first_token: where they begin ...
        tokens: ... and their tokens.
    """

    reader: ShardReader
    first_document: int
    documents: int
    first_token: int
    tokens: int

    @classmethod
    def whole(cls, reader: ShardReader) -> Span:
        """Return all documents of a shard."""
        return cls(reader, 0, reader.num_documents, 0, reader.num_tokens)

    def blocks(self) -> Iterator[Array]:
        """Yield the tokens in pieces."""
        last = self.first_token + self.tokens
        for start in range(self.first_token, last, _BLOCK_TOKENS):
            yield self.reader.tokens(start, min(start + _BLOCK_TOKENS, last))


def join_spans(spans: Sequence[Span], prefix: Path, *, report: Callable[[int], object] = lambda count: None) -> str:
    """Write documents, one span after the other, into a new shard.

    The files take their names when they are complete, the index last; memory does not grow with the shards.

    Args:
        spans: what to copy, at least one; all of one dtype.
        prefix: path of the new shard without ``.bin``.
        report: is told of the bytes that were copied.

    Returns:
        The content hash of the new shard.

    Raises:
        ShardError: a shard is damaged. Nothing is left behind.
    """
    digest = xxhash.xxh3_128()
    with atomic_write(bin_path(prefix)) as file:
        for span in spans:
            for block in span.blocks():
                data = block.data.cast("B")
                digest.update(data)
                file.write(data)
                report(len(data))
        # Without its index a shard does not exist, so an old index must never stand beside the new tokens.
        idx_path(prefix).unlink(missing_ok=True)

    def lengths() -> Iterator[Array]:
        return itertools.chain.from_iterable(
            span.reader.length_blocks(span.first_document, span.first_document + span.documents) for span in spans
        )

    with atomic_write(idx_path(prefix)) as file:

        def write(data: bytes) -> None:
            digest.update(data)
            file.write(data)

        write_index(write, spans[0].reader.dtype, sum(span.documents for span in spans), lengths)
    return digest.hexdigest()
