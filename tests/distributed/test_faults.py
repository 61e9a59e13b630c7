"""Faults in runs of two processes, while a thread of each is writing a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from processes import spawn

from megatron.checkpoint.seal import verify
from megatron.checkpoint.storage import LocalStorage
from megatron.config.load import load
from megatron.monitor.record import read_metrics
from megatron.parallel.process import World
from megatron.train.trainer import Trainer


def work(rank: int, config: Path, store: Path) -> None:
    """Train in one of two processes: every save is slow, and every other loss of the second one is no number."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    trainer = Trainer(load([config]), World(rank=rank, size=2, device=torch.device("cpu")))
    publish, loss = LocalStorage.publish, trainer.model.loss

    def slowly(self: LocalStorage, *arguments: Any) -> None:
        time.sleep(0.2)
        publish(self, *arguments)

    def spoiled(*arguments: Any, **options: Any) -> Any:
        total, each = loss(*arguments, **options)
        bad = rank == 1 and trainer.step % 2 == 1 and total is not None
        return (total * float("nan"), each * float("nan")) if bad else (total, each)

    LocalStorage.publish = slowly  # type: ignore[method-assign]
    trainer.model.loss = spoiled
    assert trainer.run() == "finished"
    dist.destroy_process_group()


@pytest.mark.timeout(180)
def test_bad_steps_while_checkpoints_are_written(tiny_run: Callable[..., Any], tmp_path: Path) -> None:
    run = tiny_run(train_iters=16, checkpoint_factor=3, eval_interval=0, node_test=False)
    spawn(work, (run.config, tmp_path / "store"), nprocs=2)
    events = read_metrics(run.save / "metrics.jsonl")
    incidents = [event for event in events if event["event"] == "incident"]
    assert [incident["step"] for incident in incidents] == list(range(2, 17, 2))
    # The second process has the second pair of every four samples.
    assert incidents[0]["samples"] == [[10, 11], [14, 15]]
    checkpoints = sorted(run.save.glob("global_step*"))
    assert len(checkpoints) == 6
    for path in checkpoints:
        verify(LocalStorage(path))
