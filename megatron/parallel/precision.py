"""Computes in one dtype while the parameters stay in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.func import functional_call

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
    if dtype == torch.float32 or isinstance(model, FSDPModule):  # the latter gathers its weights in its own dtype
        out: Tensor = model(*args, **kwargs)
        return out
    cast = {
        name: parameter if name == "lm_head.weight" else parameter.to(dtype)
        for name, parameter in model.named_parameters()
    }
    result: Tensor = functional_call(model, cast, args, kwargs)
    return result
