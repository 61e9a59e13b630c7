from __future__ import annotations

import torch

from megatron.config.architecture import Architecture
from megatron.model.llama import Llama
from megatron.optim.adamw import build_adamw


def test_matrices_decay_and_norms_do_not() -> None:
    model = Llama(Architecture(64, 16, 32, 2, 2, 1, 8, 64))
    optimizer = build_adamw(model, learning_rate=1e-3, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.3)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    names = dict(model.named_parameters())
    assert len(decay) == len(names)
    for name, parameter in names.items():
        assert decay[id(parameter)] == (0.0 if "norm" in name else 0.3), name
    assert decay[id(model.model.embed_tokens.weight)] == 0.3


def test_one_update_is_adamws(seed: int = 0) -> None:
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 3, bias=False)
    start, gradient = model.weight.detach().double(), torch.randn(3, 3)
    model.weight.grad = gradient.clone()
    build_adamw(model, learning_rate=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1).step()
    wide = gradient.double()
    # After one step both corrected moments are the gradient itself.
    expected = start * (1 - 0.01 * 0.1) - 0.01 * wide / (wide.abs() + 1e-8)
    torch.testing.assert_close(model.weight.double(), expected, rtol=1e-6, atol=1e-7)
