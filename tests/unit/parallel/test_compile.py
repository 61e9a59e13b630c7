"""What is compiled is compiled: one graph for all blocks, one for the loss, and nothing left out in silence."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters

from megatron.config.architecture import Architecture
from megatron.model import loss
from megatron.model.llama import Llama, Loss
from megatron.parallel.compile import compile_blocks
from megatron.parallel.precision import StepCalls, call_in
from megatron.parallel.recompute import recompute_activations


@pytest.mark.parametrize("recomputation", [None, "full", "selective"])
def test_blocks_in_bfloat16_make_one_graph_and_the_loss_another(recomputation: str | None) -> None:
    torch.compiler.reset()
    counters.clear()
    model = Llama(Architecture(64, 32, 48, 3, 4, 2, 8, 64))
    model.init_weights(seed=0)
    recompute_activations(model, recomputation)
    compile_blocks(model, recomputation=recomputation)
    tokens = torch.randint(0, 64, (2, 16))
    call_in(torch.bfloat16, model, tokens, targets=tokens).backward()
    assert counters["stats"]["unique_graphs"] == 2 and not counters["graph_break"]
    assert counters["stats"]["calls_captured"] > (1 if recomputation == "selective" else 20)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_compiled_loss_is_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()
    monkeypatch.setattr(loss, "chunk_rows", lambda vocabulary, device: 16)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 23, 24, generator=generator)
    weight = torch.randn(57, 24, generator=generator)
    targets = torch.randint(0, 57, (2, 23), generator=generator)
    targets[:, ::5] = loss.IGNORE
    model = Llama(Architecture(64, 32, 48, 1, 4, 2, 8, 64))
    compile_blocks(model, recomputation=None)

    def gradients(function: Loss, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        states, matrix = hidden.to(dtype, copy=True).requires_grad_(), weight.clone().requires_grad_()
        total, each = function(states, matrix, targets, each=False)
        assert total is not None
        total.backward()
        assert states.grad is not None and matrix.grad is not None
        return each, states.grad, matrix.grad

    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2)):
        plain, compiled = gradients(loss.linear_cross_entropy, dtype), gradients(model.loss, dtype)
        with torch.compiler.set_stance("force_eager"):  # as under a mode of a user that PyTorch does not compile with
            uncompiled = gradients(model.loss, dtype)
        for others in (compiled, uncompiled):
            for one, other in zip(plain, others, strict=True):
                assert (one - other).norm() <= tolerance * one.norm()


def test_blocks_that_recompute_differently_share_two_graphs_and_the_loss_has_another() -> None:
    torch.compiler.reset()
    counters.clear()
    model, plain = (Llama(Architecture(64, 32, 48, 4, 4, 2, 8, 64)) for _ in range(2))
    recomputation = ("full", "selective", "selective", None)
    recompute_activations(model, recomputation)
    compile_blocks(model, recomputation=recomputation)
    tokens = torch.randint(0, 64, (2, 16))
    for other in (model, plain):
        other.init_weights(seed=0)
        call_in(torch.bfloat16, other, tokens, targets=tokens).backward()
    # One of a block with what it chooses to keep, one that `full` calls again and that keeps everything elsewhere.
    assert counters["stats"]["unique_graphs"] == 3 and not counters["graph_break"]
    for mine, expected in zip(model.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None and expected.grad is not None
        assert (mine.grad - expected.grad).norm() < 0.02 * expected.grad.norm()


def test_weights_that_are_lent_for_a_step_are_compiled_once() -> None:
    torch.compiler.reset()
    counters.clear()
    model, plain = (Llama(Architecture(64, 32, 48, 3, 4, 2, 8, 64)) for _ in range(2))
    compile_blocks(model, recomputation=None)
    tokens = torch.randint(0, 64, (2, 16))
    for other in (model, plain):
        other.init_weights(seed=0)
        for _ in range(2):
            call = StepCalls(torch.bfloat16, other)
            for number in range(3):
                call(tokens, targets=tokens, last=number == 2).backward()
    assert counters["stats"]["unique_graphs"] == 2 and not counters["graph_break"]
    for mine, expected in zip(model.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None and expected.grad is not None
        assert (mine.grad - expected.grad).norm() < 0.02 * expected.grad.norm()
