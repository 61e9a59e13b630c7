"""Cross-entropy straight from hidden states, in pieces, so that the logits are never whole in memory.

With 128,256 entries the logits of one 8,192-token sequence take 4 GiB in float32; they are the largest tensor of a
Llama step by far. The pieces' gradients are made while each piece's logits are still in the cache, so nothing is
computed twice: three matrix products, as in the plain form.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IGNORE = -100
"""Target id of positions that have no loss (PyTorch's convention)."""

# Elements of one piece's logits. A CPU wants them in its cache (measured: docs/performance.md). A GPU reads the whole
# output matrix once for every piece, so pieces there are as large as memory allows without being noticed.
_CHUNK_ELEMENTS_CPU = 1 << 23
_CHUNK_ELEMENTS_GPU = 1 << 27


def chunk_rows(vocabulary: int, device: torch.device) -> int:
    """Return how many tokens make a piece whose logits are not too large for a device."""
    return max(16, (_CHUNK_ELEMENTS_CPU if device.type == "cpu" else _CHUNK_ELEMENTS_GPU) // vocabulary)


class _LinearCrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        need_hidden, need_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        cast = weight.to(hidden.dtype)
        hidden_gradient = torch.empty_like(hidden) if need_hidden else None
        # Summed over the pieces in float32, whatever the weight's dtype.
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        each = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        rows = chunk_rows(weight.shape[0], hidden.device)
        for start in range(0, hidden.shape[0], rows):
            piece, wanted = hidden[start : start + rows], targets[start : start + rows]
            valid = wanted != IGNORE
            index = wanted.clamp(min=0).unsqueeze(1)
            logits = (piece @ cast.t()).float()
            normaliser = torch.logsumexp(logits, dim=1, keepdim=True)
            losses = (normaliser - logits.gather(1, index)).squeeze(1)
            each[start : start + rows] = torch.where(valid, losses, 0.0)
            if hidden_gradient is None and weight_gradient is None:
                continue
            # d loss / d logits = softmax - one_hot, and nothing where the target is ignored.
            delta = logits.sub_(normaliser).exp_()
            delta.scatter_add_(1, index, torch.full_like(index, -1, dtype=delta.dtype))
            delta.mul_(valid.unsqueeze(1))
            delta = delta.to(hidden.dtype)
            if hidden_gradient is not None:
                torch.mm(delta, cast, out=hidden_gradient[start : start + rows])
            if weight_gradient is not None:
                if weight_gradient.dtype == delta.dtype:
                    weight_gradient.addmm_(delta.t(), piece)
                else:
                    weight_gradient += delta.t() @ piece
        if weight_gradient is not None:
            weight_gradient = weight_gradient.to(weight.dtype)
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        ctx.mark_non_differentiable(each)
        return each.sum(), each

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (*scaled_gradients(ctx, gradients[0]), None)


def scaled_gradients(ctx: Any, scale: Tensor) -> list[Tensor | None]:
    """Return the saved gradients, which were made together with a loss, times the loss's own gradient, a scalar.

    In place: nobody else has seen them, and the weight's is the size of the embedding. Pipelines with zero bubbles ask
    twice, first for the one, later for the other; ``data`` hides from autograd that what it has saved has changed.
    """
    factor = scale / ctx.scaled_by if hasattr(ctx, "scaled_by") else scale
    ctx.scaled_by = scale
    saved = ctx.saved_tensors
    return [None if gradient is None else gradient.data.mul_(factor.to(gradient.dtype)) for gradient in saved]


def linear_cross_entropy_sum(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the sum of the cross-entropies of ``softmax(hidden @ weight.T)``, in nats.

    Args:
        hidden: ``[tokens, hidden]``, float32 or bfloat16; the matrix products are done in this dtype.
        weight: ``[vocabulary, hidden]``; its gradient is summed in float32 and has its dtype.
        targets: int64 ``[tokens]``; positions equal to :data:`IGNORE` count nothing.

    Returns:
        A float32 scalar. Gradients are computed together with it, and have none of their own.
    """
    total: Tensor = _LinearCrossEntropySum.apply(hidden, weight, targets)[0]
    return total


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, each: bool
) -> tuple[Tensor | None, Tensor]:
    """Return the loss of a batch; what :class:`megatron.model.llama.Llama` calls unless it is given another function.

    Args:
        hidden: ``[batch, sequence, hidden]``.
        weight: ``[vocabulary, hidden]``.
        targets: int64 ``[batch, sequence]``.
        each: only every position's loss is wanted.

    Returns:
        The sum, a float32 scalar, and every position's loss, float32 ``[batch, sequence]``, 0 where the target is
        ignored, without gradients. With ``each`` None, and float32 ``[batch, sequence, 2]``: every position's loss,
        and the loss that its likeliest token would have.
    """
    flat, wanted = hidden.flatten(0, 1), targets.flatten()
    if each:
        return None, linear_cross_entropy_each(flat, weight, wanted).view(*targets.shape, 2)
    total, losses = _LinearCrossEntropySum.apply(flat, weight, wanted)
    return total, losses.view(targets.shape)


@torch.no_grad()
def linear_cross_entropy_each(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return every target's cross-entropy, and that of the likeliest token, in nats, float32 ``[tokens, 2]``.

    The first is 0 where the target is ignored. Arguments are those of :func:`linear_cross_entropy_sum`. No gradient
    flows.
    """
    cast = weight.to(hidden.dtype)
    losses = torch.empty(hidden.shape[0], 2, dtype=torch.float32, device=hidden.device)
    rows = chunk_rows(weight.shape[0], hidden.device)
    for start in range(0, hidden.shape[0], rows):
        logits = (hidden[start : start + rows] @ cast.t()).float()
        wanted = targets[start : start + rows]
        normaliser = torch.logsumexp(logits, dim=1)
        own = normaliser - logits.gather(1, wanted.clamp(min=0).unsqueeze(1)).squeeze(1)
        losses[start : start + rows, 0] = torch.where(wanted == IGNORE, 0.0, own)
        losses[start : start + rows, 1] = normaliser - logits.amax(dim=1)
    return losses
