from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from megatron.config.layout import Layout
from megatron.parallel import gradients
from megatron.parallel.gradients import sum_gradients
from megatron.parallel.mesh import Axis, Mesh
from megatron.parallel.process import World


class Doubling(Axis):
    """Two processes with the same gradients: a sum doubles. Remembers the sizes that were sent."""

    def sum(self, tensor: Tensor) -> Tensor:
        SENT.append(tensor.numel())
        return tensor.mul_(2)


SENT: list[int] = []


def doubling(processes: int) -> Mesh:
    mesh = Mesh(Layout(replicas=processes), World(rank=0, size=processes, device=torch.device("cpu")))
    mesh.copies = Doubling(tuple(range(processes)), 0)
    return mesh


@pytest.mark.parametrize("bucket", [1, 7, 10**6])
def test_every_gradient_is_summed_once_whatever_the_buckets(bucket: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "_BUCKET_ELEMENTS", bucket)
    SENT.clear()
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (1,), (5, 5))]
    for parameter in parameters[:3]:
        parameter.grad = torch.randn(parameter.shape)
    before = [parameter.grad.clone() for parameter in parameters[:3] if parameter.grad is not None]
    sum_gradients(parameters, doubling(2))
    assert sum(SENT) == 11 and max(SENT) <= max(bucket, 6)
    for parameter, old in zip(parameters[:3], before, strict=True):
        assert parameter.grad is not None and torch.equal(parameter.grad, 2 * old)
    assert parameters[3].grad is None


def test_alone_nothing_is_sent() -> None:
    SENT.clear()
    parameter = nn.Parameter(torch.zeros(3))
    parameter.grad = torch.ones(3)
    sum_gradients([parameter], doubling(1))
    assert SENT == [] and torch.equal(parameter.grad, torch.ones(3))
