"""AdamW with GPT-NeoX's parameter groups."""

from __future__ import annotations

import torch
from torch import nn


def build_adamw(
    model: nn.Module, *, learning_rate: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> torch.optim.AdamW:
    """Return a fused AdamW (Loshchilov and Hutter, arXiv 1711.05101) over all parameters of ``model``.

    As in GPT-NeoX, matrices decay (embeddings too) and vectors, which in Llama are the norms, do not.
    """
    decayed = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    kept = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=eps, fused=True)
