"""Keys and values of the positions already read, so that each new token costs one position."""

from __future__ import annotations

import torch
from torch import Tensor

from megatron.config.architecture import Architecture


class KeyValueCache:
    """Room for the keys and values of ``capacity`` positions in every layer, taken once."""

    def __init__(
        self, architecture: Architecture, *, batch: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (
            architecture.num_hidden_layers,
            batch,
            architecture.num_key_value_heads,
            capacity,
            architecture.head_dim,
        )
        self._keys = torch.empty(shape, dtype=dtype, device=device)
        self._values = torch.empty(shape, dtype=dtype, device=device)
        self._filled = [0] * architecture.num_hidden_layers

    @property
    def length(self) -> int:
        """Positions that all layers hold."""
        return min(self._filled)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add ``[batch, heads, new, head_dim]`` tensors and return those of all positions so far."""
        start = self._filled[layer]
        end = start + keys.shape[2]
        assert start == 0 or keys.shape[2] == 1, "a prompt is read at once, then token by token"
        self._keys[layer, :, :, start:end] = keys
        self._values[layer, :, :, start:end] = values
        self._filled[layer] = end
        return self._keys[layer, :, :, :end], self._values[layer, :, :, :end]
