"""What the processes of ``test_writing.py`` do: write texts on one layout after the other, and then train."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from layouts import EVEN, VOCABULARY, device_of
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from megatron.config.layout import Layout
from megatron.config.schema import ModelConfig
from megatron.generate.options import GenerationOptions
from megatron.generate.sampling import Sampling
from megatron.generate.writer import TextWriter
from megatron.model.micro_batch import MicroBatch
from megatron.optim.adamw import build_adamw
from megatron.parallel.engine import Engine
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import World
from megatron.train.build import build_model
from megatron.train.step import TrainStep

MAXIMUM_TOKENS, POSITIONS = 12, 40
PROMPTS = [[*range(3, 3 + length)] for length in (4, 0, 9, 1, 20, 2, 7)]
SAMPLINGS = {"greedy": Sampling(), "random": Sampling(temperature=1.0, top_p=0.95)}


def engine_of(layout: Layout, world: World, *, dtype: torch.dtype, compiled: bool) -> Engine:
    """Return the engine of a model with the same weights on every layout."""
    section = ModelConfig(**{**EVEN, "max_position_embeddings": POSITIONS}, init_method_std=0.3)
    mesh = Mesh(layout, world)
    execution = Execution(dtype, compiled=compiled)
    stages = build_model(section, vocab_size=VOCABULARY, seed=3, mesh=mesh, execution=execution, seq_length=POSITIONS)
    return Engine(stages, mesh, execution=execution, shape=(1, POSITIONS), micro_batches=layout.pipeline)


def written(engine: Engine) -> dict[str, Any]:
    """Return the texts of all prompts, and of fewer than there are processes, and the loss of a step after that."""
    writer = TextWriter(engine, None, first_id=1, end_ids=range(40, 46), batch_size=2)  # type: ignore[arg-type]
    texts: dict[str, Any] = {}
    for name, sampling in SAMPLINGS.items():
        options = GenerationOptions(MAXIMUM_TOKENS, sampling=sampling, seed=5)
        texts[name] = [text.tokens for text in writer.write_ids(PROMPTS, options)]
        texts[f"{name}, few"] = [text.tokens for text in writer.write_ids(PROMPTS[:1], options)]
    blocks = [block for block in engine.model.model.layers.values() if isinstance(block, FSDPModule)]
    assert all(isinstance(weight, DTensor) for block in blocks for weight in block.parameters())  # none left whole
    optimizer = build_adamw(engine.model, learning_rate=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    step = TrainStep(engine=engine, optimizer=optimizer, learning_rate=lambda _: 1e-3, max_gradient_norm=1.0)
    tokens = torch.arange(POSITIONS + 1, device=engine.mesh.world.device).unsqueeze(0) % VOCABULARY
    losses = [step([MicroBatch(tokens[:, :-1], tokens[:, 1:])], step=number).loss for number in range(2)]
    return {**texts, "losses": losses}


@dataclasses.dataclass(frozen=True)
class Case:
    """A layout, and how it computes."""

    layout: Layout
    dtype: torch.dtype = torch.float32
    compiled: bool = False


def work(rank: int, size: int, folder: str, cases: dict[str, Case], refused: list[Layout]) -> None:
    """Write on every layout in one of ``size`` processes; each keeps what came out."""
    torch.set_num_threads(1)
    device = device_of(rank, size)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=rank, world_size=size)
    world = World(rank=rank, size=size, device=device)
    for name, case in cases.items():
        engine = engine_of(case.layout, world, dtype=case.dtype, compiled=case.compiled)
        torch.save(written(engine), Path(folder) / f"{name}-{rank}.pt")
    for layout in refused:
        engine = engine_of(layout, world, dtype=torch.float32, compiled=False)
        try:
            TextWriter(engine, None, first_id=1, end_ids=[2], batch_size=0)  # type: ignore[arg-type]
        except ValueError as error:
            (Path(folder) / f"refused-{layout.pipeline}-{layout.context}-{rank}").write_text(str(error))
    dist.destroy_process_group()
