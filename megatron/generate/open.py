"""Opens what continues prompts: a model of ours at any layout that writes, or the optional back end."""

from __future__ import annotations

import torch

from megatron.checkpoint.folder import ModelFolder
from megatron.checkpoint.open import open_engine
from megatron.checkpoint.storage import LocalStorage
from megatron.config.layout import Layout
from megatron.config.schema import ParallelConfig
from megatron.generate.prompts import Writer
from megatron.generate.vllm import VLLMWriter
from megatron.generate.writer import TextWriter
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import Peers, World


def open_writer(
    folder: ModelFolder, *, world: World, peers: Peers, dtype: torch.dtype, tensor: int = 1, batch_size: int = 16
) -> TextWriter:
    """Return a model of ours; every process calls this.

    Args:
        folder: what :func:`megatron.checkpoint.folder.open_folder` has returned.
        world: all processes.
        peers: the same processes.
        dtype: to compute in, and to keep the weights in.
        tensor: how many processes divide every matrix; as many groups of them as there are write different texts.
        batch_size: most texts that one process writes at a time.

    Raises:
        ValueError: the weights are damaged, or cannot be divided so.
    """
    mesh = Mesh(Layout.of(ParallelConfig(model_parallel_size=tensor), processes=world.size), world)
    engine = open_engine(folder, mesh=mesh, peers=peers, execution=Execution(dtype))
    return TextWriter(
        engine, folder.tokenizer, first_id=folder.first_id, end_ids=folder.end_ids, batch_size=batch_size
    )


def open_vllm_writer(folder: ModelFolder, *, world: World, dtype: torch.dtype, num_gpus: int = 1) -> Writer:
    """Return the same model in vLLM, which starts the processes that it divides a model among itself.

    Args:
        folder: of a Hugging Face model on this machine.
        world: this process, alone.
        dtype: to compute in.
        num_gpus: how many GPUs divide the model.

    Raises:
        ValueError: vLLM is not installed, there are several processes, or the model is a checkpoint.
    """
    place, problems = folder.place, []
    if world.size > 1:
        problems.append(
            f"there are {world.size} processes, but vLLM starts its own: start one, with --tensor {world.size}"
        )
    if folder.step is not None or not isinstance(place, LocalStorage):
        problems.append(
            f"{place} is a checkpoint, but vLLM reads Hugging Face folders: make one with "
            "tools/convert_checkpoint.py --from native --to hf"
        )
    if problems or not isinstance(place, LocalStorage):
        raise ValueError("; ".join(problems))
    return VLLMWriter(
        place.path,
        first_id=folder.first_id,
        end_ids=folder.end_ids,
        dtype=str(dtype).removeprefix("torch."),
        num_gpus=num_gpus,
    )
