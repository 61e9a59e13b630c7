"""Runs that are killed with SIGKILL and started again, against the run that was not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from megatron.monitor.record import read_metrics

ROOT = Path(__file__).resolve().parents[2]
STEPS = 40


def start(run: Any, processes: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "deepy.py", "train.py", str(run.config), f"num_gpus={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # A group of its own, so that one signal ends launcher and workers alike, as a dying node does.
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.PIPE)


def finish(run: Any, processes: int) -> None:
    process = start(run, processes)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()


def losses(save: Path) -> dict[int, float]:
    path = save / "metrics.jsonl"
    if not path.exists():
        return {}
    return {event["step"]: event["loss"] for event in read_metrics(path) if event["event"] == "train"}


def kill_at(run: Any, processes: int, step: int) -> int:
    """Kill the run with SIGKILL once it has recorded ``step``; return the last recorded step."""
    process = start(run, processes)
    deadline = time.monotonic() + 240
    while max(losses(run.save), default=0) < step and process.poll() is None:
        assert time.monotonic() < deadline, "the run does not advance"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    time.sleep(0.2)
    return max(losses(run.save), default=0)


def check(make_run: Callable[..., Any], processes: int, kills: int) -> None:
    run = make_run(train_iters=STEPS, checkpoint_factor=4, eval_interval=20, keep_last_n_checkpoints=2)
    finish(run, processes)
    whole = losses(run.save)
    assert len(whole) == STEPS
    shutil.rmtree(run.save)
    choice = random.Random(processes)
    for step in sorted(choice.sample(range(1, STEPS - 1), kills)):
        kill_at(run, processes, step)
    finish(run, processes)
    # Bit for bit: == on floats is meant.
    assert losses(run.save) == whole


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_run_repeats_every_loss(tiny_run: Callable[..., Any], processes: int) -> None:
    check(tiny_run, processes, kills=2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("processes", [1, 2])
def test_ten_kills_repeat_every_loss(tiny_run: Callable[..., Any], processes: int) -> None:
    check(tiny_run, processes, kills=10)


def test_two_processes_match_one(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run(train_iters=12)
    finish(run, 1)
    one = losses(run.save)
    shutil.rmtree(run.save)
    finish(run, 2)
    assert losses(run.save) == pytest.approx(one, rel=1e-5)
