"""Cross-entropy straight from hidden states, in pieces, so that the logits are never whole in memory.

With 128,256 entries the logits of one 8,192-token sequence take 4 GiB in float32; they are the largest tensor of a
Llama step by far. The pieces' gradients are made while each piece's logits are still in the cache, so nothing is
computed twice: three matrix products, as in the plain form.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

IGNORE = -100
"""Target id of positions that have no loss (PyTorch's convention)."""

# Elements of one piece's logits. A CPU wants them near its cache (measured: docs/performance.md). A GPU reads the whole
# output matrix once for every piece, so pieces there are as large as memory allows without being noticed.
_CHUNK_ELEMENTS_CPU = 1 << 24
_CHUNK_ELEMENTS_GPU = 1 << 27
# Elements of a product that is added to a float32 sum: what stays in the cache on its way.
_PRODUCT_ELEMENTS_CPU = 1 << 20
_PRODUCT_ELEMENTS_GPU = 1 << 25

LogitsToGradient = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]
"""Called as :func:`logits_to_gradient` is."""


def chunk_rows(vocabulary: int, device: torch.device) -> int:
    """Return how many tokens make a piece whose logits are not too large for a device."""
    return max(16, (_CHUNK_ELEMENTS_CPU if device.type == "cpu" else _CHUNK_ELEMENTS_GPU) // vocabulary)


def pieces(tokens: int, vocabulary: int, device: torch.device) -> Iterator[slice]:
    """Divide tokens into pieces of at most :func:`chunk_rows`, nearly equal, so that compiled code fits all of them."""
    count = -(-tokens // chunk_rows(vocabulary, device))
    rows = -(-tokens // count) if count else 1
    return (slice(start, min(start + rows, tokens)) for start in range(0, tokens, rows))


def logits_to_gradient(logits: Tensor, index: Tensor, wide: Tensor | None) -> Tensor:
    """Return the cross-entropy of every row, and replace its logits by their gradient, softmax - one_hot.

    Args:
        logits: ``[tokens, vocabulary]``; changed in place.
        index: int64 ``[tokens, 1]``, the targets.
        wide: float32 room like ``logits``, where these have another dtype.

    Returns:
        Nats, float32 ``[tokens]``; computed in float32 whatever the logits' dtype.
    """
    values = logits
    if logits.dtype != torch.float32:
        values = logits.float() if wide is None else wide.copy_(logits)
    torch.log_softmax(values, dim=1, out=values)
    losses = -values.gather(1, index).squeeze(1)
    values.exp_().scatter_add_(1, index, values.new_full((1, 1), -1).expand_as(index))
    if values is not logits:
        logits.copy_(values)
    return losses


def fused_logits_to_gradient(logits: Tensor, index: Tensor, wide: Tensor | None) -> Tensor:
    """Do what :func:`logits_to_gradient` does, in a form of which ``torch.compile`` makes two loops over the logits.

    ``wide`` is not needed.
    """
    values = logits.float()
    normaliser = torch.logsumexp(values, dim=1, keepdim=True)
    losses = (normaliser - values.gather(1, index)).squeeze(1)
    hit = (torch.arange(logits.shape[1], device=logits.device) == index).to(values.dtype)
    logits.copy_((values - normaliser).exp() - hit)
    return losses


def product(left: Tensor, right: Tensor, out: Callable[[], Tensor]) -> Tensor:
    """Return ``left @ right.T``.

    On a CPU PyTorch multiplies float32 matrices by MKL, which does not use AVX-512 on other vendors' processors; oneDNN
    does, and is twice as fast there (measured: docs/performance.md). It makes its result anew.

    Args:
        left: ``[rows, inner]``.
        right: ``[columns, inner]``.
        out: gives room for the result.
    """
    if left.device.type == "cpu" and left.dtype == torch.float32 and (multiply := _onednn_product()) is not None:
        result: Tensor = multiply(left, right, None, "none", [], "")
        return result
    return torch.mm(left, right.t(), out=out())


def _onednn_product() -> Callable[..., Tensor] | None:
    """Return the operation by which PyTorch's own compiler calls oneDNN, where this build has it."""
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left.T @ right`` to ``total``, in place.

    Args:
        total: ``[vocabulary, hidden]``, float32.
        left: ``[tokens, vocabulary]``, in the dtype of the product.
        right: ``[tokens, hidden]``, as ``left``.
    """
    if total.dtype == left.dtype:
        total.addmm_(left.t(), right)
        return
    # A product in another dtype is made before it is added: in blocks that have not left the cache by then.
    elements = _PRODUCT_ELEMENTS_CPU if total.device.type == "cpu" else _PRODUCT_ELEMENTS_GPU
    rows = max(1, elements // total.shape[1])
    for block, columns in zip(total.split(rows), left.split(rows, dim=1), strict=True):
        block += columns.t() @ right


class _LinearCrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, to_gradient: LogitsToGradient
    ) -> tuple[Tensor, Tensor]:
        need_hidden, need_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        cast = weight.to(hidden.dtype)
        hidden_gradient = torch.empty_like(hidden) if need_hidden else None
        # Summed over the pieces in float32, whatever the weight's dtype.
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        each = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        valid = targets != IGNORE
        index = targets.clamp(min=0).unsqueeze(1)
        # What is ignored has no gradient: taken away from narrow tensors, not from the logits. (A state there that is
        # not a number still spoils the sum, as it does in every form but one that looks at all logits once more.)
        weights = valid.unsqueeze(1).to(hidden.dtype)
        room = _Room(cast, hidden.device, wide=to_gradient is logits_to_gradient)
        for piece in pieces(len(hidden), len(weight), hidden.device):
            states = hidden[piece]
            logits = product(states, cast, functools.partial(room.logits, len(states)))
            each[piece] = to_gradient(logits, index[piece], room.wide(len(states)))
            if hidden_gradient is not None:
                hidden_gradient[piece] = product(logits, cast.t(), functools.partial(torch.empty_like, states))
            if weight_gradient is not None:
                add_product(weight_gradient, logits, states * weights[piece])
        each = torch.where(valid, each, 0.0)
        if hidden_gradient is not None:
            hidden_gradient *= weights
        if weight_gradient is not None:
            weight_gradient = weight_gradient.to(weight.dtype)
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        ctx.mark_non_differentiable(each)
        return each.sum(), each

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (*scaled_gradients(ctx, gradients[0]), None, None)


class _Room:
    """Memory for the logits of a piece, which all pieces use in turn: getting it anew costs a CPU as much as a pass."""

    def __init__(self, weight: Tensor, device: torch.device, *, wide: bool) -> None:
        self._vocabulary, self._dtype, self._device = weight.shape[0], weight.dtype, device
        self._wide = wide and weight.dtype != torch.float32
        self._logits: Tensor | None = None
        self._values: Tensor | None = None

    def logits(self, rows: int) -> Tensor:
        """Return room for as many rows, no more than at first, in the dtype of the products."""
        if self._logits is None:
            self._logits = torch.empty(rows, self._vocabulary, dtype=self._dtype, device=self._device)
        return self._logits[:rows]

    def wide(self, rows: int) -> Tensor | None:
        """Return the same in float32, where it is needed beside the other."""
        if self._values is None and self._wide:
            self._values = torch.empty(rows, self._vocabulary, device=self._device)
        return None if self._values is None else self._values[:rows]


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
    total: Tensor = _LinearCrossEntropySum.apply(hidden, weight, targets, logits_to_gradient)[0]
    return total


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, each: bool, to_gradient: LogitsToGradient = logits_to_gradient
) -> tuple[Tensor | None, Tensor]:
    """Return the loss of a batch; what :class:`megatron.model.llama.Llama` calls unless it is given another function.

    Args:
        hidden: ``[batch, sequence, hidden]``.
        weight: ``[vocabulary, hidden]``.
        targets: int64 ``[batch, sequence]``.
        each: only every position's loss is wanted.
        to_gradient: makes losses and gradients of a piece's logits.

    Returns:
        The sum, a float32 scalar, and every position's loss, float32 ``[batch, sequence]``, 0 where the target is
        ignored, without gradients. With ``each`` None, and float32 ``[batch, sequence, 2]``: every position's loss,
        and the loss that its likeliest token would have.
    """
    flat, wanted = hidden.flatten(0, 1), targets.flatten()
    if each:
        return None, linear_cross_entropy_each(flat, weight, wanted).view(*targets.shape, 2)
    total, losses = _LinearCrossEntropySum.apply(flat, weight, wanted, to_gradient)
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
