"""Tensor parallelism (Shoeybi et al., arXiv 1909.08053): every matrix divided among processes, by PyTorch's DTensor.

With sequence parallelism (Korthikanti et al., arXiv 2205.05198) what lies between the matrices is divided as well,
along the sequence: an all-gather before the matrices and a reduce-scatter after them take the place of an all-reduce,
with the same bytes and less memory.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from megatron.model.llama import Llama
from megatron.parallel.mesh import Mesh
from megatron.parallel.vocabulary import VocabularyEmbedding, VocabularyLogits, VocabularyLoss


def divide_matrices(model: Llama, mesh: Mesh, *, compiled: bool) -> None:
    """Divide every matrix of a model, or of a stage of it, which may be on the meta device; blocks by whole heads.

    Args:
        model: changed in place, before it is divided otherwise.
        mesh: with more than one process on the ``tensor`` axis.
        compiled: whether blocks will be compiled.
    """
    sequence = mesh.layout.sequence
    between = Shard(1) if sequence else Replicate()
    block: dict[str, ParallelStyle] = {
        "self_attn": PrepareModuleInput(
            input_layouts=(between, None, None, None, None),
            desired_input_layouts=(Replicate(), None, None, None, None),
        ),
        "self_attn.q_proj": ColwiseParallel(),
        "self_attn.k_proj": ColwiseParallel(),
        "self_attn.v_proj": ColwiseParallel(),
        "self_attn.o_proj": RowwiseParallel(output_layouts=between),
        "mlp": PrepareModuleInput(input_layouts=(between,), desired_input_layouts=(Replicate(),)),
        "mlp.gate_proj": ColwiseParallel(),
        "mlp.up_proj": ColwiseParallel(),
        "mlp.down_proj": RowwiseParallel(output_layouts=between),
    }
    if sequence:
        block |= {"input_layernorm": SequenceParallel(), "post_attention_layernorm": SequenceParallel()}
        if model.model.norm is not None:
            parallelize_module(model.model.norm, mesh.tensor_mesh, SequenceParallel(use_local_output=True))
    for layer in model.model.layers.values():
        parallelize_module(layer, mesh.tensor_mesh, block)
        if compiled:
            layer.get_submodule("self_attn").register_forward_hook(_arrived)
    for matrix in (model.model.embed_tokens, model.lm_head):
        if matrix is not None:
            distribute_module(matrix, mesh.tensor_mesh, _divide_rows)
    if (embedding := model.model.embed_tokens) is not None:
        forward = VocabularyEmbedding(embedding, mesh.tensor, sequence=sequence)
        embedding.forward = forward  # type: ignore[method-assign, assignment]
    model.loss = VocabularyLoss(mesh.tensor, sequence=sequence)
    model.logits = VocabularyLogits(mesh.tensor, sequence=sequence)


_BY_ROWS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "embed_tokens", "lm_head")
_BY_COLUMNS = ("o_proj", "down_proj")


def divided_dim(name: str) -> int | None:
    """Return the dimension along which :func:`divide_matrices` divides a parameter, None where it does not."""
    module = name.removesuffix(".weight").rpartition(".")[2]
    return 0 if module in _BY_ROWS else 1 if module in _BY_COLUMNS else None


def _divide_rows(name: str, module: nn.Module, mesh: DeviceMesh) -> None:
    for key, parameter in list(module.named_parameters(recurse=False)):
        module.register_parameter(key, nn.Parameter(distribute_tensor(parameter, mesh, [Shard(0)])))


def _arrived(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """Wait for a result of all processes: compiled code that is handed one still under way loses its gradient.

    Attention is not compiled where there is a pattern.
    """
    return output.clone()
