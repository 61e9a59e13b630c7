"""Bits per UTF-8 byte of held-out documents, corpus by corpus.

The one number that compares across tokenizers: the nats of all tokens over the bytes of the text they stand for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from megatron.data.manifest import ShardInfo, TokenizerInfo
from megatron.data.parts import Parts
from megatron.evaluation.rows import Window
from megatron.evaluation.windows import cut, longest_first, score_windows
from megatron.parallel.engine import Engine


@dataclasses.dataclass(frozen=True)
class CorpusScore:
    """Sums over one corpus; bits per byte are ``nats / (ln 2 * bytes)``."""

    corpus: str
    code: str
    source: str
    nats: float
    bytes: int
    tokens: int


class HeldOutSet:
    """The held-out documents of many corpora, cut into windows.

    Args:
        folder: where the manifest lies; shard paths are relative to it.
        shards: the held-out shards, whole files or parts of them.
        tokenizer: says which ids start and end documents.
        seq_length: longest window in tokens.
    """

    def __init__(
        self, *, folder: Path, shards: Sequence[ShardInfo], tokenizer: TokenizerInfo, seq_length: int
    ) -> None:
        self.shards = list(shards)
        self._folder, self._tokenizer, self._seq_length = folder, tokenizer, seq_length
        self._windows: list[Window] | None = None

    def score(
        self, engine: Engine, *, batch_tokens: int, after_batch: Callable[[], None] = lambda: None
    ) -> list[CorpusScore]:
        """Score every window once, the work divided over the processes, and return one row for each corpus.

        Args:
            engine: scores; all of its processes return the same rows. Sums are float64.
            batch_tokens: most tokens, padding included, in one forward pass.
            after_batch: called after each of them.
        """
        sums = score_windows(
            engine,
            self._read(),
            num_groups=len(self.shards),
            batch_tokens=batch_tokens,
            description="validation",
            after_batch=after_batch,
        ).tolist()
        return [
            CorpusScore(
                corpus=shard.name,
                code=shard.code,
                source=shard.source,
                nats=nats,
                bytes=shard.bytes,
                tokens=round(tokens),
            )
            for shard, (nats, tokens, _) in zip(self.shards, sums, strict=True)
        ]

    def _read(self) -> list[Window]:
        """Read the documents on first use; they are few, and the same in every evaluation."""
        if self._windows is None:
            parts = Parts(self._folder)
            numbers = range(len(self.shards))
            self._windows = longest_first(window for corpus in numbers for window in self._windows_of(corpus, parts))
        return self._windows

    def _windows_of(self, corpus: int, parts: Parts) -> Iterator[Window]:
        tokenizer = self._tokenizer
        part = parts.open(self.shards[corpus])
        first = tokenizer.bos_id if tokenizer.prepend_bos and tokenizer.bos_id is not None else tokenizer.eod_id
        for number in range(part.num_documents):
            document = part.document(number).astype(np.int64)
            # The text alone: what starts and ends a document has no bytes.
            text = document[int(tokenizer.prepend_bos) : -1]
            yield from cut(text, group=corpus, first_id=first, length=self._seq_length)
