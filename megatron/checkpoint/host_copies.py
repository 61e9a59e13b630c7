"""Copies of tensors in the host's memory, so that training can go on while they are written."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from megatron.checkpoint.shards import Piece
from megatron.utils.log import get_logger

logger = get_logger(__name__)


class HostCopies:
    """A copy of tensors in the host's memory, which is kept from save to save: memory is slow to get."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)

    def of(self, tensors: Mapping[Piece, Tensor], *, after: torch.cuda.Event | None = None) -> dict[Piece, Tensor]:
        """Return copies of tensors; they last until the next call.

        Args:
            tensors: what is copied; of a GPU on a stream of its own, so that others work on meanwhile.
            after: what the GPU must have done before.
        """
        size = sum(piece.num_bytes for piece in tensors)
        device = next((tensor.device for tensor in tensors.values() if tensor.is_cuda), None)
        stream = None if device is None else torch.cuda.Stream(device)
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            if size > len(self._memory):
                self._memory = torch.empty(0, dtype=torch.uint8)
                self._memory = torch.empty(size, dtype=torch.uint8)
                if stream is not None:
                    _pin(self._memory)
            if stream is not None and after is not None:
                stream.wait_event(after)
            copies, end = {}, 0
            # Widest first, so that each begins at a multiple of its width.
            for piece, tensor in sorted(tensors.items(), key=lambda item: -item[0].dtype.itemsize):
                start, end = end, end + piece.num_bytes
                copies[piece] = self._memory[start:end].view(piece.dtype).view(piece.part.shape)
                copies[piece].copy_(tensor, non_blocking=True)
            if stream is not None:
                stream.synchronize()
        return copies


def _pin(memory: Tensor) -> None:
    """Let the GPU copy to memory as it is; PyTorch's own pinned memory comes in powers of two, up to twice as much."""
    problem = torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)
    if int(problem) != 0:
        logger.warning("memory for checkpoints cannot be pinned (CUDA error %d): copies take longer", int(problem))
