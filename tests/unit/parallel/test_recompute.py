"""Recomputed activations: the same gradients from less memory, and no matrix product twice where none should be."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from megatron.config.architecture import Architecture
from megatron.config.recomputation import Recomputation
from megatron.model.attention import Documents
from megatron.model.layers import Block
from megatron.model.llama import Llama
from megatron.parallel.pipeline import take_stage
from megatron.parallel.precision import call_in
from megatron.parallel.recompute import recompute_activations

LAYERS = 3
TOKENS = torch.randint(0, 64, (2, 32), generator=torch.Generator().manual_seed(0))
MODES = (None, "selective", "full")
MIXED = ("full", "selective", None)


class Products(TorchDispatchMode):
    """Counts matrix products and attentions."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = "attention" if "attention" in str(function) else str(function)
        self.counts[name] = self.counts.get(name, 0) + 1
        return function(*args, **(kwargs or {}))


def build(recomputation: Recomputation) -> Llama:
    model = Llama(Architecture(64, 32, 48, LAYERS, 4, 2, 8, 64))
    model.init_weights(seed=0)
    recompute_activations(model, recomputation)
    return model


def kept_bytes(model: Llama) -> int:
    """Return the bytes that the forward pass keeps for the backward pass, weights not counted."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(TOKENS, targets=TOKENS)
    del loss
    return sum(kept.values())


@pytest.mark.parametrize("documents", [None, Documents.of((20, 12, 5, 27))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("recomputation", ["selective", "full", MIXED])
def test_loss_and_gradients_are_the_same(
    recomputation: Recomputation, dtype: torch.dtype, documents: Documents | None
) -> None:
    plain, saving = build(None), build(recomputation)
    losses = [call_in(dtype, model, TOKENS, targets=TOKENS, pattern=documents) for model in (plain, saving)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    for (name, mine), other in zip(saving.named_parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None and other.grad is not None
        assert torch.equal(mine.grad, other.grad), name


def test_products_are_computed_again_only_by_full() -> None:
    counts = {}
    for mode in MODES:
        model = build(mode)
        with Products() as products:
            model(TOKENS, targets=TOKENS).backward()
        counts[mode] = products.counts
    of_a_block = 6  # q, k, v, o, gate, up; nobody needs the result of down, so it stops there
    assert counts["selective"]["aten.mm.default"] == counts[None]["aten.mm.default"]
    assert counts["full"]["aten.mm.default"] == counts[None]["aten.mm.default"] + LAYERS * of_a_block
    assert counts["selective"]["attention"] == counts[None]["attention"] == 2 * LAYERS
    assert counts["full"]["attention"] == 3 * LAYERS


def test_only_blocks_in_full_compute_products_again() -> None:
    plain, mixed = build(None), build(MIXED)
    counts = []
    for model in (plain, mixed):
        with Products() as products:
            model(TOKENS, targets=TOKENS).backward()
        counts.append(products.counts)
    assert counts[1]["aten.mm.default"] == counts[0]["aten.mm.default"] + 6
    assert counts[1]["attention"] == counts[0]["attention"] + 1
    assert kept_bytes(build("full")) < kept_bytes(mixed) < kept_bytes(plain)


def test_a_stage_of_a_pipeline_takes_the_modes_of_its_own_layers() -> None:
    model = Llama(Architecture(64, 32, 48, LAYERS, 4, 2, 8, 64))
    take_stage(model, range(1, 3), first=False, last=True)
    recompute_activations(model, ("full", None, "full"))
    blocks = {name: block for name, block in model.model.layers.items() if isinstance(block, Block)}
    assert {name: block.recompute is not None for name, block in blocks.items()} == {"1": False, "2": True}


def test_full_keeps_the_inputs_of_blocks() -> None:
    rows = TOKENS.numel() * 32 * 4  # bytes of one activation of the residual stream
    full, plain = kept_bytes(build("full")), kept_bytes(build(None))
    assert full < plain / 4
    assert full < (LAYERS + 6) * rows  # with the last norm and the loss


def test_nothing_is_kept_for_recomputation_without_gradients() -> None:
    model = build("full")
    with torch.no_grad():
        assert torch.equal(model(TOKENS), build(None)(TOKENS))


def test_attention_over_documents_on_a_gpu_is_kept_too() -> None:
    # In a process of its own: here something else may have registered the operation.
    code = (
        "import torch; from megatron.parallel import recompute; kept = recompute._kept_operations(); "
        "assert torch.ops.torch_attn._varlen_attn.default in kept; assert len(kept) >= 6"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_mode() -> None:
    with pytest.raises(ValueError, match="full or selective"):
        build("some")
