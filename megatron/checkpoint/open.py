"""Opens a trained model at any layout: each process reads its own part of the weights."""

from __future__ import annotations

from megatron.checkpoint.folder import ModelFolder
from megatron.checkpoint.store import CheckpointError
from megatron.config.layout import shape_problems
from megatron.config.schema import ParallelConfig
from megatron.parallel.build import build_stages
from megatron.parallel.engine import Engine
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import Peers


def open_engine(
    folder: ModelFolder, *, mesh: Mesh, peers: Peers, execution: Execution, seq_length: int = 4096
) -> Engine:
    """Return the engine of a trained model that is to be read, not trained; every process of the layout calls this.

    Weights are kept in the dtype that is computed in.

    Args:
        folder: what :func:`megatron.checkpoint.folder.open_folder` has returned.
        mesh: how the processes divide the model.
        peers: the same processes.
        execution: how each of them computes its part.
        seq_length: tokens of a usual sequence, which says what the stages of a pipeline cost.

    Raises:
        ValueError: the weights are damaged, or cannot be divided so; lists every size that does not go.
    """
    asked = ParallelConfig(model_parallel_size=mesh.layout.tensor)
    if problems := list(shape_problems(asked, folder.architecture, seq_length=seq_length)):
        raise CheckpointError("\n".join(problems))
    stages = build_stages(folder.architecture, mesh, execution, seq_length=seq_length, dtype=execution.dtype)
    engine = Engine(stages, mesh, execution=execution, shape=(1, 1), micro_batches=1)
    folder.load_into(engine.model.eval(), peers=peers)
    return engine
