from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from megatron.config.architecture import Architecture
from megatron.model.llama import Llama
from megatron.parallel.precision import StepCalls, call_in


@pytest.mark.parametrize("tied", [False, True])
def test_bfloat16_computes_close_to_float64_and_keeps_float32_gradients(tied: bool) -> None:
    model = Llama(Architecture(64, 32, 48, 2, 4, 2, 8, 64, tie_word_embeddings=tied))
    model.init_weights(seed=0)
    tokens = torch.randint(0, 64, (4, 33), generator=torch.Generator().manual_seed(0))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    loss = call_in(torch.bfloat16, model, inputs, targets=targets)
    loss.backward()
    wide = Llama(model.architecture).double()
    wide.load_state_dict(model.state_dict())
    expected = wide(inputs, targets=targets)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=2e-3)
    for (name, ours), theirs in zip(model.named_parameters(), wide.parameters(), strict=True):
        assert ours.dtype == torch.float32 and ours.grad is not None and ours.grad.dtype == torch.float32
        assert theirs.grad is not None
        assert (ours.grad.double() - theirs.grad).norm() / theirs.grad.norm() < 3e-2, name


def test_float32_is_the_plain_call() -> None:
    model = Llama(Architecture(64, 32, 48, 2, 4, 2, 8, 64))
    model.init_weights(seed=0)
    tokens = torch.arange(20)[None]
    assert torch.equal(call_in(torch.float32, model, tokens), model(tokens))


@pytest.mark.parametrize("tied", [False, True])
def test_weights_that_are_cast_once_make_the_same_gradients(tied: bool) -> None:
    once, anew = (Llama(Architecture(64, 32, 48, 2, 4, 2, 8, 64, tie_word_embeddings=tied)) for _ in range(2))
    tokens = torch.randint(0, 64, (3, 4, 33), generator=torch.Generator().manual_seed(0))
    for model in (once, anew):
        model.init_weights(seed=0)
        model.model.layers["0"].mlp.requires_grad_(False)
    weights = {parameter.data_ptr() for parameter in (*once.parameters(), *anew.parameters())}
    by_loss = len(tokens) * (not tied)  # it casts an output matrix of its own
    casts, all_of_them = 0, len(list(once.parameters())) - (not tied)

    class Casts(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal casts
            casts += func is torch.Tensor.to and args[0].data_ptr() in weights
            return func(*args, **(kwargs or {}))

    with Casts():
        call = StepCalls(torch.bfloat16, once)
        for number, rows in enumerate(tokens, start=1):
            call(rows[:, :-1], last=number == len(tokens), targets=rows[:, 1:]).backward()
        assert casts == all_of_them * 2 + by_loss  # and of the last pass
        for rows in tokens:
            call_in(torch.bfloat16, anew, rows[:, :-1], targets=rows[:, 1:]).backward()
        assert casts == all_of_them * (2 + len(tokens)) + 2 * by_loss
    for (name, mine), other in zip(once.named_parameters(), anew.parameters(), strict=True):
        if mine.requires_grad:
            assert mine.grad is not None and other.grad is not None and mine.grad.dtype == torch.float32
            assert torch.equal(mine.grad, other.grad), name
        else:
            assert mine.grad is None


def test_weights_are_cast_anew_in_every_step() -> None:
    model = Llama(Architecture(64, 32, 48, 1, 4, 2, 8, 64))
    model.init_weights(seed=0)
    tokens = torch.arange(20)[None]
    losses = []
    for _ in range(2):
        call = StepCalls(torch.bfloat16, model)
        losses.append(call(tokens, last=False, targets=tokens).item())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
    assert losses[0] != losses[1]
