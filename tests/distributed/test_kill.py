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
from processes import train

from megatron.checkpoint.seal import verify
from megatron.checkpoint.storage import LocalStorage
from megatron.monitor.record import read_all_events
from tests.records import losses

ROOT = Path(__file__).resolve().parents[2]
STEPS = 160


def start(run: Any, processes: int, *settings: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "deepy.py", "train.py", str(run.config), f"num_gpus={processes}", *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)


def family(ancestor: int) -> set[int]:
    """Return a process and all its living descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    members = {ancestor} & parents.keys()
    while grown := {child for child, parent in parents.items() if parent in members} - members:
        members |= grown
    return members


def wait_until_gone(members: set[int], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while alive := {member for member in members if family(member)}:
        assert time.monotonic() < deadline, f"processes {alive} live on"
        time.sleep(0.05)


def finish(run: Any, processes: int, *settings: str) -> None:
    process = start(run, processes, *settings)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()


def num_starts(save: Path) -> int:
    path = save / "metrics.jsonl"
    return sum(event["event"] == "start" for event in read_all_events(path)) if path.exists() else 0


def kill_at(
    run: Any, processes: int, step: int, *, only_the_launcher: bool = False, seconds_later: float = 0.0
) -> int:
    """Kill the run with SIGKILL once it has recorded ``step``; return the last recorded step."""
    before = num_starts(run.save)
    process = start(run, processes)
    deadline = time.monotonic() + 240
    # What an earlier start had recorded does not count: this one must have taken over before it is killed.
    while num_starts(run.save) == before or max(losses(run.save), default=0) < step:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run does not advance"
        time.sleep(0.01)
    time.sleep(seconds_later)
    members = family(process.pid)
    assert len(members) >= processes
    for member in [process.pid] if only_the_launcher else members:
        os.kill(member, signal.SIGKILL)
    process.communicate()
    wait_until_gone(members)
    return max(losses(run.save), default=0)


def check(make_run: Callable[..., Any], processes: int, kills: int) -> None:
    run = make_run(train_iters=STEPS, checkpoint_factor=4, eval_interval=STEPS, keep_last_n_checkpoints=2)
    train(run.config, processes)
    whole = losses(run.save)
    assert len(whole) == STEPS
    shutil.rmtree(run.save)
    choice = random.Random(processes)
    for step in sorted(choice.sample(range(1, STEPS - 70), kills)):
        assert step <= kill_at(run, processes, step) < STEPS
    finish(run, processes)
    assert num_starts(run.save) == kills + 1
    last = [event for event in read_all_events(run.save / "metrics.jsonl") if event["event"] == "start"][-1]
    assert last["resumed_from"] >= 4
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


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("processes", [1, 2])
def test_no_half_checkpoint_is_taken_for_whole(tiny_run: Callable[..., Any], processes: int) -> None:
    """Fifty kills at random moments of a run that is nearly always writing a checkpoint."""
    kills, steps = 50, 600
    run = tiny_run(train_iters=steps, checkpoint_factor=1, eval_interval=steps, keep_last_n_checkpoints=2)
    train(run.config, processes)
    whole = losses(run.save)
    shutil.rmtree(run.save)
    choice = random.Random(processes)
    resumed, broken_off = [], 0
    for _ in range(kills):
        kill_at(run, processes, max(losses(run.save), default=0) + 1, seconds_later=choice.random() / 10)
        broken_off += len(list(run.save.glob(".global_step*.tmp")))
        sealed = [path for path in run.save.glob("global_step*") if (path / "COMPLETE").exists()]
        for path in sealed:
            verify(LocalStorage(path))
        newest = max((int(path.name.removeprefix("global_step")) for path in sealed), default=None)
        resumed.append(newest)
        assert max(losses(run.save)) < steps, "the run is too short for so many kills"
    finish(run, processes)
    starts = [event for event in read_all_events(run.save / "metrics.jsonl") if event["event"] == "start"]
    assert [event["resumed_from"] for event in starts] == [None, *resumed]
    assert losses(run.save) == whole  # bit for bit
    assert broken_off > 0
    # For the one who runs it with -s.
    sys.stdout.write(f"{kills} kills, {broken_off} of them in the middle of a checkpoint\n")


def test_two_processes_match_one(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run(train_iters=12)
    train(run.config, 1)
    one = losses(run.save)
    shutil.rmtree(run.save)
    train(run.config, 2)
    assert losses(run.save) == pytest.approx(one, rel=1e-5)


def test_resume_on_another_layout_matches(tiny_run: Callable[..., Any]) -> None:
    phases = [{"from_tokens": 44 * 32, "ramp_tokens": 16 * 32, "weights": {"amh_Ethi": 1, "swh_Latn": 1}}]
    run = tiny_run(mixture={"weights": {"eng_Latn": 4, "swh_Latn": 2, "amh_Ethi": 1}, "phases": phases})
    train(run.config, 1)
    whole = losses(run.save)
    shutil.rmtree(run.save)
    # Stops inside the ramp, when the smallest corpus is in its third epoch.
    train(run.config, 2, "exit_interval=6")
    train(run.config, 1, "train_micro_batch_size_per_gpu=4", "exit_interval=9")
    train(run.config, 2, "train_micro_batch_size_per_gpu=1")
    assert num_starts(run.save) == 3
    assert losses(run.save) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("processes", [1, 2])
def test_nothing_outlives_a_killed_launcher(tiny_run: Callable[..., Any], processes: int) -> None:
    run = tiny_run(train_iters=100_000, checkpoint_factor=1000)
    assert kill_at(run, processes, 3, only_the_launcher=True) < 100_000


def test_two_runs_cannot_share_a_folder(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run(train_iters=100_000, checkpoint_factor=100_000)
    first = start(run, 1)
    try:
        while not losses(run.save):
            assert first.poll() is None
            time.sleep(0.05)
        second = start(run, 1)
        _, errors = second.communicate(timeout=60)
        assert second.returncode == 1
        assert "another run is writing to" in errors.decode() and f"process {first.pid}" in errors.decode()
    finally:
        first.kill()
        first.communicate()


def test_an_error_of_the_second_process_is_told(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run()
    shard = run.folder / "swh_Latn_train.bin"
    shard.write_bytes(shard.read_bytes()[:-10])
    process = start(run, 2)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "swh_Latn_train" in errors.decode()
