"""Divides a model among data-parallel processes: ZeRO 1, 2 and 3 as policies of PyTorch's ``fully_shard``.

Every stage keeps its part of the weights, in float32, and of the optimizer's state in each process. The stages differ
in what lives between the micro-batches of a step:

===== ======================== ================================ =====================================================
stage whole weights            whole gradients                  communication
===== ======================== ================================ =====================================================
1     until the step's end     until the step's end             weights and gradients once a step
2     until the step's end     one block's, while it is made    weights once a step, gradients each micro-batch
3     one block's, while used  one block's, while it is made    weights twice and gradients once, each micro-batch
===== ======================== ================================ =====================================================

Where there are several copies of the model (hybrid sharding), their gradients are added up once a step.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from megatron.model.llama import Llama
from megatron.parallel.mesh import Mesh


def shard(model: Llama, mesh: Mesh, *, dtype: torch.dtype) -> None:
    """Divide the parameters of a model, or of a stage of it, which may be on the meta device.

    Blocks are gathered one by one, the embeddings and the last norm with the whole model. Gradients are added up in
    float32, as sums: nobody divides by the number of processes.

    Args:
        model: changed in place.
        mesh: of a layout with a stage above 0.
        dtype: dtype to compute in; the parts themselves keep theirs.
    """
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    gather_anew = mesh.layout.stage == 3
    for block in model.model.layers.values():
        fully_shard(block, mesh=mesh.shard_mesh, mp_policy=policy, reshard_after_forward=gather_anew)
    # Nothing is won by dropping what the backward pass begins with.
    fully_shard(model, mesh=mesh.shard_mesh, mp_policy=policy, reshard_after_forward=False)
    for module in _sharded(model):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo knows no other way to multiply by 1


def begin_micro_batch(model: nn.Module, *, stage: int, last: bool) -> None:
    """Say what the next forward and backward pass of a divided model does with weights and gradients.

    Args:
        model: any; one that is whole is left alone.
        stage: that of its layout.
        last: whether the pass is the last of its step.
    """
    if not isinstance(model, FSDPModule):
        return
    model.set_requires_gradient_sync(last or stage > 1)
    model.set_requires_all_reduce(last)
    model.set_reshard_after_backward(last or stage == 3)


def release(model: nn.Module) -> None:
    """Drop the whole weights that a forward pass without a backward pass has left in each process."""
    for module in _sharded(model):
        module.reshard()


def _sharded(model: nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]
