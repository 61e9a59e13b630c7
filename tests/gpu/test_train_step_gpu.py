"""Training steps of Llama 2 7B's shape on one GPU: they learn, and take the memory that the simulator predicts."""

from __future__ import annotations

import dataclasses
import warnings

import pytest
import torch

from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from megatron.model import loss
from megatron.model.llama import Llama
from megatron.model.micro_batch import MicroBatch
from megatron.optim.adamw import build_adamw
from megatron.parallel.engine import Engine
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution, parallelize
from megatron.parallel.process import World
from megatron.simulate.memory import memory_of
from megatron.simulate.run import Run
from megatron.train.step import TrainStep

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

LLAMA2_7B = Architecture(
    vocab_size=32_000, hidden_size=4096, intermediate_size=11_008, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=32, head_dim=128, max_position_embeddings=4096,
)  # fmt: skip
LENGTH, MICRO_BATCHES = 4096, 2


def run_of(layers: int, recompute: str | None) -> Run:
    shape = dataclasses.replace(LLAMA2_7B, num_hidden_layers=layers)
    return Run(shape, Layout(), LENGTH, 1, MICRO_BATCHES, 1, element_bytes=2, recompute=recompute)


def predicted_bytes(run: Run) -> float:
    return memory_of(run, position=0, index=0).peak


@pytest.mark.parametrize("recompute", [None, "selective", "full"])
def test_steps_take_the_memory_that_is_predicted(recompute: str | None) -> None:
    device = torch.device("cuda", 0)
    room = 0.9 * torch.cuda.mem_get_info(device)[1]
    # As many of the 32 blocks as fit.
    layers = next(count for count in range(32, 0, -1) if predicted_bytes(run_of(count, recompute)) < room)
    run = run_of(layers, recompute)
    torch.cuda.reset_peak_memory_stats(device)
    mesh = Mesh(Layout(), World(rank=0, size=1, device=device))
    execution = Execution(torch.bfloat16, recompute)
    model = Llama.empty(run.shape, device=device, prepare=lambda model: parallelize(model, mesh, execution))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.02) if parameter.dim() > 1 else parameter.fill_(1.0)
    engine = Engine([model], mesh, execution=execution, shape=(1, LENGTH), micro_batches=MICRO_BATCHES)
    optimizer = build_adamw(model, learning_rate=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    step = TrainStep(engine=engine, optimizer=optimizer, learning_rate=lambda _: 1e-4, max_gradient_norm=1.0)
    rows = torch.randint(0, 32_000, (MICRO_BATCHES, 1, LENGTH + 1), device=device)
    batches = [MicroBatch(row[:, :-1].contiguous(), row[:, 1:].contiguous()) for row in rows]
    losses = [step(batches, step=number).loss for number in range(3)]
    assert losses[-1] < losses[0]
    measured = torch.cuda.max_memory_allocated(device)
    assert predicted_bytes(run) == pytest.approx(measured, rel=0.15), f"{layers} blocks"


def test_the_host_waits_for_the_device_twice_a_step() -> None:
    # PyTorch warns at every wait that it knows of: for the sums of the losses, and for the gradient's norm.
    device = torch.device("cuda", 0)
    shape = Architecture(1_024, 256, 512, 2, 4, 2, 64, 128)
    mesh = Mesh(Layout(), World(rank=0, size=1, device=device))
    execution = Execution(torch.bfloat16)
    model = Llama.empty(shape, device=device, prepare=lambda model: parallelize(model, mesh, execution))
    model.init_weights(seed=0)
    engine = Engine([model], mesh, execution=execution, shape=(2, 128), micro_batches=2)
    optimizer = build_adamw(model, learning_rate=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    step = TrainStep(engine=engine, optimizer=optimizer, learning_rate=lambda _: 1e-4, max_gradient_norm=1.0)
    tokens = torch.randint(0, 1_024, (2, 129), device=device)
    batch = MicroBatch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    step([batch, batch], step=0)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step([batch, batch], step=1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [str(warning.message) for warning in caught if "synchroniz" in str(warning.message)]
    assert len(waits) == 2, waits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_in_pieces_is_that_of_float64(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "chunk_rows", lambda vocabulary, device: 96)
    device = torch.device("cuda", 0)
    hidden = torch.randn(500, 64, device=device).to(dtype)
    weight = torch.randn(32_003, 64, device=device)
    targets = torch.randint(0, 32_003, (500,), device=device)
    targets[::7] = loss.IGNORE
    wide, head = hidden.double().requires_grad_(), weight.to(dtype).double().requires_grad_()
    wanted = torch.nn.functional.cross_entropy(wide @ head.t(), targets, ignore_index=loss.IGNORE, reduction="sum")
    wanted.backward()
    hidden.requires_grad_(), weight.requires_grad_()
    total = loss.linear_cross_entropy_sum(hidden, weight, targets)
    total.backward()
    tolerance = 1e-3 if dtype == torch.float32 else 2e-2
    assert total.item() == pytest.approx(wanted.item(), rel=tolerance)
    for found, expected in ((hidden.grad, wide.grad), (weight.grad, head.grad)):
        assert found is not None and expected is not None
        assert (found.double() - expected).norm() < tolerance * expected.norm()
