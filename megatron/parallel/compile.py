"""Compiles with ``torch.compile``: blocks, each by itself, so that all of them share one compilation, and the loss."""

from __future__ import annotations

import functools

import torch

from megatron.config.recomputation import Recomputation, mode_of
from megatron.model.layers import Block
from megatron.model.llama import Llama
from megatron.model.loss import fused_logits_to_gradient, linear_cross_entropy


def compile_blocks(model: Llama, *, recomputation: Recomputation) -> None:
    """Compile every block, and what the loss does to logits, when it is first called; the first step takes long.

    Args:
        model: changed in place.
        recomputation: of all blocks, or of every layer of the whole model. ``selective`` chooses among the operations
            of a block, so it must be compiled with it; ``full`` only calls the block again.
    """
    for name, block in model.model.layers.items():
        assert isinstance(block, Block)
        if mode_of(recomputation, int(name)) == "selective":
            block.compile(dynamic=False)
        else:
            block.compute = torch.compile(block.compute, dynamic=False)  # type: ignore[method-assign]
    if model.loss is linear_cross_entropy:
        to_gradient = torch.compile(fused_logits_to_gradient, dynamic=False)
        model.loss = functools.partial(linear_cross_entropy, to_gradient=to_gradient)
