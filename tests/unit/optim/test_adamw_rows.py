from __future__ import annotations

import pytest
import torch

from megatron.optim.rows import begin_moments, update_rows

GROUP = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}


def adamw(weight: torch.Tensor, rate: float) -> torch.optim.AdamW:
    return torch.optim.AdamW([weight], lr=rate, **GROUP, fused=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("split", [0, 3, 7])
def test_each_part_is_updated_as_a_parameter_of_its_own(split: int) -> None:
    generator = torch.Generator().manual_seed(split)
    weight = torch.randn(7, 5, generator=generator)
    parts = (slice(0, split), slice(split, None))
    alone = [weight[rows].clone().requires_grad_() for rows in parts]
    optimizers = [adamw(part, rate) for part, rate in zip(alone, (1e-2, 3e-2), strict=True)]
    mean, square = torch.zeros(7, 5), torch.zeros(7, 5)
    steps = [torch.zeros(()), torch.zeros(())]
    for number in range(4):
        gradient = torch.randn(7, 5, generator=generator)
        for part, rows in zip(alone, parts, strict=True):
            part.grad = gradient[rows].clone()
        for at, rows in enumerate(parts):
            if at == 0 and number < 2:
                continue  # the first part begins later
            optimizers[at].step()
            update_rows(
                (weight, gradient, mean, square), rows, step=steps[at], learning_rate=(1e-2, 3e-2)[at], group=GROUP
            )
    for part, rows in zip(alone, parts, strict=True):
        torch.testing.assert_close(weight[rows], part.detach(), rtol=0, atol=1e-7)
    assert [step.item() for step in steps] == [2, 4]  # also where there are no rows


def test_moments_begin_as_the_optimizer_begins_them() -> None:
    weights = [torch.ones(3, 2, requires_grad=True), torch.ones(2, requires_grad=True)]
    groups = [{"params": [weights[0]]}, {"params": [weights[1]], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, fused=True)
    weights[0].grad = torch.ones(3, 2)
    optimizer.step()
    kept = {name: value.clone() for name, value in optimizer.state[weights[0]].items()}
    begin_moments(optimizer)
    begun, own = optimizer.state[weights[1]], optimizer.state[weights[0]]
    assert begun.keys() == own.keys() and not any(value.any() for value in begun.values())
    assert {name: value.dtype for name, value in begun.items()} == {name: value.dtype for name, value in own.items()}
    assert all(torch.equal(own[name], value) for name, value in kept.items())
    before = weights[1].detach().clone()
    weights[1].grad = torch.full((2,), 0.3)
    optimizer.step()
    torch.testing.assert_close(weights[1].detach(), before - 1.0)  # the first update is the rate, whatever the gradient
