from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from megatron.config.load import load
from megatron.monitor.record import read_metrics
from megatron.parallel.process import World
from megatron.train.step_record import StepRecord
from megatron.train.trainer import Trainer

ALONE = World(rank=0, size=1, device=torch.device("cpu"))
TIERS = "mixture={unit: tokens, tiers: {big: {above: 400, rate: 1}, small: {above: 0, rate: 8}}}"


def test_losses_of_sources_and_tiers_are_those_of_their_rows(tiny_run: Callable[..., Any]) -> None:
    """Every step's loss of each tier, against the rows of that tier scored one by one by the same weights."""
    run = tiny_run(train_iters=3, eval_interval=0)
    trainer = Trainer(load([run.config], [TIERS]), ALONE)
    expected: list[dict[str, float]] = []
    real = trainer.train_step

    def step(*args: Any, **kwargs: Any) -> Any:
        sums: dict[str, list[float]] = {}
        for number in range(trainer.samples, trainer.samples + 8):
            tokens = torch.from_numpy(trainer.data.loader.sample(number))[None]
            nats = trainer.engine.score(tokens[:, :-1], tokens[:, 1:])
            corpus = trainer.data.mixture.trained[trainer.data.order.sample(number).corpus]
            assert nats is not None
            sums.setdefault(corpus.tier, []).append(nats[..., 0].double().mean().item())
        expected.append({tier: sum(means) / len(means) for tier, means in sums.items()})
        return real(*args, **kwargs)

    trainer.train_step = step  # type: ignore[assignment]
    trainer.run()
    trained = [event for event in read_metrics(run.save / "metrics.jsonl") if event["event"] == "train"]
    assert len(trained) == 3 and any(len(event["tiers"]) == 2 for event in trained)
    for event, wanted in zip(trained, expected, strict=True):
        assert event["tiers"] == pytest.approx(wanted, rel=1e-5)
        assert event["sources"] == pytest.approx({"monolingual": event["loss"]}, rel=1e-6)
        assert event["tflops_per_process"] > 0 and event["memory_bytes"] > 50e6
        assert event["seconds"] * event["tokens_per_second"] == pytest.approx(256)


def test_who_is_slow_is_told(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run()
    trainer = Trainer(load([run.config]), ALONE)

    class FourProcesses(World):
        def each(self, value: float) -> list[float]:
            return [value, 1.0, 1.1, 2.0]

    record: StepRecord = trainer.record
    assert record.stragglers(1.0) == [], "one process holds nobody up"
    record._world, record._hosts = FourProcesses(0, 4, torch.device("cpu")), ["a", "a", "b", "b"]
    assert record.stragglers(1.0) == [{"rank": 3, "host": "b", "seconds": 2.0, "median": 1.05}]
