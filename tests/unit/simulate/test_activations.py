"""The formulas against what PyTorch allocates in one process; ``tests/distributed/test_memory.py`` has the layouts."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from memory import LiveBytes

from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from megatron.config.recomputation import Mode, Recomputation
from megatron.model.llama import Llama
from megatron.optim.adamw import build_adamw
from megatron.parallel.precision import call_in
from megatron.parallel.recompute import recompute_activations
from megatron.simulate.activations import block_backward, block_kept, last_norm_backward, loss_forward
from megatron.simulate.budget import modes_within
from megatron.simulate.hardware import GIB
from megatron.simulate.memory import kept_bytes, memory_of
from megatron.simulate.run import Run

GROUPED = Architecture(
    vocab_size=48, hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, max_position_embeddings=512,
)  # fmt: skip
WIDE = dataclasses.replace(GROUPED, intermediate_size=448, num_key_value_heads=4, num_hidden_layers=2)
NARROW = dataclasses.replace(GROUPED, intermediate_size=48, num_hidden_layers=4)
ROWS, LENGTH = 2, 256


@dataclasses.dataclass(frozen=True)
class Measured:
    kept: int
    forward_peak: int
    backward_peak: int


def measure(run: Run) -> Measured:
    """Run a forward and a backward pass of a model with weights in the dtype, as ``fully_shard`` gathers them."""
    dtype = torch.bfloat16 if run.element_bytes == 2 else torch.float32
    model = Llama(run.shape)
    model.init_weights(seed=1)
    recompute_activations(model, run.recompute)
    model = model.to(dtype)
    ids = torch.randint(0, run.shape.vocab_size, (run.micro_size, run.seq_length))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    with LiveBytes([*model.parameters(), *gradients, *model.buffers(), ids]) as live:
        loss = model(ids, targets=ids)
        kept, forward_peak, live.peak = live.now, live.peak, 0
        loss.backward()
    return Measured(kept, forward_peak, live.peak)


def run_of(shape: Architecture, element_bytes: int, recompute: Recomputation, *, steps: int = 1) -> Run:
    return Run(
        shape=shape, layout=Layout(), seq_length=LENGTH, micro_size=ROWS, accumulation_steps=steps, train_iters=1,
        element_bytes=element_bytes, recompute=recompute,
    )  # fmt: skip


@pytest.mark.parametrize("recompute", [None, "selective", "full"])
@pytest.mark.parametrize("element_bytes", [2, 4])
@pytest.mark.parametrize("shape", [GROUPED, WIDE, NARROW], ids=["grouped", "wide", "narrow"])
def test_activations_are_what_pytorch_keeps(shape: Architecture, element_bytes: int, recompute: str | None) -> None:
    run = run_of(shape, element_bytes, recompute)
    measured = measure(run)
    kept = shape.num_hidden_layers * block_kept(run, recompute) * run.tokens
    # After the forward pass there are also the last norm's tensors and the gradients that the loss has made.
    norm = (6 if element_bytes == 2 else 8) * shape.hidden_size + 4
    loss = element_bytes * shape.hidden_size
    matrix = element_bytes * shape.vocab_size * shape.hidden_size
    assert measured.kept == pytest.approx(kept + run.tokens * (norm + loss) + matrix, rel=0.02)

    # Equal to the last byte when the loss lets go of its gradients as they are used.
    peak = kept + run.tokens * max(block_backward(run, recompute), last_norm_backward(run))
    assert measured.backward_peak == pytest.approx(peak, rel=0.07)


@pytest.mark.parametrize("recompute", [*itertools.permutations(("full", "selective", None))])
@pytest.mark.parametrize("element_bytes", [2, 4])
def test_blocks_that_recompute_differently_keep_what_each_of_them_keeps(
    element_bytes: int, recompute: tuple[Mode, ...]
) -> None:
    run = run_of(GROUPED, element_bytes, recompute)
    norm = (6 if element_bytes == 2 else 8) * GROUPED.hidden_size + 4
    loss = element_bytes * GROUPED.hidden_size
    rest = run.tokens * (norm + loss) + element_bytes * GROUPED.vocab_size * GROUPED.hidden_size
    measured, kept = measure(run), kept_bytes(run, 0)
    assert kept == run.tokens * sum(block_kept(run, mode) for mode in recompute)
    assert measured.kept == pytest.approx(kept + rest, rel=0.02)
    # Blocks go backward from the last to the first; what one has kept is gone when the one before it comes.
    moments = [
        kept - run.tokens * sum(block_kept(run, done) for done in recompute[layer + 1 :])
        + run.tokens * block_backward(run, recompute[layer])
        for layer in range(3)
    ]  # fmt: skip
    peak = max(kept + run.tokens * last_norm_backward(run), *moments)
    assert measured.backward_peak == pytest.approx(peak, rel=0.07)


def test_a_budget_is_kept() -> None:
    shape = dataclasses.replace(GROUPED, num_hidden_layers=8)
    run = run_of(shape, 2, None)
    full, none = (kept_bytes(dataclasses.replace(run, recompute=mode), 0) for mode in ("full", None))
    extra = measure(run).kept - none  # the last norm's and the loss's
    seen = set()
    for share in (0, 0.2, 0.5, 0.7, 1):
        budget = full + share * (none - full)
        modes = modes_within(run, budget_gib=budget / GIB)
        kept = measure(dataclasses.replace(run, recompute=modes)).kept - extra
        largest_step = run.tokens * (block_kept(run, None) - block_kept(run, "full"))
        assert budget - largest_step < kept <= budget
        seen.add(modes)
    assert len(seen) == 5


@pytest.mark.parametrize("element_bytes", [2, 4])
def test_the_loss_takes_what_its_logits_take(element_bytes: int) -> None:
    shape = dataclasses.replace(GROUPED, vocab_size=1024, num_hidden_layers=1)
    run = run_of(shape, element_bytes, "full")
    measured = measure(run).forward_peak - block_kept(run, "full") * run.tokens
    head = shape.vocab_size * shape.hidden_size
    assert measured == pytest.approx(loss_forward(run) + 4 * head, rel=0.1)


@pytest.mark.parametrize(
    ("element_bytes", "recompute", "steps"),
    [
        (4, None, 2), (4, "selective", 2), (4, "full", 2), (2, None, 2), (4, None, 1), (2, None, 1),
        (4, ("full", "selective", None), 2), (2, (None, "selective", "full"), 2), (4, ("full", "full", None), 1),
        (2, ("selective", None, None), 1),
    ],
)  # fmt: skip
def test_the_peak_of_a_step_is_that_of_a_step(element_bytes: int, recompute: Recomputation, steps: int) -> None:
    # Everything is counted: parameters, gradients, moments, casts, activations.
    shape = dataclasses.replace(GROUPED, hidden_size=128, head_dim=32, intermediate_size=352, vocab_size=256)
    run = run_of(shape, element_bytes, recompute, steps=steps)
    ids = torch.randint(0, shape.vocab_size, (ROWS, LENGTH))
    dtype = torch.bfloat16 if element_bytes == 2 else torch.float32
    with LiveBytes([ids]) as live:
        model = Llama(shape)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        recompute_activations(model, recompute)
        optimizer = build_adamw(model, learning_rate=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
        for _ in range(2):  # the second step has moments from its beginning
            live.peak = 0
            optimizer.zero_grad(set_to_none=True)
            for _ in range(steps):
                loss = call_in(dtype, model, ids, targets=ids)
                loss.backward()
            optimizer.step()
    assert memory_of(run, position=0).peak == pytest.approx(live.peak, rel=0.1)


def test_pieces_on_a_gpu_are_those_of_the_loss() -> None:
    from megatron.model import loss
    from megatron.simulate import activations

    assert activations._LOGITS_GPU == loss._CHUNK_ELEMENTS_GPU
    assert activations.PRODUCT_GPU == loss._PRODUCT_ELEMENTS_GPU
