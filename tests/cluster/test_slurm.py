"""Runs on a real Slurm cluster of two nodes: disturbed in every way, they come back and lose nothing."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from megatron.monitor.record import read_all_events, read_metrics
from tests.cluster.slurm import LocalSlurm, command_of, processes_with, wait_for, why_not
from tests.records import losses

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.skipif(why_not() != "", reason=why_not()), pytest.mark.timeout(400)]
SETTINGS = {"train_iters": 320, "checkpoint_factor": 20, "eval_interval": 0, "num_nodes": 2, "num_gpus": 2}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSlurm]:
    with LocalSlurm(tmp_path_factory.mktemp("slurm") / "root") as cluster:
        yield cluster


def submit(slurm: LocalSlurm, run: Any, *settings: str) -> str:
    """Hand in a job and return its number."""
    command = [sys.executable, "deepy.py", "train.py", str(run.config), "--submit", *settings]
    done = subprocess.run(command, cwd=ROOT, env=slurm.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return re.search(r"Submitted batch job (\d+)", done.stdout)[1]  # type: ignore[index]


def log_of(run: Any) -> str:
    return "\n".join(path.read_text(errors="replace") for path in sorted((run.save / "slurm").glob("*.log")))


def steps_done(run: Any) -> int:
    path = run.save / "metrics.jsonl"
    return max((event["step"] for event in read_metrics(path)), default=0) if path.exists() else 0


def starts(run: Any) -> list[dict[str, Any]]:
    path = run.save / "metrics.jsonl"
    return [event for event in read_all_events(path) if event["event"] == "start"] if path.exists() else []


def reach(run: Any, step: int) -> None:
    wait_for(lambda: steps_done(run) >= step, seconds=120, why=lambda: log_of(run)[-3000:])


def finish(slurm: LocalSlurm, run: Any, job: str) -> None:
    wait_for(
        lambda: slurm.state(job) in ("COMPLETED", "FAILED", "CANCELLED"), seconds=180, why=lambda: log_of(run)[-3000:]
    )
    assert slurm.state(job) == "COMPLETED", log_of(run)[-3000:]


def signalled(slurm: LocalSlurm, job: str) -> None:
    slurm.run("scancel", "--signal=USR1", job)


def requeued(slurm: LocalSlurm, job: str) -> None:
    slurm.run("scontrol", "requeue", job)


def rank_killed(slurm: LocalSlurm, job: str) -> None:
    tasks = [pid for pid in processes_with(f"SLURM_JOB_ID={job}") if b"train.py" in command_of(pid)]
    ranks = [pid for pid in tasks if not command_of(pid).startswith(b"srun")]
    os.kill(ranks[-1], signal.SIGKILL)


def node_killed(slurm: LocalSlurm, job: str) -> None:
    slurm.kill_node(2)
    wait_for(lambda: "down" in " ".join(slurm.states()), seconds=90, why=f"the node is not given up: {slurm.states()}")
    slurm.start_node(2)


@pytest.mark.parametrize(
    "disturbances",
    [
        pytest.param([signalled, rank_killed], id="signal-kill"),
        pytest.param([signalled, requeued, rank_killed, node_killed], id="all", marks=pytest.mark.slow),
    ],
)
def test_a_disturbed_job_comes_back_by_itself(
    slurm: LocalSlurm, tiny_run: Callable[..., Any], disturbances: list[Callable[[LocalSlurm, str], None]]
) -> None:
    steps = 70 * len(disturbances) + 40
    run = tiny_run(**{**SETTINGS, "train_iters": steps})
    finish(slurm, run, submit(slurm, run))
    whole = losses(run.save)
    assert len(whole) == steps and len(starts(run)) == 1 and starts(run)[0]["world_size"] == 4
    shutil.rmtree(run.save)

    job = submit(slurm, run)
    for number, disturb in enumerate(disturbances, start=1):
        reach(run, 70 * number - 10)
        disturb(slurm, job)
        wait_for(
            lambda number=number: len(starts(run)) > number,  # type: ignore[misc]
            seconds=120, why=lambda: log_of(run)[-3000:],
        )  # fmt: skip
    finish(slurm, run, job)
    # Bit for bit: == on floats is meant.
    assert losses(run.save) == whole
    events = read_all_events(run.save / "metrics.jsonl")
    stopped = next(event for event in events if event["event"] == "end")
    assert stopped["reason"] == "stopped: SIGUSR1"
    resumed = [start["resumed_from"] for start in starts(run)]
    assert resumed[1] == stopped["step"], "saved where it was, not twenty steps before"
    assert all(after > before for before, after in itertools.pairwise(resumed[1:]))
    faults = re.findall(r"ended with status (\d+); back into the queue", log_of(run))
    assert faults[0] == "75" and set(faults[1:]) <= {"1", "137", "143"}


@pytest.mark.slow
def test_a_job_whose_time_ends_comes_back(slurm: LocalSlurm, tiny_run: Callable[..., Any]) -> None:
    """The processes know when the job ends, and do not wait for a signal."""
    run = tiny_run(**SETTINGS, time_margin_minutes=0.8, slurm={"time": "1", "signal_seconds": 1})
    job = submit(slurm, run, "train_iters=2000", "checkpoint_factor=1000")
    wait_for(lambda: len(starts(run)) == 2, seconds=120, why=lambda: log_of(run)[-3000:])
    slurm.run("scancel", job)
    stopped = next(event for event in read_all_events(run.save / "metrics.jsonl") if event["event"] == "end")
    # Slurm sends its signal up to a minute earlier than it is asked to.
    known = r"stopped: (SIGUSR1|0\.[12]\d* minutes are left of the job's time)"
    assert re.fullmatch(known, stopped["reason"]), stopped
    assert starts(run)[1]["resumed_from"] == stopped["step"]


@pytest.mark.slow
def test_a_job_that_outlives_its_time_comes_back(slurm: LocalSlurm, tiny_run: Callable[..., Any]) -> None:
    """Slurm ends the job's script as well, which goes back into the queue; not when somebody cancels the job."""
    run = tiny_run(**SETTINGS, slurm={"time": "1", "signal_seconds": 1})
    script = subprocess.run(
        [sys.executable, "deepy.py", "train.py", str(run.config), "--submit", "--dry-run"], cwd=ROOT,
        env=slurm.environment, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    # Processes that hear nothing in place of those that save in time.
    deaf, count = re.subn(r"(?m)^srun .* &$", """srun --ntasks=2 bash -c "trap '' USR1 TERM; sleep 300" &""", script)
    assert count == 1
    (run.save / "slurm").mkdir(parents=True)
    (run.folder / "job.sh").write_text(deaf)
    job = slurm.run("sbatch", "--parsable", str(run.folder / "job.sh")).strip()
    wait_for(lambda: "start 1 of job" in log_of(run), seconds=240, why=lambda: log_of(run)[-3000:])
    assert "the time is over; back into the queue" in log_of(run)
    slurm.run("scancel", job)
    wait_for(lambda: slurm.state(job) == "CANCELLED", seconds=60, why="a job that is cancelled comes back")


def test_a_mistake_does_not_come_back_and_a_fault_only_so_often(
    slurm: LocalSlurm, tiny_run: Callable[..., Any]
) -> None:
    run = tiny_run(**SETTINGS)
    (run.folder / "eng_Latn_train.bin").write_bytes(b"")
    mistaken = submit(slurm, run)
    wait_for(lambda: slurm.state(mistaken) == "FAILED", seconds=60, why=lambda: log_of(run)[-3000:])
    assert "error: " in log_of(run) and "back into the queue" not in log_of(run)

    run = tiny_run(**SETTINGS, save=str(run.folder / "other"), slurm={"max_faults": 1})
    run = dataclasses.replace(run, save=run.folder / "other")
    faulty = submit(slurm, run, "launcher_args=--no-such-option")
    wait_for(lambda: slurm.state(faulty) == "FAILED", seconds=90, why=lambda: log_of(run)[-3000:])
    assert log_of(run).count("back into the queue") == 1
    assert "gives up: 2 failures in a row without a new checkpoint" in log_of(run)


def test_a_plain_command_in_an_allocation_uses_all_of_it(slurm: LocalSlurm, tiny_run: Callable[..., Any]) -> None:
    run = tiny_run(train_iters=2, checkpoint_factor=2, eval_interval=0)
    command = ["salloc", "--nodes=2", "--ntasks-per-node=2", sys.executable, "deepy.py", "train.py", str(run.config)]
    done = subprocess.run(command, cwd=ROOT, env=slurm.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "srun: 2 processes on each of 2 machines: 4 in all" in done.stderr
    assert starts(run)[0]["world_size"] == 4


@pytest.mark.slow
def test_agents_start_their_processes_again(slurm: LocalSlurm, tiny_run: Callable[..., Any]) -> None:
    run = tiny_run(**SETTINGS, max_restarts=1)
    job = submit(slurm, run)
    reach(run, 50)
    rank_killed(slurm, job)
    finish(slurm, run, job)
    assert len(starts(run)) == 2 and starts(run)[1]["resumed_from"] >= 40
    assert "back into the queue" not in log_of(run)
