"""Running a plan on this machine, and finding out what the machine has without importing torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from megatron.launch.plan import LaunchPlan, Machine

_VISIBLE_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_NVIDIA_PROC = Path("/proc/driver/nvidia/gpus")
_QUERY_SECONDS = 30


def this_machine(environment: Mapping[str, str]) -> Machine:
    """Count the GPUs and CPU cores that a child process could use."""
    # Only Linux tells which cores this process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(num_gpus=_count_gpus(environment), num_cores=cores)


def become(plan: LaunchPlan, *, environment: Mapping[str, str]) -> NoReturn:
    """Become the planned command: this process ends, and the command goes on in its place.

    There is no launcher left over that could outlive the run, be killed without it, or have to pass signals on.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(plan.command[0], plan.command, {**environment, **plan.environment})


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
