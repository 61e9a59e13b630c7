"""AdamW for some rows of a matrix: those with a learning rate, or a number of updates, of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw


def begin_moments(optimizer: torch.optim.AdamW) -> None:
    """Give every parameter the moments that it would get with its first gradient, all 0.

    A checkpoint then holds them all, also while some parameters are not trained.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter not in optimizer.state:
                optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                }


@torch.no_grad()
def update_rows(
    tensors: tuple[Tensor, Tensor, Tensor, Tensor],
    rows: slice,
    *,
    step: Tensor,
    learning_rate: float,
    group: Mapping[str, Any],
) -> None:
    """Update rows of a matrix in place, exactly as if they were a parameter of their own; nothing is copied.

    Args:
        tensors: the matrix, its gradient, and the running means of that and of its square, as far as they lie in this
            process, ``[rows, width]``.
        rows: which of them; there may be none.
        step: updates that they have had, a float32 scalar; becomes one more.
        learning_rate: of this update.
        group: the rest of AdamW's settings.
    """
    weight, gradient, mean, square = (tensor[rows] for tensor in tensors)
    if not weight.numel():
        step += 1  # as in the processes that hold some
        return
    beta1, beta2 = group["betas"]
    adamw(
        [weight], [gradient], [mean], [square], [], [step],
        fused=True, amsgrad=False, maximize=False, beta1=beta1, beta2=beta2,
        lr=learning_rate, weight_decay=group["weight_decay"], eps=group["eps"],
    )  # fmt: skip
