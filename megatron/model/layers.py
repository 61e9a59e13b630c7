"""The parts of a Llama block: attention, gated feed-forward, and the block itself.

Parameter names and layouts are Hugging Face's (``self_attn.q_proj.weight`` and so on): q, k and v are separate, nothing
is permuted or fused on disk, so weights go in and out without a mapping.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megatron.config.architecture import Architecture
from megatron.model.rope import rotate


class KeyValueStore(Protocol):
    """Where attention keeps the keys and values of earlier positions while text is generated."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add ``[batch, heads, new, head_dim]`` tensors and return those of all positions so far."""
        ...


class Attention(nn.Module):
    """Causal self-attention with grouped key/value heads and rotary positions."""

    def __init__(self, architecture: Architecture, *, layer: int) -> None:
        super().__init__()
        hidden, self.head_dim = architecture.hidden_size, architecture.head_dim
        query_width = architecture.num_attention_heads * self.head_dim
        key_width = architecture.num_key_value_heads * self.head_dim
        self.layer = layer
        self.q_proj = nn.Linear(hidden, query_width, bias=False)
        self.k_proj = nn.Linear(hidden, key_width, bias=False)
        self.v_proj = nn.Linear(hidden, key_width, bias=False)
        self.o_proj = nn.Linear(query_width, hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KeyValueStore | None = None) -> Tensor:
        """Attend from every position to itself and those before it.

        Args:
            x: ``[batch, sequence, hidden]``.
            cos: ``[sequence, 1, head_dim]``.
            sin: as ``cos``.
            cache: keys and values of earlier positions; ``x`` then continues them.

        Returns:
            ``[batch, sequence, hidden]``.
        """
        batch, length, _ = x.shape
        # -1 lets the number of heads follow from the weights, which tensor parallelism may have sliced.
        query = rotate(self.q_proj(x).view(batch, length, -1, self.head_dim), cos, sin).transpose(1, 2)
        key = rotate(self.k_proj(x).view(batch, length, -1, self.head_dim), cos, sin).transpose(1, 2)
        value = self.v_proj(x).view(batch, length, -1, self.head_dim).transpose(1, 2)
        if cache is not None:
            key, value = cache.append(self.layer, key, value)
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            # One new position sees everything; several are only ever the first ones, so the plain causal mask fits.
            is_causal=length > 1,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        mixed = mixed.transpose(1, 2).reshape(batch, length, -1)
        out: Tensor = self.o_proj(mixed)
        return out


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
    """Root-mean-square normalisation (Zhang and Sennrich, arXiv 1910.07467), computed in float32."""

    def __init__(self, size: int, *, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of ``x`` and scale it by the weight; the dtype stays."""
        scaled = x.float()
        scaled = scaled * (scaled.pow(2).mean(-1, keepdim=True) + self.eps).rsqrt()
        return self.weight.to(x.dtype) * scaled.to(x.dtype)


class Block(nn.Module):
    """One layer: attention and feed-forward, each after a norm and added to its input."""

    def __init__(self, architecture: Architecture, *, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(architecture, layer=layer)
        self.mlp = FeedForward(architecture)
        self.input_layernorm = RMSNorm(architecture.hidden_size, eps=architecture.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(architecture.hidden_size, eps=architecture.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KeyValueStore | None = None) -> Tensor:
        """Map ``[batch, sequence, hidden]`` to the same shape; arguments as in :class:`Attention`."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out
