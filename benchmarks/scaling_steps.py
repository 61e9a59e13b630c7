"""The sides of ``scaling.py``: a step of a small Llama on every layout, and as PyTorch alone would make it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from megatron.config.schema import ModelConfig
from megatron.model.llama import Llama
from megatron.model.micro_batch import MicroBatch
from megatron.optim.adamw import build_adamw
from megatron.parallel.context import own_context
from megatron.parallel.engine import Engine
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import World
from megatron.simulate.run import Run
from megatron.train.build import build_model
from megatron.train.step import TrainStep

NARROW = Architecture(
    vocab_size=1_024, hidden_size=128, intermediate_size=352, num_hidden_layers=16, num_attention_heads=8,
    num_key_value_heads=8, head_dim=16, max_position_embeddings=256,
)  # fmt: skip
WIDE = dataclasses.replace(NARROW, hidden_size=1_024, intermediate_size=2_816, num_hidden_layers=4, head_dim=128)
"""Where a message has little in it, and where its bytes and the products count."""
WIDTH, MICRO_BATCHES, RATE = 128, 2, 1e-4
"""A process has so many rows of ``WIDTH`` tokens a step."""

LAYOUTS: Mapping[str, Callable[[int], Layout]] = MappingProxyType(
    {
        "replicas": lambda n: Layout(replicas=n),
        "zero 1": lambda n: Layout(1, shards=n),
        "zero 2": lambda n: Layout(2, shards=n),
        "zero 3": lambda n: Layout(3, shards=n),
        "zero 3 hybrid": lambda n: Layout(3, shards=n // 2, replicas=2),
        "tensor": lambda n: Layout(tensor=n),
        "tensor, sequence": lambda n: Layout(tensor=n, sequence=True),
        "pipeline 1f1b": lambda n: Layout(pipeline=n),
        "pipeline interleaved": lambda n: Layout(pipeline=n, chunks=2, schedule="interleaved"),
        "context": lambda n: Layout(context=n),
    }
)
Step = Callable[[], object]


def fits(layout: Layout, shape: Architecture) -> bool:
    """Return whether there is something to divide: a block for each stage of a pipeline, parts for ZeRO."""
    return layout.stages <= shape.num_hidden_layers and (layout.stage == 0 or layout.shards > 1)


def run_of(layout: Layout, shape: Architecture) -> Run:
    """Return a step with ``MICRO_BATCHES`` rows for each process: more rows at a time, or for a pipeline more times."""
    return Run(
        shape, layout, WIDTH, micro_size=layout.tensor * layout.context,
        accumulation_steps=MICRO_BATCHES * layout.pipeline, train_iters=1, element_bytes=4,
    )  # fmt: skip


def our_step(layout: Layout, world: World, shape: Architecture) -> Step:
    """Return a training step of this project on random tokens."""
    run, mesh, execution = run_of(layout, shape), Mesh(layout, world), Execution()
    section = ModelConfig(
        num_layers=shape.num_hidden_layers, hidden_size=shape.hidden_size, intermediate_size=shape.intermediate_size,
        num_attention_heads=shape.num_attention_heads, num_kv_heads=shape.num_key_value_heads,
        vocab_size=shape.vocab_size, max_position_embeddings=shape.max_position_embeddings,
    )  # fmt: skip
    stages = build_model(
        section, vocab_size=shape.vocab_size, seed=0, mesh=mesh, execution=execution, seq_length=WIDTH
    )
    engine = Engine(
        stages, mesh, execution=execution, shape=(run.micro_size, WIDTH // layout.context),
        micro_batches=run.accumulation_steps,
    )  # fmt: skip
    step = TrainStep(
        engine=engine, optimizer=optimizer_of(engine.model), learning_rate=lambda _: RATE, max_gradient_norm=1.0
    )
    micro_batches = [own_context(batch, mesh.context) for batch in batches(run, mesh.data.rank)]
    return lambda: step(micro_batches, step=0)


def peer_step(parallel: Callable[[Llama], nn.Module], shape: Architecture) -> Step:
    """Return the same step as a short loop makes it around the same model, which ``parallel`` has wrapped."""
    plain = Llama(shape)
    plain.init_weights(seed=0)
    model = parallel(plain)
    optimizer, micro_batches = optimizer_of(model), batches(run_of(Layout(), shape), dist.get_rank())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for number, batch in enumerate(micro_batches, start=1):
            if isinstance(model, DistributedDataParallel):
                model.require_backward_grad_sync = number == len(micro_batches)  # what no_sync() sets
            loss = model(batch.inputs, targets=batch.targets) / (MICRO_BATCHES * WIDTH)
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def plain_fsdp(model: Llama) -> nn.Module:
    """Divide a model as PyTorch's tutorial does."""
    for module in (*model.model.layers.values(), model):
        fully_shard(module)
        assert isinstance(module, FSDPModule)
        module.set_force_sum_reduction_for_comms(True)  # gloo does not know averages
    return model


PEERS: Mapping[str, tuple[str, Callable[[Llama], nn.Module]]] = MappingProxyType(
    {"replicas": ("DDP", DistributedDataParallel), "zero 3": ("fully_shard", plain_fsdp)}
)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """Return the same optimizer for all sides."""
    return build_adamw(model, learning_rate=RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)


def batches(run: Run, seed: int) -> list[MicroBatch]:
    """Return random micro-batches of a step."""
    size = (run.accumulation_steps, run.micro_size, WIDTH + 1)
    tokens = torch.randint(0, run.shape.vocab_size, size, generator=torch.Generator().manual_seed(seed))
    return [MicroBatch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous()) for rows in tokens]
