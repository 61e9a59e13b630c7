"""What one forward and backward pass works on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from megatron.model.attention import Pattern


@dataclasses.dataclass(frozen=True)
class MicroBatch:
    """Rows of text and what should be predicted.

    Attributes:
        inputs: int64 ids ``[rows, seq_length]``; may share memory with ``targets``.
        targets: int64 ids ``[rows, seq_length]`` that each position should predict; ``IGNORE`` for none.
        positions: int64 ``[rows, seq_length]``; None where they count through each row.
        pattern: which tokens see which; None where each sees those before it in its row.
        groups: int64 ``[rows]``, the group that each row's loss is counted for, such as a tier; None for none.
    """

    inputs: Tensor
    targets: Tensor
    positions: Tensor | None = None
    pattern: Pattern | None = None
    groups: Tensor | None = None

    def pinned(self) -> MicroBatch:
        """Return a copy in page-locked memory, from which a GPU copies without stopping the host."""
        return self._mapped(lambda tensor: tensor.contiguous().pin_memory())

    def to(self, device: torch.device) -> MicroBatch:
        """Return a copy on ``device``; the host does not wait for it."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> MicroBatch:
        return MicroBatch(
            inputs=change(self.inputs),
            targets=change(self.targets),
            positions=None if self.positions is None else change(self.positions),
            pattern=None if self.pattern is None else self.pattern.mapped(change),
            groups=None if self.groups is None else change(self.groups),
        )
