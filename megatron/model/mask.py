"""Attention by a mask that says of every two tokens whether one sees the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Mask:
    """Which tokens see which, pair by pair. A :class:`megatron.model.attention.Pattern`.

    It takes memory for every pair of a row, and attention computes them all: where tokens simply see those before them
    in their document, :class:`megatron.model.attention.Documents` does less.

    Attributes:
        visible: bool ``[rows, tokens, tokens]`` on the model's device: whether the first one sees the second. Every
            token sees at least one, such as itself.
    """

    visible: Tensor

    def check(self, shape: torch.Size, device: torch.device) -> None:
        """Refuse a batch of ids ``[rows, tokens]`` that the mask is not made for.

        Raises:
            ValueError: it is of another shape or dtype, or lies elsewhere.
        """
        rows, width = shape
        if self.visible.shape != (rows, width, width) or self.visible.dtype != torch.bool:
            raise ValueError(
                f"a mask of {rows} x {width} tokens must be bool [{rows}, {width}, {width}], not "
                f"{self.visible.dtype} {list(self.visible.shape)}"
            )
        if self.visible.device != device:
            raise ValueError(f"the mask is on {self.visible.device}, the tokens on {device}")

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As :meth:`megatron.model.attention.Pattern.attend`."""
        groups = query.shape[2] // key.shape[2]
        if groups > 1:
            # The kernels that take both a mask and fewer key heads are those that keep a score of every pair.
            key, value = key.repeat_interleave(groups, dim=2), value.repeat_interleave(groups, dim=2)
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=self.visible.unsqueeze(1)).transpose(1, 2)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Mask:
        """As :meth:`megatron.model.attention.Pattern.mapped`."""
        return Mask(change(self.visible))
