"""Makes a process's part of a model, without weights."""

from __future__ import annotations

import torch

from megatron.config.architecture import Architecture
from megatron.config.layout import stage_layers
from megatron.model.llama import Llama
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution, parallelize
from megatron.parallel.pipeline import own_stages, take_stage


def build_stages(
    architecture: Architecture,
    mesh: Mesh,
    execution: Execution,
    *,
    seq_length: int,
    dtype: torch.dtype = torch.float32,
) -> list[Llama]:
    """Return the stages of a model's pipeline that belong to this process, the whole model where there is no pipeline.

    Args:
        architecture: shape of the whole model.
        mesh: how the processes divide it.
        execution: how each of them computes its part.
        seq_length: tokens of a sequence, for the cost of a block.
        dtype: of the weights, which are still to be filled.

    Raises:
        ValueError: the vocabulary cannot be divided so.
    """
    tensor = mesh.layout.tensor
    if architecture.vocab_size % tensor:
        raise ValueError(
            f"model_parallel_size = {tensor} does not divide vocab_size = {architecture.vocab_size}. "
            "Change model_parallel_size, or set a larger vocab_size that is a multiple of it."
        )
    layers = stage_layers(architecture, stages=mesh.layout.stages, seq_length=seq_length)

    def stage(number: int) -> Llama:
        def prepare(model: Llama) -> None:
            for parameter in model.parameters():
                parameter.data = parameter.data.to(dtype)
            take_stage(model, layers[number], first=number == 0, last=number == len(layers) - 1)
            parallelize(model, mesh, execution)

        return Llama.empty(architecture, device=mesh.world.device, prepare=prepare)

    return [stage(number) for number in own_stages(mesh)]
