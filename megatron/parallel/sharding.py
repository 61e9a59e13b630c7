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

import datetime
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from megatron.config.layout import Layout
from megatron.model.llama import Llama
from megatron.parallel.process import World


def shard(model: Llama, layout: Layout, world: World, *, dtype: torch.dtype) -> None:
    """Divide the parameters of a model, which may be on the meta device; every process must call this.

    Blocks are gathered one by one, the embeddings and the last norm with the whole model. Gradients are added up in
    float32, as sums: nobody divides by the number of processes.

    Args:
        model: changed in place.
        layout: with a stage above 0.
        world: the processes.
        dtype: dtype to compute in; the parts themselves keep theirs.
    """
    mesh = _mesh(layout, world)
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    gather_anew = layout.stage == 3
    for block in model.model.layers.values():
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=gather_anew)
    # Nothing is won by dropping what the backward pass begins with.
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    for module in _sharded(model):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo knows no other way to multiply by 1


def _mesh(layout: Layout, world: World) -> DeviceMesh:
    if layout.replicas == 1:
        return init_device_mesh(world.device.type, (layout.shards,), mesh_dim_names=("shard",))
    ranks = torch.arange(world.size).view(layout.replicas, layout.shards)
    # Not init_device_mesh, whose groups would wait for as long as PyTorch likes and not as long as the run's.
    groups = [_group_of(world, members) for members in (ranks.t().tolist(), ranks.tolist())]
    return DeviceMesh.from_group(groups, world.device.type, mesh=ranks, mesh_dim_names=("replica", "shard"))


def _group_of(world: World, members: Sequence[Sequence[int]]) -> dist.ProcessGroup:
    """Make a process group of each list of ranks, in every process, and return the one that this process is in."""
    timeout = datetime.timedelta(minutes=world.timeout_minutes)
    groups: list[dist.ProcessGroup] = [dist.new_group(list(ranks), timeout=timeout) for ranks in members]
    mine = next(number for number, ranks in enumerate(members) if world.rank in ranks)
    return groups[mine]


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
