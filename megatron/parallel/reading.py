"""Weights made ready for many small passes without gradients, such as those that write text.

Each pass then reads the weights once and does nothing else with them: they are whole, in the dtype to compute in, and
on a CPU laid out as its matrix products for a few tokens like them best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from megatron.model.llama import Llama
from megatron.parallel.sharding import release


@contextmanager
def kept_whole(model: Llama, *, stage: int) -> Iterator[None]:
    """Let a model that ``fully_shard`` has divided keep the weights that its next pass gathers, as long as this lasts.

    Args:
        model: changed in place; one that is not divided so is left alone.
        stage: that of its layout.
    """
    blocks = [block for block in model.model.layers.values() if isinstance(block, FSDPModule)]
    try:
        for block in blocks:
            block.set_reshard_after_forward(False)
        yield
    finally:
        for block in blocks:
            block.set_reshard_after_forward(stage == 3)
        release(model)


@contextmanager
def cast(model: Llama, dtype: torch.dtype) -> Iterator[None]:
    """Put copies in ``dtype`` in the place of a model's parameters, as long as this lasts."""
    own = [
        (module, name, parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.dtype != dtype
    ]
    try:
        for module, name, parameter in own:
            module.register_parameter(name, nn.Parameter(parameter.detach().to(dtype), requires_grad=False))
        yield
    finally:
        for module, name, parameter in own:
            module.register_parameter(name, parameter)


@contextmanager
def packed(model: Llama) -> Iterator[None]:
    """Let a whole model on a CPU multiply by copies of its matrices in oneDNN's own layout, as long as this lasts.

    Products with a few rows are memory-bound, and two to four times as fast so (docs/performance.md). A machine without
    the memory for the copies, or a PyTorch without the operation, goes on as before.
    """
    product = _packed_product(model.head_weight.dtype)
    matrices = [module for module in model.modules() if isinstance(module, nn.Linear)]
    weights = {id(weight): weight for weight in (*(matrix.weight for matrix in matrices), model.head_weight)}
    if product is None or not _fits(sum(weight.nbytes for weight in weights.values())):
        yield
        return
    plain = model.logits
    try:
        for matrix in matrices:
            if matrix is not model.lm_head:
                matrix.forward = _Packed(matrix.weight, product)  # type: ignore[method-assign, assignment]
        head = _Packed(model.head_weight, product)
        model.logits = lambda hidden, weight, at: head(hidden if at is None else hidden[:, at])
        yield
    finally:
        model.logits = plain
        for matrix in matrices:
            vars(matrix).pop("forward", None)


Product = tuple[Callable[..., Tensor], Callable[..., Tensor]]
"""What lays out a matrix, and what multiplies by one."""


def _packed_product(dtype: torch.dtype) -> Product | None:
    """Return the operations that PyTorch's own compiler uses for frozen weights, where this build and CPU have them."""
    try:
        operations = torch.ops.mkldnn
        able = dtype == torch.float32 or (dtype == torch.bfloat16 and operations._is_mkldnn_bf16_supported())
        both = operations._reorder_linear_weight.default, operations._linear_pointwise.default
    except AttributeError:
        return None
    return both if able else None


class _Packed:
    """Stands for the ``forward`` of a linear layer without a bias."""

    def __init__(self, weight: Tensor, product: Product) -> None:
        lay_out, self._multiply = product
        self._weight = lay_out(weight.detach())
        self._nothing: list[Any] = []

    def __call__(self, x: Tensor) -> Tensor:
        return self._multiply(x, self._weight, None, "none", self._nothing, "")


def _fits(num_bytes: int) -> bool:
    """Whether the machine has twice this much memory to spare; True where it does not tell (it is Linux that does)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return True
    return 2 * num_bytes < available
