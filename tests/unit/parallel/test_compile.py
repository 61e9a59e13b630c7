"""Compiled blocks are compiled: one graph for all of them, and nothing that is left out in silence."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters

from megatron.config.architecture import Architecture
from megatron.model.llama import Llama
from megatron.parallel.compile import compile_blocks
from megatron.parallel.precision import call_in
from megatron.parallel.recompute import recompute_activations


@pytest.mark.parametrize("recomputation", [None, "full", "selective"])
def test_blocks_in_bfloat16_make_one_graph(recomputation: str | None) -> None:
    torch.compiler.reset()
    counters.clear()
    model = Llama(Architecture(64, 32, 48, 3, 4, 2, 8, 64))
    model.init_weights(seed=0)
    if recomputation is not None:
        recompute_activations(model, recomputation)
    compile_blocks(model, recomputation=recomputation)
    tokens = torch.randint(0, 64, (2, 16))
    call_in(torch.bfloat16, model, tokens, targets=tokens).backward()
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    assert counters["stats"]["calls_captured"] > (1 if recomputation == "selective" else 20)
    assert all(parameter.grad is not None for parameter in model.parameters())
