"""Processes that train a model with an extended vocabulary, from its Hugging Face folder; see test_extended.py."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from layouts import whole

from megatron.config.layout import Layout
from megatron.config.schema import ModelConfig
from megatron.model.micro_batch import MicroBatch
from megatron.optim.adamw import build_adamw
from megatron.parallel.engine import Engine
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import World
from megatron.train.build import build_model
from megatron.train.step import TrainStep

WIDTH, STEPS = 16, 3


def trained(layout: Layout, world: World, folder: Path, *, vocab_size: int, first_new: int) -> dict[str, object]:
    """Train a few steps on tokens of which half are new; return the losses, and the two matrices of the vocabulary."""
    mesh, execution = Mesh(layout, world), Execution()
    stages = build_model(
        ModelConfig(hf_model=str(folder)), vocab_size=vocab_size, seed=0, mesh=mesh, execution=execution,
        seq_length=WIDTH,
    )  # fmt: skip
    engine = Engine(stages, mesh, execution=execution, shape=(2, WIDTH), micro_batches=1)
    optimizer = build_adamw(engine.model, learning_rate=3e-3, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1)
    step = TrainStep(
        engine=engine, optimizer=optimizer, learning_rate=lambda _: 3e-3, max_gradient_norm=1.0, num_groups=1
    )
    losses = []
    for number in range(STEPS):
        generator = torch.Generator().manual_seed(number)
        tokens = torch.randint(first_new, vocab_size, (2, WIDTH + 1), generator=generator)
        old = torch.rand(tokens.shape, generator=generator) < 0.5
        tokens = torch.where(old, tokens % first_new, tokens)
        batch = MicroBatch(tokens[:, :-1], tokens[:, 1:].contiguous(), None, None, torch.zeros(2, dtype=torch.int64))
        losses.append(step([batch], step=number).loss)
    weights = {name: whole(weight) for name, weight in engine.model.named_parameters() if weight.shape[0] >= vocab_size}
    return {"losses": torch.tensor(losses), "weights": weights}


def work(rank: int, size: int, folder: str, vocab_size: int, first_new: int) -> None:
    """Train in one of the processes that divide every matrix; the first writes what came out."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store-{size}", rank=rank, world_size=size)
    world = World(rank=rank, size=size, device=torch.device("cpu"))
    model = Path(folder) / "model"
    found = trained(Layout(tensor=size), world, model, vocab_size=vocab_size, first_new=first_new)
    if rank == 0:
        torch.save(found, Path(folder) / f"{size}.pt")
    dist.destroy_process_group()
