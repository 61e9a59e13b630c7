"""Activations that the backward pass computes again instead of keeping them (Chen et al., arXiv 1604.06174)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from megatron.config.recomputation import Mode, Recomputation, mode_of
from megatron.model.layers import Block
from megatron.model.llama import Llama

_KEPT = (
    "mm", "addmm",
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
)  # fmt: skip
"""Operations of ATen whose results ``selective`` keeps: they take nearly all of the time, and a part of the memory."""

_KEPT_OF_OTHERS = (("torch_attn", "_varlen_attn"),)


def recompute_activations(model: Llama, recomputation: Recomputation) -> None:
    """Make blocks keep less.

    Args:
        model: changed in place, before it is divided; a stage of a pipeline has some of the layers.
        recomputation: the mode of all blocks, or of every layer of the whole model. ``full``: a block keeps its input
            alone. ``selective``: also the results of its matrix products and of attention (Korthikanti et al., arXiv
            2205.05198, keep them too, but for attention). None: everything.
    """
    for name, block in model.model.layers.items():
        assert isinstance(block, Block)
        mode = mode_of(recomputation, int(name))
        if mode is not None:
            block.recompute = functools.partial(_checkpointed, _Computing(block), checkpoint_options(mode))


def checkpoint_options(mode: Mode) -> dict[str, Any]:
    """Return the options of ``torch.utils.checkpoint`` that make a block recompute so: ``full`` or ``selective``."""
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}  # nothing in a block is random
    if mode == "selective":
        options["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _keeps(_kept_operations()))
    elif mode != "full":
        raise ValueError(f"checkpoint_mode = {mode!r} must be full or selective")
    return options


def _checkpointed(holder: _Computing, options: dict[str, Any], compute: Callable[..., Tensor], *args: Any) -> Tensor:
    weights: dict[str, Tensor] = dict(holder.named_parameters())
    out: Tensor
    if all(isinstance(weight, nn.Parameter) for weight in weights.values()):
        out = checkpoint(compute, *args, **options)
        return out
    # Somebody has lent the block other weights, such as ones in bfloat16, and will have taken them back by the time of
    # the backward pass: the computation takes them along.
    out = checkpoint(functools.partial(functional_call, holder, weights), args, **options)
    return out


class _Computing(nn.Module):
    """A module that computes a block, since weights can only be lent to modules."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, *args: Any) -> Tensor:
        return self.block.compute(*args)


def _kept_operations() -> frozenset[Any]:
    """Return those of the operations that this build of PyTorch has."""
    import torch.nn.attention.varlen  # registers its operation; a slow import, for this alone

    names = [("aten", name) for name in _KEPT] + list(_KEPT_OF_OTHERS)
    packets = (getattr(getattr(torch.ops, space), name, None) for space, name in names)
    return frozenset(packet.default for packet in packets if packet is not None)


def _keeps(kept: frozenset[Any]) -> Any:
    def policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        return CheckpointPolicy.MUST_SAVE if operation in kept else CheckpointPolicy.PREFER_RECOMPUTE

    return policy
