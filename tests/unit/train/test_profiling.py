from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from megatron.config.load import load
from megatron.parallel.process import World
from megatron.train.trainer import Trainer

ALONE = World(rank=0, size=1, device=torch.device("cpu"))
STEPS = ["profile=true", "profile_step_start=2", "profile_step_stop=3"]


def test_the_steps_that_are_asked_for_are_recorded(
    tiny_run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = tiny_run(train_iters=5, eval_interval=0, checkpoint_factor=5)
    Trainer(load([run.config], STEPS), ALONE).run()
    folder = run.save / "profile"
    assert {path.name for path in folder.iterdir()} == {
        "rank-00000-steps-2-3.json.gz", "rank-00000-steps-2-3.txt"
    }  # fmt: skip
    with gzip.open(folder / "rank-00000-steps-2-3.json.gz") as file:
        names = [event.get("name", "") for event in json.load(file)["traceEvents"]]
    # 2 steps x 4 micro-batches x 2 blocks.
    assert names.count("aten::scaled_dot_product_attention") == 16
    assert any("Optimizer.step" in name for name in names)
    assert "aten::mm" in (folder / "rank-00000-steps-2-3.txt").read_text()
    assert "where the time of steps 2 to 3 went" in caplog.text


def test_other_processes_and_other_steps_are_not(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run(train_iters=3, eval_interval=0)
    Trainer(load([run.config], [*STEPS, "profile_ranks=[1]"]), ALONE).run()
    assert not (run.save / "profile").exists()


def test_a_run_that_ends_before_the_last_step_leaves_what_there_is(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run(train_iters=2, eval_interval=0)
    Trainer(load([run.config], STEPS), ALONE).run()
    assert (run.save / "profile" / "rank-00000-steps-2-3.txt").exists()
