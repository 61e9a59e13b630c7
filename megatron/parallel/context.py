"""Context parallelism: each process has a part of every sequence, and attention gathers the keys and values.

As Llama 3 was trained (Llama team, arXiv 2407.21783, section 3.3.2). A sequence is cut into twice as many chunks as
there are processes, and each process gets one from the front and one from the back, so that all have the same work
under a causal mask.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from megatron.model.attention import Documents, Packing, attention_packed, fits_packed_kernel
from megatron.model.micro_batch import MicroBatch
from megatron.parallel.mesh import Axis


def own_context(batch: MicroBatch, axis: Axis) -> MicroBatch:
    """Return this process's part of a micro-batch: two chunks of each row, with their positions in the whole row.

    Args:
        batch: whole rows, whose length is a multiple of twice the number of processes.
        axis: those that divide every row.
    """
    if axis.size == 1:
        return batch
    rows, width = batch.inputs.shape
    chunk = width // (2 * axis.size)
    places = _places(axis.rank, axis.size)

    def cut(tensor: Tensor) -> Tensor:
        return torch.cat([tensor[:, place * chunk : (place + 1) * chunk] for place in places], dim=1)

    positions = torch.arange(width).expand(rows, width) if batch.positions is None else batch.positions
    documents = batch.pattern
    assert documents is None or isinstance(documents, Documents)
    lengths = [width] * rows if documents is None else documents.lengths
    pattern = GatheredContext.of(lengths, rows, width, axis)
    return MicroBatch(cut(batch.inputs), cut(batch.targets), cut(positions), pattern, batch.groups)


def _places(rank: int, size: int) -> tuple[int, int]:
    return rank, 2 * size - 1 - rank


class _Span(NamedTuple):
    """Queries of this process that lie next to each other in one document, and the keys of the document up to them.

    Queries count in this process's rows laid end to end, keys in the whole rows.
    """

    query: int
    queries: int
    key: int
    keys: int


@dataclasses.dataclass(frozen=True, eq=False)
class GatheredContext:
    """Attention of a part of each row to all of it. A :class:`megatron.model.attention.Pattern`.

    Attributes:
        axis: the processes that have the other parts.
        shape: rows, and tokens of each row in this process.
        spans: what attends to what, in the order of the queries.
        packing: the spans' queries, and a copy of each span's keys, laid end to end.
        key_index: int64: the token of the whole rows that each key is.
    """

    axis: Axis
    shape: tuple[int, int]
    spans: tuple[_Span, ...]
    packing: Packing
    key_index: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], rows: int, width: int, axis: Axis) -> GatheredContext:
        """Return the pattern of documents of these lengths, in the order of their tokens in whole rows."""
        spans = tuple(_spans(lengths, rows, width, axis))
        queries, keys = [span.queries for span in spans], [span.keys for span in spans]
        packing = Packing(_offsets(queries), _offsets(keys), max(queries), max(keys))
        index = torch.cat([torch.arange(span.key, span.key + span.keys) for span in spans])
        return cls(axis, (rows, width // axis.size), spans, packing, index)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> GatheredContext:
        """As :meth:`megatron.model.attention.Pattern.mapped`."""
        packing = self.packing._replace(
            query_offsets=change(self.packing.query_offsets), key_offsets=change(self.packing.key_offsets)
        )
        return dataclasses.replace(self, packing=packing, key_index=change(self.key_index))

    def check(self, shape: torch.Size, device: torch.device) -> None:
        """Refuse a batch that is no part of these rows."""
        if tuple(shape) != self.shape or device != self.key_index.device:
            raise ValueError(f"a part of {self.shape} on {self.key_index.device} is not {tuple(shape)} on {device}")

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As :meth:`megatron.model.attention.Pattern.attend`; all processes of the axis must call it."""
        keys, values = _Gather.apply(torch.stack((key, value)), self.axis).flatten(1, 2).unbind(0)
        flat = query.flatten(0, 1)
        if fits_packed_kernel(query):
            from torch.nn.attention.varlen import varlen_attn

            # Causal masks of that kernel end at the last query and the last key, which is what is needed here.
            chosen = keys[self.key_index], values[self.key_index]
            return attention_packed(self.packing, flat, *chosen, kernel=varlen_attn).view_as(query)
        return torch.cat([_attend(span, flat, keys, values) for span in self.spans]).view_as(query)


def _offsets(counts: Sequence[int]) -> Tensor:
    return torch.tensor([0, *itertools.accumulate(counts)], dtype=torch.int32)


def _spans(lengths: Sequence[int], rows: int, width: int, axis: Axis) -> Iterator[_Span]:
    chunk, local = width // (2 * axis.size), width // axis.size
    row, start = 0, 0
    of_row: list[list[range]] = [[] for _ in range(rows)]
    for length in lengths:
        of_row[row].append(range(start, start + length))
        start += length
        if start == width:
            row, start = row + 1, 0
    for row, documents in enumerate(of_row):
        for half, place in enumerate(_places(axis.rank, axis.size)):
            for document in documents:
                first, stop = max(document.start, place * chunk), min(document.stop, (place + 1) * chunk)
                if first < stop:
                    query = row * local + half * chunk + first - place * chunk
                    yield _Span(query, stop - first, row * width + document.start, stop - document.start)


def _attend(span: _Span, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend within one span; tensors ``[tokens, heads, head_dim]``. The mask is whole: for tests and small runs."""
    q = query[span.query : span.query + span.queries]
    k, v = (tensor[span.key : span.key + span.keys] for tensor in (key, value))
    mask = None
    if span.queries < span.keys:
        mask = torch.ones(span.queries, span.keys, dtype=torch.bool, device=q.device).tril(span.keys - span.queries)
    q, k, v = (tensor.transpose(0, 1).unsqueeze(0) for tensor in (q, k, v))
    grouped = q.shape[1] != k.shape[1]
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped)
    return mixed.squeeze(0).transpose(0, 1)


class _Gather(torch.autograd.Function):
    """Joins parts ``[2, rows, part, ...]`` of all processes in the order of the sequence: ``[2, rows, all, ...]``.

    The gradient of each process's part is the sum of what all of them say about it.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor, axis: Axis) -> Tensor:
        ctx.axis = axis
        parts = part.new_empty((axis.size, *part.shape))
        dist.all_gather_into_tensor(parts.flatten(0, 1), part.contiguous(), group=axis.group)
        # [process, 2, rows, half, chunk, ...]: the first halves in order, then the second ones backwards.
        halves = parts.unflatten(3, (2, -1)).movedim(3, 0)
        whole = torch.cat((halves[0], halves[1].flip(0)))
        return whole.movedim(0, 2).flatten(2, 3)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        axis = ctx.axis
        chunks = gradients[0].unflatten(2, (2 * axis.size, -1)).movedim(2, 0)
        front, back = chunks[: axis.size], chunks[axis.size :].flip(0)
        parts = torch.stack((front, back)).movedim(0, 3).flatten(3, 4).contiguous()
        mine = torch.empty_like(parts[0])
        dist.reduce_scatter_tensor(mine, parts.flatten(0, 1), group=axis.group)
        return mine, None
