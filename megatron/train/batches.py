"""The micro-batches of one process: read ahead by a thread, marked with their documents, moved to the device."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

import torch

from megatron.config.derive import Batch
from megatron.config.schema import DataConfig
from megatron.data.documents import document_lengths, mask_targets, positions
from megatron.data.loader import Loader, micro_batch_numbers
from megatron.data.prefetch import Prefetcher
from megatron.model.attention import Documents
from megatron.model.loss import IGNORE
from megatron.model.micro_batch import MicroBatch
from megatron.parallel.context import own_context
from megatron.parallel.mesh import Mesh

_READ_AHEAD = 4
"""Micro-batches that wait ready. A read takes a hundredth of a step; the rest is for a file system that stalls."""


class Batches:
    """The micro-batches of this process, from one sample number on and without end; a context manager.

    Args:
        loader: reads samples; only the reading thread uses it.
        section: says what to do at the borders of documents.
        eod_id: the id that ends documents.
        batch: how a step is cut.
        mesh: the processes, which divide every micro-step up, and with context parallelism every sequence.
        first: first sample of the first step.
        group_of: group of a corpus, by the corpus's number in the order; None for no groups.

    Attributes:
        waited_seconds: how long :meth:`step` has waited for the reading thread, all in all.
    """

    def __init__(
        self,
        *,
        loader: Loader,
        section: DataConfig,
        eod_id: int,
        batch: Batch,
        mesh: Mesh,
        first: int,
        group_of: Sequence[int] | None = None,
    ) -> None:
        self._group_of = group_of
        self._loader, self._section, self._eod_id = loader, section, eod_id
        self._batch, self._mesh = batch, mesh
        self._ahead = Prefetcher(self._on_host(first), depth=_READ_AHEAD)
        self.waited_seconds = 0.0

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ahead.close()

    def step(self) -> Iterator[MicroBatch]:
        """Yield the micro-batches of the next step, on the device.

        Raises:
            ShardError: a shard is damaged.
        """
        for _ in range(self._batch.accumulation_steps):
            started = time.perf_counter()
            micro_batch = next(self._ahead)
            self.waited_seconds += time.perf_counter() - started
            yield micro_batch.to(self._mesh.world.device)

    def _on_host(self, first: int) -> Iterator[MicroBatch]:
        pin = self._mesh.world.device.type == "cuda"
        for step_first in itertools.count(first, self._batch.global_size):
            for micro_step in range(self._batch.accumulation_steps):
                numbers = micro_batch_numbers(
                    first=step_first,
                    micro_step=micro_step,
                    rank=self._mesh.data.rank,
                    ranks=self._mesh.data.size,
                    micro_size=self._batch.micro_size,
                )
                micro_batch = own_context(self._read(numbers), self._mesh.context)
                yield micro_batch.pinned() if pin else micro_batch

    def _read(self, numbers: range) -> MicroBatch:
        section, tokens = self._section, self._loader.batch(numbers)
        inputs, targets = tokens[:, :-1], tokens[:, 1:]  # views of the same ids
        if section.eod_mask_loss:
            targets = mask_targets(targets, inputs, eod_id=self._eod_id, ignore=IGNORE)
        groups = None
        if self._group_of is not None:
            groups = torch.tensor([self._group_of[corpus] for corpus in self._loader.corpora(numbers)])
        micro_batch = MicroBatch(torch.from_numpy(inputs), torch.from_numpy(targets), groups=groups)
        if not (section.reset_attention_mask or section.reset_position_ids):
            return micro_batch
        lengths = document_lengths(inputs, eod_id=self._eod_id)
        places = torch.from_numpy(positions(lengths, *inputs.shape)) if section.reset_position_ids else None
        documents = Documents.of(lengths.tolist()) if section.reset_attention_mask else None
        return dataclasses.replace(micro_batch, positions=places, pattern=documents)
