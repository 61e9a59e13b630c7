"""Runs on a disk that fills up."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from processes import train
from test_kill import losses, start

from megatron.checkpoint.seal import verify
from megatron.checkpoint.storage import LocalStorage
from megatron.monitor.record import read_all_events
from tests.disks import small_disk

STEPS = 24


def num_failed(save: Path) -> int:
    path = save / "metrics.jsonl"
    return sum(event["event"] == "checkpoint_failed" for event in read_all_events(path)) if path.exists() else 0


def test_a_run_ends_after_saves_that_failed_and_goes_on_when_there_is_space(
    tiny_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = tiny_run(train_iters=STEPS, checkpoint_factor=2, eval_interval=STEPS)
    train(run.config, 2, f"save={tmp_path / 'whole'}")
    whole = losses(tmp_path / "whole")
    one = sum(path.stat().st_size for path in (tmp_path / "whole" / "global_step2").rglob("*"))
    with small_disk(tmp_path / "disk", 5 * one) as disk:
        save = disk / "run"
        process = start(run, 2, f"save={save}")
        errors = process.communicate(timeout=240)[1].decode()
        assert process.returncode != 0
        for expected in ("error: the checkpoint of step", "was not written: process", "No space left on device"):
            assert expected in errors
        assert num_failed(save) == 4  # two that may, one more, and the one where the run stands
        for path in save.glob("global_step*"):
            verify(LocalStorage(path))
        assert 2 <= len(list(save.glob("global_step*"))) <= 5 and not list(save.glob(".global_step*"))
        for step in (2, 4):
            shutil.rmtree(save / f"global_step{step}")
        train(run.config, 2, f"save={save}", "keep_last_n_checkpoints=1")
        assert losses(save) == whole


def test_a_run_goes_on_while_the_disk_is_full(tiny_run: Callable[..., Any], tmp_path: Path) -> None:
    run = tiny_run(train_iters=120, checkpoint_factor=2, eval_interval=120, keep_last_n_checkpoints=2)
    with small_disk(tmp_path / "disk", 8 << 20) as disk:
        ballast = disk / "ballast"
        with ballast.open("wb") as file:
            file.write(bytes((8 << 20) - (64 << 10)))
        process = start(run, 1, f"save={disk / 'run'}", "max_failed_saves=1000")
        deadline = time.monotonic() + 120
        while num_failed(disk / "run") == 0:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        ballast.unlink()
        errors = process.communicate(timeout=240)[1].decode()
        assert process.returncode == 0, errors
        assert "was not written: process 0: OSError: [Errno 28] No space left on device" in errors
        assert len(losses(disk / "run")) == 120
        verify(LocalStorage(disk / "run" / "global_step120"))
        shutil.rmtree(disk / "run")
