from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from megatron.launch.local import run, this_machine
from megatron.launch.plan import LaunchPlan

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


def python(code, **environment):
    return LaunchPlan([sys.executable, "-c", code], environment, 1)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", 0),
        ("raise SystemExit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("import os; raise SystemExit(os.environ['GIVEN'] != 'a $HOME;b')", 0),
    ],
)
def test_exit_code_of_the_child(code, expected):
    assert run(python(code, GIVEN="a $HOME;b"), environment=os.environ) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_child_once_and_it_decides(number, tmp_path):
    log = tmp_path / "log"
    child = (
        "import pathlib, signal, sys, time\n"
        f"log = pathlib.Path({str(log)!r})\n"
        "seen = []\n"
        f"signal.signal({int(number)}, lambda *_: seen.append(1))\n"
        "log.write_text('ready')\n"
        "end = time.time() + 30\n"
        "while not seen and time.time() < end: time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        "log.write_text(f'saved {len(seen)}')\n"
        "sys.exit(3)\n"
    )
    code = (
        "import os, sys\n"
        "from megatron.launch.local import run\n"
        "from megatron.launch.plan import LaunchPlan\n"
        f"sys.exit(run(LaunchPlan([sys.executable, '-c', {child!r}], {{}}, 1), environment=os.environ))\n"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True)
    end = time.time() + 30
    while not (log.exists() and log.read_text() == "ready") and time.time() < end:
        time.sleep(0.02)
    os.killpg(launcher.pid, number)  # as a terminal does: to the whole group
    assert launcher.wait(timeout=30) == 3
    assert log.read_text() == "saved 1"
