"""Runs on the machines of a hostfile: two names of this machine, reached through a real ssh daemon."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.slurm import processes_with, wait_for
from tests.records import losses

ROOT = Path(__file__).resolve().parents[2]
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = pytest.mark.skipif(
    SSHD is None or os.geteuid() != 0, reason="needs sshd (apt-get install openssh-server) and root"
)
LONG = {"train_iters": 5000, "checkpoint_factor": 5000, "eval_interval": 0}


@pytest.fixture(scope="module")
def ssh_args(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a daemon with keys of its own, and return the arguments that ssh needs for it."""
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([
        str(SSHD), "-D", "-e", "-f", "/dev/null", "-p", str(port), "-h", str(folder / "host"), "-o", "UsePAM=no",
        "-o", "StrictModes=no", "-o", f"AuthorizedKeysFile={folder}/user.pub", "-o", "PermitRootLogin=yes",
    ], stderr=subprocess.DEVNULL)  # fmt: skip
    arguments = (
        f"-p {port} -i {folder}/user -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    )
    answers = ["ssh", "-o", "BatchMode=yes", *arguments.split(), "127.0.0.1", "true"]
    wait_for(lambda: subprocess.run(answers).returncode == 0, seconds=30, why="sshd does not answer")
    yield arguments
    process.terminate()
    process.wait()


def start(run: Any, *settings: str) -> subprocess.Popen[str]:
    command = [sys.executable, "deepy.py", "train.py", str(run.config), *settings]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def hostfile(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 slots=2\n127.0.0.2 slots=2\n127.0.0.3 slots=2\n")
    return path


def test_two_machines(tiny_run: Callable[..., Any], hostfile: Path, ssh_args: str) -> None:
    run = tiny_run(hostfile=str(hostfile), launcher_args=ssh_args)
    assert start(run, "num_gpus=4", "launcher=local").wait(timeout=120) == 0
    expected = losses(run.save)
    shutil.rmtree(run.save)
    process = start(run, "exclude=127.0.0.3")
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, out + errors
    assert "ssh: 2 processes on each of 2 machines: 4 in all" in errors
    assert "[127.0.0.1] step " in out or "[127.0.0.2] step " in out, "what the machines print has their names before it"
    assert losses(run.save) == expected


def test_when_one_ends_all_do(tiny_run: Callable[..., Any], hostfile: Path, ssh_args: str) -> None:
    run = tiny_run(**LONG, hostfile=str(hostfile), launcher_args=ssh_args)
    process = start(run, "include=127.0.0.1@127.0.0.2")
    wait_for(lambda: len(losses(run.save)) > 3, seconds=90, why="the run does not advance")
    ranks = processes_with("LOCAL_WORLD_SIZE=2")
    assert len(ranks) == 4
    os.kill(ranks[-1], signal.SIGKILL)
    out, errors = process.communicate(timeout=120)
    assert process.returncode not in (0, None), out
    assert "ended with status" in errors
    wait_for(lambda: not processes_with("LOCAL_WORLD_SIZE=2"), seconds=30, why="processes live on")


def test_a_machine_that_is_not_there(tiny_run: Callable[..., Any], tmp_path: Path, ssh_args: str) -> None:
    hosts = tmp_path / "hosts"
    run = tiny_run(hostfile=str(hosts), launcher_args=ssh_args)
    hosts.write_text("127.0.0.1 slots=1\nno-such-machine.invalid slots=1\n")
    process = start(run)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 255
    assert "no-such-machine.invalid: ssh could not reach it, or lost it" in errors, out + errors


def test_a_run_that_is_ended_saves_first(tiny_run: Callable[..., Any], hostfile: Path, ssh_args: str) -> None:
    run = tiny_run(**LONG, hostfile=str(hostfile), launcher_args=ssh_args)
    process = start(run, "exclude=127.0.0.3")
    wait_for(lambda: len(losses(run.save)) > 3, seconds=90, why="the run does not advance")
    process.terminate()
    out, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    wait_for(lambda: not processes_with("LOCAL_WORLD_SIZE=2"), seconds=30, why="processes live on")
    assert (run.save / "latest").exists(), out + errors
