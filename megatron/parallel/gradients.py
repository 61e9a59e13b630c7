"""Adds gradients up over the data-parallel processes, in float32 and in buckets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from megatron.parallel.process import World

_BUCKET_ELEMENTS = 1 << 24  # 64 MiB of float32: large enough to fill a network, small enough to keep memory flat


def sum_gradients(parameters: Iterable[nn.Parameter], world: World) -> None:
    """Replace every gradient by its sum over all processes, in place; those of a divided model are sums already.

    Call it once a step, after the last micro-batch; parameters without a gradient must be the same on all processes.
    """
    if world.size == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for bucket in _buckets([gradient for gradient in gradients if not isinstance(gradient, DTensor)]):
        if len(bucket) == 1 and bucket[0].is_contiguous():
            world.sum(bucket[0])  # an embedding fills a bucket by itself; no copy is needed
            continue
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        world.sum(flat)
        for gradient, piece in zip(bucket, flat.split([gradient.numel() for gradient in bucket]), strict=True):
            gradient.copy_(piece.view_as(gradient))


def gradient_norm(gradients: Sequence[Tensor]) -> float:
    """Return the L2 norm of a whole gradient, wherever its parts lie; every process must call this."""
    norm = torch.nn.utils.get_total_norm(gradients)
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    elements = 0
    for gradient in gradients:
        if bucket and elements + gradient.numel() > _BUCKET_ELEMENTS:
            yield bucket
            bucket, elements = [], 0
        bucket.append(gradient)
        elements += gradient.numel()
    if bucket:
        yield bucket
