"""Compiles blocks with ``torch.compile``: each by itself, so that all of them share one compilation."""

from __future__ import annotations

import torch

from megatron.model.layers import Block
from megatron.model.llama import Llama


def compile_blocks(model: Llama, *, recomputation: str | None) -> None:
    """Compile every block when it is first called; the first step takes long.

    Args:
        model: changed in place.
        recomputation: ``selective`` chooses among the operations of a block, so it must be compiled with it; ``full``
            only calls the block again.
    """
    for block in model.model.layers.values():
        assert isinstance(block, Block)
        if recomputation == "selective":
            block.compile(dynamic=False)
        else:
            block.compute = torch.compile(block.compute, dynamic=False)  # type: ignore[method-assign]
