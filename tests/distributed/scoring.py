"""What the processes of ``test_scoring.py`` do: ask one layout after the other how likely labels are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from layouts import EVEN, VOCABULARY, device_of
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from megatron.config.layout import Layout
from megatron.config.schema import ModelConfig
from megatron.evaluation.engine_model import EngineModel
from megatron.evaluation.language_model import Request
from megatron.parallel.engine import Engine
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import World
from megatron.train.build import build_model

POSITIONS = 40
LABELS = [[5], [6], [7, 8], [7, 9, 10]]
REQUESTS = [
    *(Request([*range(11 + item, 30 + 2 * item)], label) for item in range(5) for label in LABELS),
    Request([], [3, 4]),
    Request([], [*range(3, 60)]),  # more than a window
]


def likelihoods(layout: Layout, world: World, *, compiled: bool, together: bool) -> list[tuple[float, bool]]:
    """Return how likely all continuations are, asked for together or one after the other."""
    section = ModelConfig(**{**EVEN, "max_position_embeddings": POSITIONS}, init_method_std=0.3)
    mesh, execution = Mesh(layout, world), Execution(compiled=compiled)
    stages = build_model(section, vocab_size=VOCABULARY, seed=3, mesh=mesh, execution=execution, seq_length=POSITIONS)
    engine = Engine(stages, mesh, execution=execution, shape=(1, POSITIONS), micro_batches=layout.pipeline)
    tokenizer: Any = None
    model = EngineModel(engine, tokenizer, first_id=1, end_ids=[2], batch_tokens=90)
    calls = [REQUESTS] if together else [[request] for request in REQUESTS]
    found = [(answer.nats, answer.is_greedy) for call in calls for answer in model.likelihoods(call)]
    blocks = [block for block in engine.model.model.layers.values() if isinstance(block, FSDPModule)]
    assert all(isinstance(weight, DTensor) for block in blocks for weight in block.parameters())  # none left whole
    return found


def work(rank: int, size: int, folder: str, cases: dict[str, tuple[Layout, bool]]) -> None:
    """Ask every layout in one of ``size`` processes; each keeps the answers."""
    torch.set_num_threads(1)
    device = device_of(rank, size)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=rank, world_size=size)
    world = World(rank=rank, size=size, device=device)
    for name, (layout, compiled) in cases.items():
        found = likelihoods(layout, world, compiled=compiled, together=True)
        torch.save(found, Path(folder) / f"{name}-{rank}.pt")
    dist.destroy_process_group()
