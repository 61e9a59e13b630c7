from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from megatron.launch.local import this_machine

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("visible", "expected"), [("0,1,2", 3), ("", 0), ("-1", 0), ("0,-1,1", 1), ("GPU-ab12, MIG-cd34", 2)]
)
def test_visible_devices_are_counted_as_cuda_does(visible, expected):
    assert this_machine({"CUDA_VISIBLE_DEVICES": visible}).num_gpus == expected


def test_nvidia_smi_is_asked(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: x (UUID: a)'\necho '  MIG 1g Device 0'\necho 'GPU 1: x (UUID: b)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert this_machine({}).num_gpus == 2
    program.write_text("#!/bin/sh\nexit 9\n")
    assert this_machine({}).num_gpus == len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def test_there_is_at_least_one_core():
    assert this_machine({}).num_cores >= 1


def launched(code: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start a process that becomes ``python -c code``."""
    plan = (
        "import os, sys\n"
        "from megatron.launch.local import become\n"
        "from megatron.launch.plan import LaunchPlan\n"
        f"become(LaunchPlan([sys.executable, '-c', {code!r}], {environment!r}), environment=os.environ)\n"
    )
    return subprocess.Popen([sys.executable, "-c", plan], cwd=ROOT)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", 0),
        ("raise SystemExit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import os; raise SystemExit(os.environ['GIVEN'] != 'a $HOME;b')", 0),
    ],
)
def test_exit_code_is_the_commands(code, expected):
    assert launched(code, GIVEN="a $HOME;b").wait(timeout=30) == expected


def test_the_command_takes_the_launchers_place(tmp_path):
    # One process id: whoever kills or signals the launcher kills or signals the run.
    log = tmp_path / "log"
    process = launched(f"import os, pathlib; pathlib.Path({str(log)!r}).write_text(str(os.getpid()))")
    assert process.wait(timeout=30) == 0
    assert int(log.read_text()) == process.pid
