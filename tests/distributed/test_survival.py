"""Runs of two processes to which things happen: they are told to stop, stand still, lose a process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import train

from megatron.monitor.record import read_all_events
from megatron.utils.status import EXIT_MISTAKE, EXIT_UNFINISHED
from tests.records import losses

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"train_iters": 200, "checkpoint_factor": 20, "eval_interval": 0}


def start(run: Any, *settings: str, processes: int = 2) -> subprocess.Popen[str]:
    command = [sys.executable, "deepy.py", "train.py", str(run.config), f"num_gpus={processes}", *settings]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    )


def events(run: Any, kind: str) -> list[dict[str, Any]]:
    path = run.save / "metrics.jsonl"
    return [event for event in read_all_events(path) if event["event"] == kind] if path.exists() else []


def reach(run: Any, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while max(losses(run.save), default=0) < step:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "the run does not advance"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    found = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return sorted(int(child) for line in found for child in line)


@pytest.fixture(scope="module")
def undisturbed() -> dict[int, float]:
    """Hold the losses of the run to which nothing happens, once it has been trained."""
    return {}


def whole(run: Any, undisturbed: dict[int, float]) -> dict[int, float]:
    """Return the losses of the run when nothing happens to it; it is the same run wherever it lies."""
    if not undisturbed:
        train(run.config, 2)
        undisturbed.update(losses(run.save))
        shutil.rmtree(run.save)
    return undisturbed


@pytest.mark.parametrize(
    ("number", "processes"),
    [
        pytest.param(signal.SIGTERM, 2, marks=pytest.mark.slow),
        (signal.SIGUSR1, 2),
        (signal.SIGTERM, 1),
        pytest.param(signal.SIGUSR1, 1, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_told_to_stop_saves_and_says_so(
    tiny_run: Callable[..., Any], number: signal.Signals, processes: int
) -> None:
    run = tiny_run(**{**SETTINGS, "train_iters": 5000, "checkpoint_factor": 5000})
    process = start(run, processes=processes)
    reach(run, 10, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == EXIT_UNFINISHED, errors
    [end] = events(run, "end")
    assert end["reason"] == f"stopped: {number.name}"
    assert (run.save / "latest").read_text() == f"global_step{end['step']}\n"
    # The same command goes on.
    process = start(run, f"train_iters={end['step'] + 3}", processes=processes)
    assert process.wait(timeout=60) == 0
    assert events(run, "start")[-1]["resumed_from"] == end["step"]


def test_a_run_that_is_told_to_stop_while_it_is_loaded_does_so_before_the_first_step(
    tiny_run: Callable[..., Any],
) -> None:
    run = tiny_run(**SETTINGS)
    # The run's folder is locked when the handlers are there already, and long before the first step.
    process = start(run, processes=1)
    deadline = time.monotonic() + 60
    while not (run.save / ".lock").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGUSR1)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == EXIT_UNFINISHED, errors
    [end] = events(run, "end")
    assert end["reason"] == "stopped: SIGUSR1" and end["step"] == 0


def test_a_process_that_stands_still_is_noticed_and_the_run_goes_on(
    tiny_run: Callable[..., Any], undisturbed: dict[int, float]
) -> None:
    run = tiny_run(**SETTINGS)
    expected = whole(run, undisturbed)
    process = start(run, "max_restarts=1", "hang_minutes=0.1")
    reach(run, 50, process)
    os.kill(children(process.pid)[-1], signal.SIGSTOP)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    [hang] = [event for event in events(run, "incident") if event["kind"] == "hang"]
    assert hang["processes"] >= 1
    text = Path(hang["stacks"][0]).read_text()
    assert "Timeout" in text and "trainer.py" in text, "the stacks say where it stood"
    assert len(events(run, "start")) == 2 and events(run, "start")[1]["resumed_from"] >= 40
    assert losses(run.save) == expected
    assert not list((run.save / "stacks").glob("rank-*")), "what is over leaves nothing"


def test_a_killed_process_is_started_again_with_the_others(
    tiny_run: Callable[..., Any], undisturbed: dict[int, float]
) -> None:
    run = tiny_run(**SETTINGS)
    expected = whole(run, undisturbed)
    process = start(run, "max_restarts=1")
    reach(run, 50, process)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert len(events(run, "start")) == 2
    assert losses(run.save) == expected


def test_a_truncated_shard_in_mid_run_ends_it_as_a_mistake(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run(**{**SETTINGS, "train_iters": 5000, "checkpoint_factor": 5000})
    process = start(run)
    reach(run, 10, process)
    shard = run.folder / "eng_Latn_train.bin"
    os.truncate(shard, shard.stat().st_size // 2)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == EXIT_MISTAKE, errors
    assert "error: " in errors and "eng_Latn_train" in errors
