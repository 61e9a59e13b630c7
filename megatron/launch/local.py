"""Running a plan on this machine, and finding out what the machine has without importing torch."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from megatron.launch.plan import LaunchPlan, Machine

_VISIBLE_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_NVIDIA_PROC = Path("/proc/driver/nvidia/gpus")
_QUERY_SECONDS = 30
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def this_machine(environment: Mapping[str, str]) -> Machine:
    """Count the GPUs and CPU cores that a child process could use."""
    # Only Linux tells which cores this process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(num_gpus=_count_gpus(environment), num_cores=cores)


def run(plan: LaunchPlan, *, environment: Mapping[str, str]) -> int:
    """Run a plan to its end and return its exit code.

    SIGINT, SIGTERM and SIGHUP are passed on, and the child decides what to do: a trainer saves first. A child that a
    signal ended gives 128 plus the signal's number, as in a shell.
    """
    # A group of its own: the terminal's Ctrl-C then reaches the child once, through the launcher.
    child = subprocess.Popen(plan.command, env={**environment, **plan.environment}, start_new_session=True)
    with _forwarding_to(child):
        code = child.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _forwarding_to(child: subprocess.Popen[bytes]) -> Iterator[None]:
    def forward(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _count_gpus(environment: Mapping[str, str]) -> int:
    for name in _VISIBLE_DEVICES:
        if name in environment:
            # As CUDA reads it: devices after the first negative or empty entry do not exist.
            listed = 0
            for device in environment[name].split(","):
                if not device.strip() or device.strip().startswith("-"):
                    break
                listed += 1
            return listed
    return _count_nvidia_gpus()


def _count_nvidia_gpus() -> int:
    try:
        answer = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_QUERY_SECONDS, check=True
        ).stdout
        return sum(line.startswith("GPU ") for line in answer.splitlines())
    except (OSError, subprocess.SubprocessError):
        return len(list(_NVIDIA_PROC.iterdir())) if _NVIDIA_PROC.is_dir() else 0
