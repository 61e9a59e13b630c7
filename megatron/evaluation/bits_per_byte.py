"""Bits per UTF-8 byte of held-out documents, corpus by corpus.

The one number that compares across tokenizers: the nats of all tokens over the bytes of the text they stand for.
Documents are scored one by one, every window starts with the token that starts documents in training, and every byte is
scored exactly once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from megatron.data.manifest import ShardInfo, TokenizerInfo
from megatron.data.parts import Parts
from megatron.model.loss import IGNORE
from megatron.parallel.engine import Engine
from megatron.utils.log import progress


@dataclasses.dataclass(frozen=True)
class Window:
    """A piece of a document: ``inputs[i]`` predicts ``targets[i]``.

    Attributes:
        corpus: index of the document's corpus.
        inputs: int64 ids; the first one starts the document.
        targets: int64 ids of the text, as long as ``inputs``.
    """

    corpus: int
    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]


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
        mesh, world = engine.mesh, engine.mesh.world
        table = torch.zeros(len(self.shards), 2, dtype=torch.float64, device=world.device)
        batches = self._batches(batch_tokens)
        mine = batches[mesh.scorers.rank :: mesh.scorers.size]
        for batch in progress(mine, description="validation", unit="batch", disable=not world.is_main):
            self._score_batch(engine, batch, table)
            after_batch()
        if mesh.layout.stage and len(mine) * mesh.scorers.size < len(batches):
            # Processes that divide a model gather it together: as many passes in each, the last one for nothing.
            self._score_batch(engine, batches[-1], torch.zeros_like(table))
        engine.release()
        sums = (world.sum(table) / mesh.layout.tensor).tolist()
        return [
            CorpusScore(
                corpus=shard.name,
                code=shard.code,
                source=shard.source,
                nats=nats,
                bytes=shard.bytes,
                tokens=round(tokens),
            )
            for shard, (nats, tokens) in zip(self.shards, sums, strict=True)
        ]

    def _read(self) -> list[Window]:
        """Read the documents on first use; they are few, and the same in every evaluation."""
        if self._windows is None:
            parts = Parts(self._folder)
            windows = [window for corpus in range(len(self.shards)) for window in self._windows_of(corpus, parts)]
            # Longest first: equal lengths share batches (little padding), and memory runs out at once or never.
            self._windows = sorted(windows, key=lambda window: (-len(window.inputs), window.corpus))
        return self._windows

    def _windows_of(self, corpus: int, parts: Parts) -> Iterator[Window]:
        tokenizer, length = self._tokenizer, self._seq_length
        part = parts.open(self.shards[corpus])
        first = tokenizer.bos_id if tokenizer.prepend_bos and tokenizer.bos_id is not None else tokenizer.eod_id
        for number in range(part.num_documents):
            document = part.document(number).astype(np.int64)
            # The text alone: what starts and ends a document has no bytes.
            text = document[int(tokenizer.prepend_bos) : -1]
            for start in range(0, len(text), length):
                targets = text[start : start + length]
                yield Window(corpus=corpus, inputs=np.concatenate(([first], targets[:-1])), targets=targets)

    def _batches(self, batch_tokens: int) -> list[list[Window]]:
        windows = self._read()
        batches = []
        start = 0
        while start < len(windows):
            rows = max(1, batch_tokens // len(windows[start].inputs))
            batches.append(windows[start : start + rows])
            start += rows
        return batches

    @staticmethod
    def _score_batch(engine: Engine, batch: list[Window], table: torch.Tensor) -> None:
        multiple = engine.mesh.tensor.size if engine.mesh.layout.sequence else 1
        shape = (len(batch), -(-len(batch[0].inputs) // multiple) * multiple)
        inputs, targets = np.zeros(shape, dtype=np.int64), np.full(shape, IGNORE, dtype=np.int64)
        for row, window in enumerate(batch):
            inputs[row, : len(window.inputs)] = window.inputs
            targets[row, : len(window.targets)] = window.targets
        wanted = torch.from_numpy(targets).to(table.device)
        nats = engine.score(torch.from_numpy(inputs).to(table.device), wanted)
        if nats is None:
            return  # another stage of the pipeline knows
        rows = torch.stack((nats.double().sum(1), (wanted != IGNORE).double().sum(1)), dim=1)
        corpora = torch.tensor([window.corpus for window in batch], device=table.device)
        table.index_add_(0, corpora, rows)

