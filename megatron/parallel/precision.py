"""Computes in one dtype while the parameters stay in float32."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.func import functional_call

from megatron.parallel.parts import local

_DTYPES = {"fp32": torch.float32, "bfloat16": torch.bfloat16}


def compute_dtype(precision: str) -> torch.dtype:
    """Return the dtype of the ``precision`` key: ``fp32`` or ``bfloat16``."""
    return _DTYPES[precision]


def call_in(dtype: torch.dtype, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
    """Call ``model`` with its weights cast to ``dtype``; gradients arrive at the float32 parameters in float32.

    Unlike autocast, the whole forward pass is in ``dtype``, the residual stream included, which is what sharded mixed
    precision (``MixedPrecisionPolicy``) does as well. A separate output matrix stays as it is: the loss casts it and
    hands its gradient back in float32.
    """
    if _computes_in(dtype, model):
        out: Tensor = model(*args, **kwargs)
        return out
    cast = {
        name: parameter if name == _HEAD else parameter.to(dtype) for name, parameter in model.named_parameters()
    }
    result: Tensor = functional_call(model, cast, args, kwargs)
    return result


class StepCalls:
    """Calls a model as :func:`call_in` does, for the passes of one step: weights are cast for all of them but the last.

    For a model of 7B parameters casting takes as much time as reading 40 GB, and adding gradients up as parts of the
    graph, which first makes float32 copies of them, as reading 120 GB instead of 68: for each micro-batch. The last
    pass casts anew, because only copies that nobody keeps make room for gradients while its backward pass goes on.

    Args:
        dtype: dtype to compute in.
        model: whose weights do not change between the calls.
    """

    def __init__(self, dtype: torch.dtype, model: nn.Module) -> None:
        self._dtype, self._model = dtype, model
        self._cast: dict[str, Tensor] = {}

    def __call__(self, *args: Any, last: bool, **kwargs: Any) -> Tensor:
        """Call the model; ``last`` says that no other call follows."""
        if last or _computes_in(self._dtype, self._model):
            self._cast = {}
            return call_in(self._dtype, self._model, *args, **kwargs)
        self._cast = self._cast or {name: self._lent(name, weight) for name, weight in self._model.named_parameters()}
        result: Tensor = functional_call(self._model, self._cast, args, kwargs)
        return result

    def _lent(self, name: str, weight: nn.Parameter) -> Tensor:
        if name == _HEAD:
            return weight
        copy = weight.detach().to(self._dtype)
        if weight.requires_grad:
            copy.requires_grad_().register_post_accumulate_grad_hook(functools.partial(_hand_over, weight))
        return copy


_HEAD = "lm_head.weight"


def _computes_in(dtype: torch.dtype, model: nn.Module) -> bool:
    return dtype == torch.float32 or isinstance(model, FSDPModule)  # the latter gathers its weights in its own dtype


@torch.no_grad()
def _hand_over(parameter: nn.Parameter, copy: Tensor) -> None:
    """Add the gradient of a parameter's copy to its own, as soon as it is there."""
    gradient, copy.grad = copy.grad, None
    assert gradient is not None
    if parameter.grad is None:
        parameter.grad = gradient.to(parameter.dtype)
    else:
        local(parameter.grad).add_(local(gradient))
