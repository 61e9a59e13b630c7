"""Faults put into real runs: what is done, what is recorded, and what the weights are afterwards."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from megatron.config.derive import Batch
from megatron.config.layout import Layout
from megatron.config.load import load
from megatron.config.schema import SurvivalConfig
from megatron.monitor.record import read_metrics
from megatron.monitor.run_steps import RecordedSteps
from megatron.parallel.mesh import Mesh
from megatron.parallel.process import Peers, World
from megatron.train.faults import FaultError, Faults
from megatron.train.step import StepResult
from megatron.train.trainer import Trainer

ALONE = World(rank=0, size=1, device=torch.device("cpu"))
BATCH = 8
MakeRun = Callable[..., Any]


def trainer_of(run: Any, *settings: str) -> Trainer:
    return Trainer(load([run.config], list(settings)), ALONE)


def spoil(trainer: Trainer, samples: set[int], factor: float) -> None:
    """Multiply the loss of every micro-batch that holds one of these samples."""
    bad = [torch.from_numpy(trainer.data.loader.sample(number)[:-1]) for number in samples]

    hit = [False]
    real = trainer.model.loss

    def before(module: Any, inputs: tuple[Tensor, ...]) -> None:
        hit[0] = any(torch.equal(row, tokens) for row in inputs[0] for tokens in bad)

    def loss(*args: Any, **kwargs: Any) -> Any:
        total, each = real(*args, **kwargs)
        return (total * factor, each * factor) if hit[0] and total is not None else (total, each)

    trainer.model.register_forward_pre_hook(before)
    trainer.model.loss = loss


def events(run: Any, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_metrics(run.save / "metrics.jsonl") if event["event"] == kind]


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def test_a_step_that_is_not_a_number_is_skipped_and_its_samples_are_named(tiny_run: MakeRun) -> None:
    run = tiny_run(eval_interval=0)
    trainer = trainer_of(run)
    spoil(trainer, {2 * BATCH + 5}, float("nan"))
    seen = []
    step = trainer.train_step

    def watched(*args: Any, **kwargs: Any) -> Any:
        before = weights(trainer)
        result = step(*args, **kwargs)
        seen.append(all(torch.equal(before[name], value) for name, value in weights(trainer).items()))
        return result

    trainer.train_step = watched  # type: ignore[assignment]
    assert trainer.run() == "finished"
    assert seen == [number == 2 for number in range(12)], "only the third step changes nothing"
    [incident] = events(run, "incident")
    assert (incident["step"], incident["kind"], incident["action"]) == (3, "not_finite", "skipped")
    # Micro-batches hold two samples: the bad one, and one that cannot be told from it.
    assert incident["samples"] == [[2 * BATCH + 4, 2 * BATCH + 5]]
    order, corpora = trainer.data.order, trainer.data.mixture.trained
    assert set(incident["corpora"]) == {corpora[order.sample(2 * BATCH + at).corpus].shard.name for at in (4, 5)}
    assert [event["step"] for event in events(run, "train") if event.get("skipped")] == [3]


def test_too_many_in_a_row_end_the_run(tiny_run: MakeRun) -> None:
    run = tiny_run(eval_interval=0)
    trainer = trainer_of(run, "max_skipped_steps=2")
    spoil(trainer, {0, 8, 24, 32, 40}, float("inf"))
    with pytest.raises(FaultError, match=r"step 6: loss inf.*3 steps in a row were skipped, and .* is 2"):
        trainer.run()
    assert [event["step"] for event in events(run, "incident")] == [1, 2, 4, 5, 6]


LONG = {"train_iters": 40, "checkpoint_factor": 10, "eval_interval": 0}
SPIKE = 33 * BATCH + 3  # in step 34


@pytest.mark.parametrize("policy", ["report", "skip", "rewind"])
def test_a_spike_is_reported_skipped_or_gone_around(tiny_run: MakeRun, policy: str) -> None:
    run = tiny_run(**LONG)
    trainer = trainer_of(run, f"on_loss_spike={policy}")
    spoil(trainer, {SPIKE}, 30.0)
    assert trainer.run() == "finished"
    [incident] = events(run, "incident")
    assert (incident["step"], incident["kind"]) == (34, "spike")
    assert incident["loss"] > incident["limit"]
    assert incident["action"] == {"report": "reported", "skip": "skipped", "rewind": "went back"}[policy]
    assert incident["samples"] == [[33 * BATCH, 34 * BATCH - 1]]
    trained = events(run, "train")
    assert [event["step"] for event in trained] == list(range(1, 41))
    if policy == "rewind":
        # Steps 31 to 40 again, with the ten batches after the spike.
        assert trainer.samples == (34 + 10) * BATCH
        assert [event["tokens"] // 32 for event in trained[29:32]] == [30 * BATCH, 35 * BATCH, 36 * BATCH]
        steps = RecordedSteps(run.save)
        assert steps.step(30).samples == range(29 * BATCH, 30 * BATCH)
        assert steps.step(31).samples == range(34 * BATCH, 35 * BATCH)
    else:
        assert trainer.samples == 40 * BATCH


def test_after_a_return_the_run_is_the_one_that_never_saw_the_spike(tiny_run: MakeRun) -> None:
    run = tiny_run(**LONG)
    trainer = trainer_of(run, "on_loss_spike=rewind")
    spoil(trainer, {SPIKE}, 30.0)
    trainer.run()
    went = weights(trainer)
    other = tiny_run(**LONG, save=str(run.folder / "other"))
    first = trainer_of(other, "exit_interval=30")
    first.run()
    second = trainer_of(other)
    second.samples = 34 * BATCH
    second.run()
    assert all(torch.equal(value, went[name]) for name, value in weights(second).items())


def test_without_a_checkpoint_a_spike_is_skipped(tiny_run: MakeRun) -> None:
    run = tiny_run(**{**LONG, "checkpoint_factor": 1000})
    trainer = trainer_of(run, "on_loss_spike=rewind")
    spoil(trainer, {SPIKE}, 30.0)
    assert trainer.run() == "finished"
    assert [event["action"] for event in events(run, "incident")] == ["skipped"]


def test_a_run_that_spikes_again_and_again_ends(tiny_run: MakeRun) -> None:
    run = tiny_run(**{**LONG, "checkpoint_factor": 25, "train_iters": 200})
    trainer = trainer_of(run, "on_loss_spike=rewind", "max_skipped_steps=1")
    spoil(trainer, set(range(45 * BATCH, 400 * BATCH, 21 * BATCH)), 30.0)
    with pytest.raises(FaultError, match="global_step25 was gone back to, and max_skipped_steps is 1"):
        trainer.run()


def told(losses: list[float], **settings: Any) -> list[int]:
    """Return the places of the losses that are told as spikes."""
    section = SurvivalConfig(**settings)
    places: list[int] = []
    faults = Faults(
        section, batch=Batch(1, 1, 1), mesh=Mesh(Layout(), ALONE), peers=Peers(), describe=lambda _: {},
        write=lambda *_, **__: places.append(at), newest=lambda: None,
    )  # fmt: skip
    for at, loss in enumerate(losses):
        faults.judge(StepResult(loss, 1.0, 1e-3), step=at + 1, first_sample=at)
    return places


def test_noise_is_no_spike_and_a_spike_is() -> None:
    noise = random.Random(0)
    level = [2.0 + noise.gauss(0, 0.1) for _ in range(2000)]
    assert told(level) == []
    level[700], level[1500] = 2.9, 3.5
    assert told(level) == [700, 1500]
    assert told(level[690:]) == [810], "the first twenty are not judged"


def test_a_loss_that_falls_fast_hides_no_spike() -> None:
    falling = [10 * 0.97**step for step in range(150)]
    assert told(falling) == []
    falling[60] *= 3
    assert told(falling) == [60]


def test_a_level_that_stays_is_no_spike_for_ever() -> None:
    noise = random.Random(1)
    losses = [level + noise.gauss(0, 0.1) for level in [2.0] * 100 + [4.0] * 100]
    assert told(losses) == list(range(100, 109)), "until half of the last steps are like it"


def test_losses_that_hardly_change() -> None:
    assert told([1.0] * 50 + [1.005] + [1.0] * 50) == []
    assert told([1.0] * 50 + [1.007] + [1.0] * 50) == [50]
