from __future__ import annotations

import pytest
import torch

from megatron.config.architecture import Architecture
from megatron.model.llama import Llama
from megatron.parallel.precision import call_in


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
