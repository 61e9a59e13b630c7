"""Embedding, loss and logits of a vocabulary that is divided among processes (Shoeybi et al., arXiv 1909.08053).

The loss is that of :mod:`megatron.model.loss`, and in pieces like it; but every process has the logits of some entries
only, and what is exchanged are three numbers for each token: the largest logit, the sum of exponentials, and the
target's logit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from megatron.model.llama import linear_logits
from megatron.model.loss import IGNORE, add_product, pieces, scaled_gradients
from megatron.parallel.mesh import Axis


class VocabularyEmbedding:
    """Stands for the ``forward`` of an embedding that is divided by rows.

    Args:
        module: its weight is a DTensor.
        axis: the processes that hold its parts, in order.
        sequence: whether each process gets its part of the sequence only.
    """

    def __init__(self, module: nn.Embedding, axis: Axis, *, sequence: bool) -> None:
        self._module, self._axis, self._sequence = module, axis, sequence

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return ``[batch, sequence, hidden]`` for ids ``[batch, sequence]``."""
        weight = self._module.weight
        assert isinstance(weight, DTensor)
        rows = weight.to_local()
        index, here = _own_rows(tokens, rows, self._axis)
        share = nn.functional.embedding(index, rows) * here.unsqueeze(-1)
        out: Tensor = _Sum.apply(share, self._axis, self._sequence)
        return out


def _own_rows(ids: Tensor, rows: Tensor, axis: Axis) -> tuple[Tensor, Tensor]:
    """Return the row of every id in this process, 0 for ids that have none here, and which ids have one."""
    index = ids - axis.rank * rows.shape[0]
    here = (index >= 0) & (index < rows.shape[0])
    return torch.where(here, index, 0), here


class _Sum(torch.autograd.Function):
    """Adds the shares of all processes up. Each of them sends back the whole gradient of the sum."""

    @staticmethod
    def forward(ctx: Any, share: Tensor, axis: Axis, sequence: bool) -> Tensor:
        ctx.axis, ctx.sequence = axis, sequence
        return axis.scatter_sum(share, 1) if sequence else axis.sum(share.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.axis.gather(gradients[0], 1) if ctx.sequence else gradients[0], None, None


class VocabularyLoss:
    """Stands for :func:`megatron.model.loss.linear_cross_entropy` where the output matrix is divided by rows.

    Args:
        axis: the processes that hold its parts, in order.
        sequence: whether hidden states come divided along the sequence, and their gradients go back so.
    """

    def __init__(self, axis: Axis, *, sequence: bool) -> None:
        self._axis, self._sequence = axis, sequence

    def __call__(
        self, hidden: Tensor, weight: Tensor, targets: Tensor, *, each: bool
    ) -> tuple[Tensor | None, Tensor]:
        """Return the loss; the same on every process of the axis. Arguments as there, ``weight`` a DTensor."""
        assert isinstance(weight, DTensor)
        rows = weight.to_local()
        if not each:
            total, known = _VocabularyCrossEntropySum.apply(hidden, rows, targets, self._axis, self._sequence)
            return total, known.view(targets.shape)
        with torch.no_grad():
            flat = (self._axis.gather(hidden, 1) if self._sequence else hidden).flatten(0, 1)
            cast, wanted = rows.to(flat.dtype), targets.flatten()
            losses = torch.empty(len(flat), 2, dtype=torch.float32, device=flat.device)
            for at in pieces(len(flat), len(rows), flat.device):
                piece = _Piece(flat[at], cast, wanted[at], self._axis)
                losses[at] = torch.stack((torch.where(wanted[at] == IGNORE, 0.0, piece.losses), piece.least), dim=1)
            return None, losses.view(*targets.shape, 2)


class VocabularyLogits:
    """Stands for :func:`megatron.model.llama.linear_logits` where the output matrix is divided by rows.

    Args:
        axis: the processes that hold its parts, in order.
        sequence: whether hidden states come divided along the sequence.
    """

    def __init__(self, axis: Axis, *, sequence: bool) -> None:
        self._axis, self._sequence = axis, sequence

    def __call__(self, hidden: Tensor, weight: Tensor, at: Tensor | None) -> Tensor:
        """Return the logits of the whole vocabulary; bit for bit the same on every process of the axis."""
        assert isinstance(weight, DTensor)
        whole = self._axis.gather(hidden, 1) if self._sequence else hidden
        return self._axis.gather(linear_logits(whole, weight.to_local(), at), 2)


class _Piece:
    """The losses of some tokens, and what their gradients need.

    Attributes:
        losses: float32 ``[tokens]``; any number where the target is ignored.
        least: float32 ``[tokens]``: what they would be for the likeliest tokens.
    """

    def __init__(self, hidden: Tensor, rows: Tensor, targets: Tensor, axis: Axis) -> None:
        index, self._here = _own_rows(targets, rows, axis)
        self._index = index.unsqueeze(1)
        logits = (hidden @ rows.t()).float()
        logits -= axis.max(logits.amax(dim=1, keepdim=True))
        wanted = torch.where(self._here, logits.gather(1, self._index).squeeze(1), 0.0)
        self._exponentials = logits.exp_()
        self._sums, found = axis.sum(torch.stack((self._exponentials.sum(dim=1), wanted)))
        self.least = self._sums.log()
        self.losses = self.least - found

    def gradient(self) -> Tensor:
        """Return the gradient of the sum of losses for this process's logits: softmax - one_hot, ignored or not."""
        gradient = self._exponentials.div_(self._sums.unsqueeze(1))
        return gradient.scatter_add_(1, self._index, -self._here.to(gradient.dtype).unsqueeze(1))


class _VocabularyCrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, rows: Tensor, targets: Tensor, axis: Axis, sequence: bool
    ) -> tuple[Tensor, Tensor]:
        need_gradients = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        whole = axis.gather(hidden, 1) if sequence else hidden
        flat, wanted, cast = whole.flatten(0, 1), targets.flatten(), rows.to(hidden.dtype)
        hidden_gradient = torch.empty_like(flat) if need_gradients else None
        rows_gradient = torch.zeros_like(rows, dtype=torch.float32) if need_gradients else None
        each = torch.empty(len(flat), dtype=torch.float32, device=flat.device)
        weights = (wanted != IGNORE).unsqueeze(1).to(flat.dtype)
        for at in pieces(len(flat), len(rows), flat.device):
            piece = _Piece(flat[at], cast, wanted[at], axis)
            each[at] = torch.where(wanted[at] == IGNORE, 0.0, piece.losses)
            if hidden_gradient is not None and rows_gradient is not None:
                gradient = piece.gradient().to(hidden.dtype)
                torch.mm(gradient, cast, out=hidden_gradient[at]).mul_(weights[at])
                add_product(rows_gradient, gradient, flat[at] * weights[at])
        if hidden_gradient is not None and rows_gradient is not None:
            # Every process has the share of its entries of the vocabulary.
            summed = hidden_gradient.view_as(whole)
            summed = axis.scatter_sum(summed, 1) if sequence else axis.sum(summed)
            ctx.save_for_backward(summed, rows_gradient.to(rows.dtype))
        ctx.mark_non_differentiable(each)
        return each.sum(), each

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (*scaled_gradients(ctx, gradients[0]), None, None, None)
