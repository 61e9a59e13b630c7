"""What to run: a pure function from the configuration and the machine to a command and its environment."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from megatron.config.schema import LaunchConfig, ParallelConfig


@dataclasses.dataclass(frozen=True)
class Machine:
    """What the launcher found out about this machine.

    Attributes:
        num_gpus: accelerators that a process here may use.
        num_cores: CPU cores that a process here may use.
    """

    num_gpus: int
    num_cores: int


@dataclasses.dataclass(frozen=True)
class LaunchPlan:
    """A command, ready to run.

    Attributes:
        command: program and arguments, without a shell.
        environment: variables to add to the launcher's own.
        world_size: number of training processes.
    """

    command: list[str]
    environment: dict[str, str]
    world_size: int

    def __str__(self) -> str:
        """Return the plan as a line for a shell."""
        return shlex.join([*(f"{name}={value}" for name, value in self.environment.items()), *self.command])


def num_processes(launch: LaunchConfig, machine: Machine) -> int:
    """Return how many processes to start: ``num_gpus``, else one per GPU, else one."""
    return launch.num_gpus or machine.num_gpus or 1


def machine_problems(launch: LaunchConfig, parallel: ParallelConfig, machine: Machine) -> list[str]:
    """Return why a run as configured cannot start on this machine; empty when it can.

    Args:
        launch: number of processes.
        parallel: how they are to talk to each other.
        machine: what there is to run on.
    """
    backend, processes = parallel.distributed_backend, num_processes(launch, machine)
    if backend == "nccl" and not machine.num_gpus:
        return ["distributed_backend = nccl, but no GPU is visible here. Use gloo, or leave the key out."]
    if backend != "gloo" and 0 < machine.num_gpus < processes:
        return [
            f"num_gpus = {processes} exceeds the {machine.num_gpus} GPUs that are visible here. "
            "Lower num_gpus, or make more GPUs visible."
        ]
    return []


def plan_local(
    launch: LaunchConfig,
    parallel: ParallelConfig,
    *,
    script: Path,
    config_path: Path,
    machine: Machine,
    environment: Mapping[str, str],
) -> LaunchPlan:
    """Plan a run on this machine.

    A single process is started plainly: it needs no process group, so a laptop pays for none. Several are started by
    ``torchrun``, which picks a free port.

    Args:
        launch: number of processes.
        parallel: threads per process.
        script: program to run, such as ``train.py``.
        config_path: the resolved configuration, which every process reads.
        machine: what there is to run on.
        environment: the launcher's variables; what the user set there is kept.

    Raises:
        ValueError: more processes than GPUs are asked for on a machine with GPUs.
    """
    # Without a visible GPU nothing is refused: there may be some that cannot be counted, and the script looks itself.
    if machine.num_gpus and (problems := machine_problems(launch, parallel, machine)):
        raise ValueError("\n".join(problems))
    world_size = num_processes(launch, machine)
    on_gpus = machine.num_gpus > 0 and parallel.distributed_backend != "gloo"
    command = [sys.executable]
    if world_size > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world_size)]
    command += [str(script), "--config", str(config_path)]
    added = {}
    if "OMP_NUM_THREADS" not in environment:
        threads = parallel.num_threads
        if threads is None and not on_gpus:
            threads = max(1, machine.num_cores // world_size)
        if threads is not None:
            added["OMP_NUM_THREADS"] = str(threads)
    return LaunchPlan(command, added, world_size)
