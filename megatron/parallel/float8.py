"""Matrix products in 8-bit floating point (Micikevicius et al., arXiv 2209.05433), made by torchao.

The seven matrices of every block are multiplied so, forward and backward. Their operands are scaled and rounded anew
for each product: weights, what is kept for the backward pass, and results stay in the dtype to compute in.
"""

from __future__ import annotations

import dataclasses
import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megatron.config.float8_rules import TORCHAO, side_problems
from megatron.model.layers import Block
from megatron.model.llama import Llama


def use_float8(model: Llama, recipe: str, *, emulate: bool = False) -> None:
    """Let the matrices of all blocks be multiplied in 8 bits where gradients are asked for.

    Passes without gradients go on in the dtype to compute in: scores are those of the model as it will be used, rows
    may have any length, and nothing has to be compiled to be fast. Names and dtypes of the parameters stay.

    Args:
        model: changed in place; its matrices, which nobody has divided, get other modules.
        recipe: one of torchao's: ``tensorwise``, ``rowwise`` or ``rowwise_with_gw_hp``.
        emulate: compute on rounded operands in their own dtype, for machines without such products.

    Raises:
        ValueError: torchao is not installed, or matrices have sides that the products do not take.
    """
    problems = list(side_problems(model.architecture))
    if problems:
        raise ValueError("\n".join(problems))
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    except ImportError as error:
        raise ValueError(f"fp8 needs torchao, which cannot be imported ({error}): {TORCHAO}") from None

    config = dataclasses.replace(Float8LinearConfig.from_recipe_name(recipe), emulate=emulate)
    for block in model.model.layers.values():
        assert isinstance(block, Block)
        convert_to_float8_training(block, config=config)
        for matrix in block.modules():
            if isinstance(matrix, nn.Linear):
                matrix.__class__ = _matrix_class()


@functools.cache
def _matrix_class() -> type[nn.Linear]:
    """Return the class of all matrices: one class, and no ``forward`` of their own, is one compilation for all."""
    from torchao.float8.float8_linear import Float8Linear

    class Float8Matrix(Float8Linear):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = super().forward(x) if torch.is_grad_enabled() else F.linear(x, self.weight)
            return out

    return Float8Matrix


def check_float8(device: torch.device) -> None:
    """Refuse a device that has no products in 8 bits.

    Raises:
        ValueError: it says which devices have them.
    """
    name = "the CPU" if device.type == "cpu" else device.type
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, is_amd = properties.name, torch.version.hip is not None
        if has_float8((properties.major, properties.minor), properties.gcnArchName if is_amd else None):
            return
    raise ValueError(
        f"fp8 is set, but {name} has no matrix products in 8 bits: they need an NVIDIA GPU of compute capability 8.9 "
        "or higher (H100, H200, B200, L40), or an AMD GPU from MI300 on. Remove `fp8`."
    )


def has_float8(capability: tuple[int, int], architecture: str | None) -> bool:
    """Return whether PyTorch has products in 8 bits for a GPU.

    Args:
        capability: of NVIDIA's GPU, such as (9, 0).
        architecture: of AMD's GPU instead, such as ``gfx942:sramecc+:xnack-``.
    """
    return capability >= (8, 9) if architecture is None else architecture.startswith(("gfx94", "gfx95"))
