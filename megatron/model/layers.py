"""The parts of a Llama block besides attention: norm, gated feed-forward, and the block itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megatron.config.architecture import Architecture
from megatron.model.attention import Attention, KeyValueStore, Pattern

Recompute = Callable[..., Tensor]
"""Calls a function with arguments so that the backward pass computes again what it does not keep."""


class FeedForward(nn.Module):
    """SwiGLU (Shazeer, arXiv 2002.05202): ``down(silu(gate(x)) * up(x))``."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        hidden, width = architecture.hidden_size, architecture.intermediate_size
        self.gate_proj = nn.Linear(hidden, width, bias=False)
        self.up_proj = nn.Linear(hidden, width, bias=False)
        self.down_proj = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, sequence, hidden]`` to the same shape."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class RMSNorm(nn.Module):
    """Root-mean-square normalisation (Zhang and Sennrich, arXiv 1910.07467), computed in float32 or wider."""

    def __init__(self, size: int, *, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of ``x`` and scale it by the weight; the dtype stays."""
        if not torch.is_grad_enabled():  # one operation instead of six, which is what counts for a few tokens
            return self.weight.to(x.dtype) * F.rms_norm(x, (x.shape[-1],), eps=self.eps)
        scaled = x.to(torch.promote_types(x.dtype, torch.float32))
        scaled = scaled * (scaled.pow(2).mean(-1, keepdim=True) + self.eps).rsqrt()
        return self.weight.to(x.dtype) * scaled.to(x.dtype)


def _uncompiled(module: nn.Module) -> Callable[..., Tensor]:
    """Leave a module out of what is compiled: it would be compiled anew for the lengths in every pattern."""
    out: Callable[..., Tensor] = torch.compiler.disable(module.__call__)
    return out


class Block(nn.Module):
    """One layer: attention and feed-forward, each after a norm and added to its input."""

    def __init__(self, architecture: Architecture, *, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(architecture, layer=layer)
        self.mlp = FeedForward(architecture)
        self.input_layernorm = RMSNorm(architecture.hidden_size, eps=architecture.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(architecture.hidden_size, eps=architecture.rms_norm_eps)
        self.recompute: Recompute | None = None

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        cache: KeyValueStore | None = None,
        pattern: Pattern | None = None,
    ) -> Tensor:
        """Map ``[batch, sequence, hidden]`` to the same shape; arguments as in :class:`Attention`."""
        if self.recompute is None or not torch.is_grad_enabled():
            return self.compute(x, cos, sin, cache, pattern)
        return self.recompute(self.compute, x, cos, sin, cache, pattern)

    def compute(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: KeyValueStore | None, pattern: Pattern | None
    ) -> Tensor:
        """Do what :meth:`forward` does, keeping what the backward pass needs."""
        attention = self.self_attn if pattern is None else _uncompiled(self.self_attn)
        x = x + attention(self.input_layernorm(x), cos, sin, cache, pattern)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out
