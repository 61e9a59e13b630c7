"""Everything that is done to a plain model, or to a stage of it, so that many processes can train it together."""

from __future__ import annotations

import dataclasses

import torch

from megatron.config.recomputation import Recomputation
from megatron.model.llama import Llama
from megatron.parallel.compile import compile_blocks
from megatron.parallel.float8 import use_float8
from megatron.parallel.mesh import Mesh
from megatron.parallel.recompute import recompute_activations
from megatron.parallel.sharding import shard
from megatron.parallel.tensor import divide_matrices


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a process computes its part.

    Attributes:
        dtype: dtype to compute in; parameters, their gradients' sums and the optimizer's state are float32.
        recomputation: as for :func:`megatron.parallel.recompute.recompute_activations`.
        compiled: whether every block is compiled.
        float8: a recipe of :func:`megatron.parallel.float8.use_float8`, or None.
    """

    dtype: torch.dtype = torch.float32
    recomputation: Recomputation = None
    compiled: bool = False
    float8: str | None = None


def parallelize(model: Llama, mesh: Mesh, execution: Execution) -> None:
    """Divide a model, or a stage of it, which may be on the meta device, among the processes of a layout.

    The order matters: recomputation and compilation work on whole blocks with what tensor parallelism has made of
    their matrices, and ``fully_shard`` gathers what the others have left. Products in 8 bits come with modules of their
    own, so they are there before anything looks at these; they do not go with tensor parallelism.
    """
    if execution.recomputation is not None:
        recompute_activations(model, execution.recomputation)
    if execution.float8 is not None:
        assert mesh.layout.tensor == 1  # the configuration's rules have refused it
        use_float8(model, execution.float8)
    if mesh.layout.tensor > 1:
        divide_matrices(model, mesh, compiled=execution.compiled)
    if execution.compiled:
        compile_blocks(model, recomputation=execution.recomputation)
    if mesh.layout.stage:
        shard(model, mesh, dtype=execution.dtype)
