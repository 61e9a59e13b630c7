"""Sums of gradients over processes that have seen other text, and the norm of a gradient whose parts lie apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate

from megatron.parallel.mesh import Mesh
from megatron.parallel.parts import local

_BUCKET_ELEMENTS = 1 << 24  # 64 MiB of float32: large enough to fill a network, small enough to keep memory flat


def sum_gradients(parameters: Iterable[nn.Parameter], mesh: Mesh) -> None:
    """Replace every gradient by its sum over all processes, in place, as far as ``fully_shard`` has not done it.

    Call it once a step, after the last micro-batch; parameters without a gradient must be the same on all processes.
    """
    if mesh.layout.stage:
        return
    gradients = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
    # Sequence parallelism leaves every process with what its part of the sequence says about a norm.
    partial = [(parameter, gradient) for parameter, gradient in gradients if _is_partial(gradient)]
    _sum_in_buckets([local(gradient) for _, gradient in partial], mesh.tensor.sum)
    for parameter, gradient in partial:
        parameter.grad = DTensor.from_local(local(gradient), mesh.tensor_mesh, [Replicate()])
    if mesh.copies.size > 1:
        _sum_in_buckets([local(gradient) for _, gradient in gradients], mesh.copies.sum)


def gradient_norm(parameters: Sequence[nn.Parameter], mesh: Mesh) -> float:
    """Return the L2 norm of a whole gradient, wherever its parts lie; every process must call this.

    Args:
        parameters: those of this process whose gradients count here.
        mesh: all processes.
    """
    total = torch.zeros((), dtype=torch.float64, device=mesh.world.device)
    held_by: dict[int, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            held_by.setdefault(_holders(parameter.grad, mesh), []).append(local(parameter.grad))
    # Numbers stay on their side: a table of them, brought to the device, would make the host wait for it.
    for holders, gradients in held_by.items():
        norms = torch.stack(torch._foreach_norm(gradients, 2, dtype=torch.float32))
        total += norms.double().square().sum() / holders
    return math.sqrt(mesh.world.sum(total).item())


def _holders(gradient: Tensor, mesh: Mesh) -> int:
    """Return how many processes hold the same part of a gradient."""
    parts = 1
    if isinstance(gradient, DTensor):
        sizes = zip(gradient.placements, gradient.device_mesh.shape, strict=True)
        parts = math.prod(size for placement, size in sizes if not placement.is_replicate())
    return mesh.world.size // (mesh.layout.pipeline * parts)


def _is_partial(tensor: Tensor) -> bool:
    return isinstance(tensor, DTensor) and any(placement.is_partial() for placement in tensor.placements)


def _sum_in_buckets(gradients: list[Tensor], add_up: Callable[[Tensor], Tensor]) -> None:
    for bucket in _buckets(gradients):
        if len(bucket) == 1 and bucket[0].is_contiguous():
            add_up(bucket[0])  # an embedding fills a bucket by itself; no copy is needed
            continue
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        add_up(flat)
        for gradient, piece in zip(bucket, flat.split([gradient.numel() for gradient in bucket]), strict=True):
            gradient.copy_(piece.view_as(gradient))


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
