from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from megatron.model.attention import Documents
from megatron.model.llama import Llama
from megatron.model.loss import IGNORE
from megatron.model.micro_batch import MicroBatch
from megatron.optim.adamw import build_adamw
from megatron.parallel.engine import Engine
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import World
from megatron.train.step import TrainStep

LENGTHS = (7, 1, 8, 4, 12)


def train_step(dtype: torch.dtype = torch.float32) -> tuple[Llama, TrainStep]:
    model = Llama(Architecture(64, 32, 48, 2, 4, 2, 8, 64))
    model.init_weights(seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    engine = Engine.alone(model, dtype=dtype)
    step = TrainStep(engine=engine, optimizer=optimizer, learning_rate=lambda _: 0.5, max_gradient_norm=0.0)
    return model, step


@pytest.fixture
def packed() -> MicroBatch:
    tokens = torch.randint(0, 64, (2, 17), generator=torch.Generator().manual_seed(0))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    targets[0, 3], targets[1, ::5] = IGNORE, IGNORE
    positions = torch.cat([torch.arange(length) for length in LENGTHS]).view(2, 16)
    return MicroBatch(inputs, targets, positions, Documents.of(LENGTHS))


def test_a_step_on_packed_rows_is_a_step_on_their_documents(packed: MicroBatch) -> None:
    pieces = [tensor.flatten()[None].split(list(LENGTHS), dim=1) for tensor in (packed.inputs, packed.targets)]
    alone = [MicroBatch(inputs, targets) for inputs, targets in zip(*pieces, strict=True)]
    together, step_together = train_step()
    apart, step_apart = train_step()
    ours, theirs = step_together([packed], step=0), step_apart(alone, step=0)
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
    assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-5)
    for (name, mine), other in zip(together.named_parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6, msg=name)


def test_documents_reach_the_model_in_bfloat16(packed: MicroBatch) -> None:
    wide, narrow = train_step()[1]([packed], step=0), train_step(torch.bfloat16)[1]([packed], step=0)
    assert narrow.loss == pytest.approx(wide.loss, rel=1e-2)


def test_the_loss_is_the_mean_over_the_tokens_that_have_one(packed: MicroBatch) -> None:
    model, step = train_step()
    logits = model(packed.inputs, positions=packed.positions, pattern=packed.pattern)
    wanted = torch.nn.functional.cross_entropy(logits.flatten(0, 1), packed.targets.flatten(), ignore_index=IGNORE)
    assert step([packed], step=0).loss == pytest.approx(wanted.item(), rel=1e-5)


def test_a_step_without_any_target_is_an_error_and_changes_nothing(packed: MicroBatch) -> None:
    model, step = train_step()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    empty = MicroBatch(packed.inputs, torch.full_like(packed.targets, IGNORE))
    with pytest.raises(ValueError, match=r"step 6: no token of the step has a loss.*eod_mask_loss"):
        step([empty, empty], step=5)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    step([empty, packed], step=5)  # one batch without targets among others is nothing to complain about


def test_weights_that_are_lent_for_a_step_are_those_of_the_step(packed: MicroBatch) -> None:
    # In bfloat16 all micro-batches but the last share copies of the weights, which the next step must not see.
    models = [Llama(Architecture(64, 32, 48, 2, 4, 2, 8, 64)) for _ in range(2)]
    for model in models:
        model.init_weights(seed=0)
    mesh = Mesh(Layout(), World(rank=0, size=1, device=torch.device("cpu")))
    execution = Execution(torch.bfloat16)
    engine = Engine([models[0]], mesh, execution=execution, shape=(2, 16), micro_batches=3)
    steps = [
        TrainStep(
            engine=each, optimizer=torch.optim.SGD(model.parameters(), lr=1.0), learning_rate=lambda _: 0.5,
            max_gradient_norm=0.0,
        )
        for each, model in zip((engine, Engine.alone(models[1], dtype=torch.bfloat16)), models, strict=True)
    ]  # fmt: skip
    for number in range(3):
        lent = steps[0]([packed] * 3, step=number)
        # One micro-batch as often, each with weights that are cast for it alone.
        alone = steps[1]([packed], step=number)
        assert lent.loss == pytest.approx(alone.loss, rel=1e-6)
        assert lent.gradient_norm == pytest.approx(alone.gradient_norm, rel=1e-5)


class Waits(TorchFunctionMode):
    """Notes what makes a host wait for its device: results that are looked at, and tables that are brought to it."""

    WAITING = frozenset(
        ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__", "__index__", "tensor")
    )

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in self.WAITING:
            self.seen.append(name)
        elif name == "__getitem__" and any(getattr(part, "dtype", None) == torch.bool for part in _parts(args[1])):
            self.seen.append("mask")
        return func(*args, **(kwargs or {}))


def _parts(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("micro_batches", [1, 4])
def test_the_host_waits_for_the_device_twice_a_step(packed: MicroBatch, layers: int, micro_batches: int) -> None:
    # For the sums of the losses and for the gradient's norm, whatever there is of blocks and micro-batches.
    model = Llama(Architecture(64, 32, 48, layers, 4, 2, 8, 64))
    model.init_weights(seed=0)
    optimizer = build_adamw(model, learning_rate=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    engine = Engine.alone(model, dtype=torch.bfloat16)
    step = TrainStep(engine=engine, optimizer=optimizer, learning_rate=lambda _: 0.5, max_gradient_norm=1.0)
    step([packed] * micro_batches, step=0)
    with Waits() as waits:
        step([packed] * micro_batches, step=1)
    assert waits.seen == ["tolist", "item"]


def test_what_waits_is_noticed() -> None:
    values = torch.arange(3.0)
    with Waits() as waits:
        float(values[0])
        values[values > 1]
        torch.tensor([1.0])
    assert waits.seen == ["__float__", "mask", "tensor"]
