"""What every process of a layout holds is what is told, to the byte: all of them are built, one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from megatron.config.architecture import Architecture
from megatron.config.derive import expected_architecture
from megatron.config.layout import Layout, stage_layers
from megatron.config.load import load
from megatron.config.schema import ModelConfig
from megatron.model.llama import Llama
from megatron.optim.adamw import build_adamw
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution, parallelize
from megatron.parallel.pipeline import joined, own_stages, take_stage
from megatron.parallel.process import World
from megatron.simulate.memory import memory_of
from megatron.simulate.run import Run

CONFIGS = Path(__file__).resolve().parents[3] / "configs"

EVEN = Architecture(
    vocab_size=68, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=8,
    num_key_value_heads=4, head_dim=4, max_position_embeddings=16,
)  # fmt: skip
TIED = dataclasses.replace(EVEN, tie_word_embeddings=True)
ODD = dataclasses.replace(EVEN, vocab_size=67, intermediate_size=50, num_attention_heads=6, num_key_value_heads=3)

CASES = {
    "one": (EVEN, Layout()),
    "replicas": (ODD, Layout(replicas=2)),
    **{f"zero{stage}-odd": (ODD, Layout(stage, shards=3)) for stage in (1, 2, 3)},
    "zero3-tied-more-processes-than-some-rows": (TIED, Layout(3, shards=40)),
    **{f"zero{stage}-hybrid": (ODD, Layout(stage, shards=2, replicas=2)) for stage in (1, 3)},
    "tensor2": (EVEN, Layout(tensor=2)),
    "tensor4-sequence-tied": (TIED, Layout(tensor=4, sequence=True)),
    "tensor2-zero3-odd": (EVEN, Layout(3, shards=5, tensor=2, sequence=True)),
    "context2": (ODD, Layout(context=2)),
    "context2-zero3-hybrid": (ODD, Layout(3, shards=1, replicas=2, context=2)),
    "pipeline3": (EVEN, Layout(pipeline=3)),
    "pipeline4-tied": (TIED, Layout(pipeline=4)),
    "pipeline2-interleaved-tied": (TIED, Layout(pipeline=2, chunks=2, schedule="interleaved")),
    "pipeline2-zero-bubble-zero1": (EVEN, Layout(1, shards=3, pipeline=2, chunks=2, schedule="zero_bubble")),
    "data2-tensor2-pipeline2": (TIED, Layout(1, shards=2, tensor=2, sequence=True, pipeline=2)),
    "hybrid-context2-tensor2": (EVEN, Layout(2, shards=1, replicas=2, context=2, tensor=2)),
}


@contextmanager
def process(layout: Layout, rank: int) -> Iterator[Mesh]:
    """Be a process of a layout, with PyTorch's process group that sends nothing."""
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=layout.processes)
    try:
        yield Mesh(layout, World(rank=rank, size=layout.processes, device=torch.device("cpu")))
    finally:
        dist.destroy_process_group()


def part_of(shape: Architecture, mesh: Mesh, *, seq_length: int, device: str) -> Llama:
    """Return what a process holds of a model, as :func:`megatron.train.build.build_model` makes it, but for values."""
    layers = stage_layers(shape, stages=mesh.layout.stages, seq_length=seq_length)

    def stage(number: int) -> Llama:
        with torch.device("meta"):
            model = Llama(shape)
        take_stage(model, layers[number], first=number == 0, last=number == len(layers) - 1)
        parallelize(model, mesh, Execution(torch.bfloat16))
        return model if device == "meta" else model.to_empty(device=device)

    return joined([stage(number) for number in own_stages(mesh)])


def nbytes(tensors: Iterator[Tensor]) -> int:
    return sum((tensor.to_local() if isinstance(tensor, DTensor) else tensor).nbytes for tensor in tensors)


def run_of(shape: Architecture, layout: Layout) -> Run:
    return Run(shape=shape, layout=layout, seq_length=16, micro_size=1, accumulation_steps=4, train_iters=1)


def piece(mesh: Mesh) -> int:
    """Return which of the pieces that ZeRO makes a process has."""
    return 0 if mesh.shard_mesh is None else mesh.shard_mesh.get_local_rank("shard")


@pytest.mark.parametrize("name", CASES)
def test_parameters_gradients_and_optimizer_of_every_process(name: str) -> None:
    shape, layout = CASES[name]
    run = run_of(shape, layout)
    for rank in range(layout.processes):
        with process(layout, rank) as mesh:
            model = part_of(shape, mesh, seq_length=run.seq_length, device="cpu")
            optimizer = build_adamw(model, learning_rate=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
            # That real gradients have the shape of the parameters is asserted where layouts are trained.
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
            told = memory_of(run, position=mesh.pipeline.rank, index=piece(mesh))
            assert nbytes(iter(model.parameters())) == told.parameters, rank
            gradients = nbytes(parameter.grad for parameter in model.parameters() if parameter.grad is not None)
            assert gradients == told.parameters, rank
            assert nbytes(value for state in optimizer.state.values() for value in state.values()) == told.optimizer


SHIPPED = ("emma500", "emma500-llama3-8b-mono", "emma500-llama2-13b", "emma500-llama2-70b")
SIZES = ("llama2-7b", "llama3-8b")


@pytest.mark.parametrize("size", [None, *SIZES])
@pytest.mark.parametrize("name", SHIPPED)
def test_parameters_of_shipped_runs_on_256_processes(name: str, size: str | None) -> None:
    run = Run.of(load([CONFIGS / name]), processes=256)
    if size is not None:
        shape = yaml.safe_load((CONFIGS / "models" / f"{size}.yml").read_text(encoding="utf-8"))
        run = dataclasses.replace(run, shape=expected_architecture(ModelConfig(**shape), vocab_size=None))
    for rank in {0, 130, 255}:  # the first stage of a pipeline, one in the middle, and the last
        with process(run.layout, rank) as mesh:
            model = part_of(run.shape, mesh, seq_length=run.seq_length, device="meta")
            told = memory_of(run, position=mesh.pipeline.rank, index=piece(mesh))
            assert nbytes(iter(model.parameters())) == told.parameters
