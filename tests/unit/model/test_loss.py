from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from megatron.model import loss
from megatron.model.loss import IGNORE, linear_cross_entropy_each, linear_cross_entropy_sum


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(101, 24, generator=generator)
    weight = torch.randn(57, 24, generator=generator)
    targets = torch.randint(0, 57, (101,), generator=generator)
    targets[::7] = IGNORE
    return hidden, weight, targets


def reference(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    wide, head = hidden.double().requires_grad_(), weight.double().requires_grad_()
    total = functional.cross_entropy(wide @ head.t(), targets, ignore_index=IGNORE, reduction="sum")
    total.backward()
    assert wide.grad is not None and head.grad is not None
    return total.detach(), wide.grad, head.grad


@pytest.mark.parametrize("rows", [16, 50, 1000])
def test_equals_the_plain_form_in_float64(
    inputs: tuple[torch.Tensor, ...], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "chunk_rows", lambda vocabulary, device: rows)
    hidden, weight, targets = inputs
    expected, hidden_gradient, weight_gradient = reference(hidden, weight, targets)
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    total = linear_cross_entropy_sum(hidden, weight, targets)
    (total * 0.25).backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(hidden.grad, 0.25 * hidden_gradient.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weight.grad, 0.25 * weight_gradient.float(), rtol=1e-5, atol=1e-6)


def test_bfloat16_hidden_keeps_a_float32_weight_gradient(inputs: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, targets = inputs
    _, _, expected = reference(hidden.bfloat16(), weight.bfloat16(), targets)
    hidden, weight = hidden.bfloat16().requires_grad_(), weight.clone().requires_grad_()
    linear_cross_entropy_sum(hidden, weight, targets).backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32
    error = (weight.grad.double() - expected).norm() / expected.norm()
    assert error < 1e-2


def test_a_bfloat16_weight_is_summed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    # A tied embedding arrives in bfloat16. Summed over many pieces in bfloat16, small terms would be lost.
    monkeypatch.setattr(loss, "chunk_rows", lambda vocabulary, device: 16)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(4000, 16, generator=generator).bfloat16()
    weight = torch.randn(32, 16, generator=generator).bfloat16()
    targets = torch.randint(0, 4, (4000,), generator=generator)
    _, _, expected = reference(hidden, weight, targets)
    weight.requires_grad_()
    linear_cross_entropy_sum(hidden, weight, targets).backward()
    assert weight.grad is not None and weight.grad.dtype == torch.bfloat16
    assert (weight.grad.double() - expected).norm() / expected.norm() < 4e-3


def test_each_token_adds_up_to_the_sum(inputs: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, targets = inputs
    each, least = linear_cross_entropy_each(hidden, weight, targets).unbind(1)
    assert torch.all(each[targets == IGNORE] == 0)
    logits = (hidden @ weight.t()).double()
    torch.testing.assert_close(least.double(), -torch.log_softmax(logits, 1).amax(1), rtol=1e-5, atol=1e-6)
    assert each.sum().item() == pytest.approx(linear_cross_entropy_sum(hidden, weight, targets).item(), rel=1e-6)


def test_only_the_wanted_gradients_are_made(inputs: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, targets = inputs
    frozen = hidden.clone()
    weight = weight.clone().requires_grad_()
    linear_cross_entropy_sum(frozen, weight, targets).backward()
    assert frozen.grad is None and weight.grad is not None


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary() -> None:
    targets = torch.arange(8)
    each = linear_cross_entropy_each(torch.zeros(8, 4), torch.randn(64, 4), targets)
    assert each.flatten().tolist() == pytest.approx([4.1588831] * 16)


def test_large_logits_do_not_overflow() -> None:
    weight = torch.eye(4) * 1000
    total = linear_cross_entropy_sum(torch.eye(4), weight, torch.arange(4))
    assert total.item() == pytest.approx(0.0, abs=1e-6)
