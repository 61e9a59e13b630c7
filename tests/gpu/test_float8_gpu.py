"""Products in 8 bits on a GPU that has them: gradients near those of bfloat16, compiled or not."""

from __future__ import annotations

import pytest
import torch

from megatron.config.architecture import Architecture
from megatron.config.float8_rules import TORCHAO
from megatron.config.layout import Layout
from megatron.model.llama import Llama
from megatron.parallel.float8 import has_float8
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution, parallelize
from megatron.parallel.precision import call_in
from megatron.parallel.process import World


def able() -> bool:
    if not torch.cuda.is_available():
        return False
    properties = torch.cuda.get_device_properties(0)
    is_amd = torch.version.hip is not None
    return has_float8((properties.major, properties.minor), properties.gcnArchName if is_amd else None)


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not able(), reason="needs a GPU with products in 8 bits")]
SHAPE = Architecture(8_000, 1024, 2_816, 2, 8, 4, 128, 1024)


@pytest.fixture(autouse=True)
def torchao() -> None:
    pytest.importorskip("torchao", reason=f"needs torchao: {TORCHAO}")


def gradients(recipe: str | None, *, compiled: bool) -> dict[str, torch.Tensor]:
    device = torch.device("cuda")
    execution = Execution(torch.bfloat16, "selective", compiled, recipe)
    mesh = Mesh(Layout(), World(rank=0, size=1, device=device))
    torch.compiler.reset()
    model = Llama.empty(SHAPE, device=device, prepare=lambda model: parallelize(model, mesh, execution))
    model.init_weights(seed=0)
    tokens = torch.randint(0, 8_000, (2, 1024), generator=torch.Generator().manual_seed(0)).to(device)
    for _ in range(2):  # the second has memory of the first
        model.zero_grad()
        call_in(torch.bfloat16, model, tokens, targets=tokens.roll(-1, 1)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("recipe", ["tensorwise", "rowwise", "rowwise_with_gw_hp"])
def test_gradients_are_near_those_of_bfloat16(recipe: str, compiled: bool) -> None:
    wanted, found = gradients(None, compiled=False), gradients(recipe, compiled=compiled)
    assert found.keys() == wanted.keys()
    errors = {name: float((found[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted}
    assert max(errors.values()) < 0.2, errors
    assert min(error for name, error in errors.items() if name.endswith("_proj.weight")) > 0.01  # they were used
