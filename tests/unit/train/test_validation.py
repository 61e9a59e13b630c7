from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from megatron.config.load import load
from megatron.evaluation.bits_per_byte import HeldOutSet
from megatron.monitor.record import read_metrics
from megatron.parallel.process import World
from megatron.train.faults import FaultError
from megatron.train.trainer import Trainer

ALONE = World(rank=0, size=1, device=torch.device("cpu"))
WATCHED = ("pivots=[swh_Latn]", "max_forgetting_percent=5", "eval_interval=3")


def validations(save: Path) -> list[dict[str, Any]]:
    return [event for event in read_metrics(save / "metrics.jsonl") if event["event"] == "validation"]


@pytest.fixture
def worse(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """By what the nats of Swahili are multiplied; a test may change it."""
    factor = [1.0]
    score = HeldOutSet.score

    def changed(self: HeldOutSet, *arguments: Any, **options: Any) -> Any:
        return [
            dataclasses.replace(row, nats=row.nats * factor[0]) if row.code == "swh_Latn" else row
            for row in score(self, *arguments, **options)
        ]

    monkeypatch.setattr(HeldOutSet, "score", changed)
    return factor


def test_a_run_that_forgets_is_saved_and_stopped(
    tiny_run: Callable[..., Any], worse: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    run = tiny_run(checkpoint_factor=100)
    trainer = Trainer(load([run.config], [*WATCHED, "on_forgetting=stop"]), ALONE)
    steps = trainer.train_step

    def step(*arguments: Any, **options: Any) -> Any:
        worse[0] = 10.0 if trainer.step >= 5 else 1.0
        return steps(*arguments, **options)

    trainer.train_step = step  # type: ignore[assignment]
    with pytest.raises(FaultError, match=r"swh_Latn by \d+\.\d %; max_forgetting_percent is 5"):
        trainer.run()
    assert (run.save / "latest").read_text() == "global_step6\n"
    events = read_metrics(run.save / "metrics.jsonl")
    [incident] = [event for event in events if event["event"] == "incident"]
    assert incident["kind"] == "forgetting" and incident["step"] == 6 and list(incident["corpora"]) == ["swh_Latn"]
    assert validations(run.save)[-1]["forgetting"]["pivots"]["swh_Latn"] > 100
    # It goes on when it is told to, remembers what was at the beginning, and warns.
    worse[0] = 10.0
    assert Trainer(load([run.config], list(WATCHED)), ALONE).run() == "finished"
    last = validations(run.save)[-1]
    assert last["step"] == 12 and last["forgetting"]["pivots"]["swh_Latn"] > 100
    assert "swh_Latn +" in caplog.text


def test_a_run_that_forgets_nothing_goes_on(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run()
    assert Trainer(load([run.config], [*WATCHED, "on_forgetting=stop"]), ALONE).run() == "finished"
    assert [event["event"] for event in read_metrics(run.save / "metrics.jsonl")].count("incident") == 0
    first, *_, last = validations(run.save)
    assert first["forgetting"]["pivots"] == {"swh_Latn": 0} and last["forgetting"]["pivots"]["swh_Latn"] < 0


def test_pivots_that_are_not_there_are_named(tiny_run: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"no held-out text is of fra_Latn, math; .*monolingual"):
        Trainer(load([tiny_run().config], ["pivots=[fra_Latn,math,eng_Latn,monolingual]"]), ALONE)
