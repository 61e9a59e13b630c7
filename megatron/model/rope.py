"""Rotary position embeddings in Hugging Face's convention: dimension ``d`` is paired with ``d + head_dim / 2``.

Source: Su et al., RoFormer, arXiv 2104.09864; the stretching of Llama 3.1 follows Meta's reference implementation
(https://github.com/meta-llama/llama-models).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from megatron.config.architecture import Architecture, RopeScaling


def inverse_frequencies(architecture: Architecture) -> Tensor:
    """Return the rotation speed of every pair of dimensions, in radians per position: float32 ``[head_dim / 2]``."""
    exponents = torch.arange(0, architecture.head_dim, 2, dtype=torch.int64).float() / architecture.head_dim
    frequencies = 1.0 / architecture.rope_theta**exponents
    scaling = architecture.rope_scaling
    if scaling is None:
        return frequencies
    if scaling.rope_type == "linear":
        return frequencies / scaling.factor
    return _llama3(frequencies, scaling)


def _llama3(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    wavelengths = 2 * math.pi / frequencies
    context = scaling.original_max_position_embeddings
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    # 0 where the wavelength fills the old context (stretch), 1 where it is short (keep), a ramp between.
    keep = ((context / wavelengths - low) / (high - low)).clamp(0.0, 1.0)
    return (1.0 - keep) * frequencies / scaling.factor + keep * frequencies


def rotation_table(architecture: Architecture, *, num_positions: int) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of every (position, dimension): two float32 tensors ``[num_positions, head_dim]``."""
    angles = torch.outer(torch.arange(num_positions, dtype=torch.float32), inverse_frequencies(architecture))
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn every head vector by the angle of its position.

    Args:
        x: ``[batch, sequence, heads, head_dim]``.
        cos: ``[sequence, 1, head_dim]`` (or with a batch dimension in front), in the dtype to compute in.
        sin: as ``cos``.

    Returns:
        A tensor like ``x``.
    """
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
