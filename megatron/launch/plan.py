"""What to run: pure functions from the configuration and the machine to a command and its environment."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
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
class Program:
    """What every process runs.

    Attributes:
        script: such as ``train.py``.
        config_path: the resolved configuration, which every process reads.
        python: the interpreter, and what starts it in a container.
    """

    script: Path
    config_path: Path
    python: Sequence[str] = (sys.executable,)

    @property
    def command(self) -> list[str]:
        """The command of one process; lines that it prints do not wait for others."""
        return [*self.python, "-u", *self.arguments]

    @property
    def arguments(self) -> list[str]:
        """The script and its arguments."""
        return [str(self.script), "--config", str(self.config_path)]

    def under_agent(self, *options: str) -> list[str]:
        """Return the command of a machine's agent, which starts its processes and starts them again when one fails."""
        return [*self.python, "-m", "megatron.launch.agent", *options, *self.arguments]


@dataclasses.dataclass(frozen=True)
class LaunchPlan:
    """A command, ready to run.

    Attributes:
        command: program and arguments, without a shell.
        environment: variables to add to the launcher's own.
        nodes: number of machines.
        per_node: training processes on each.
        launcher: by what they are started, for people.
    """

    command: list[str]
    environment: dict[str, str]
    nodes: int = 1
    per_node: int = 1
    launcher: str = "local"

    @property
    def world_size(self) -> int:
        """Number of training processes."""
        return self.nodes * self.per_node

    def __str__(self) -> str:
        """Return the plan as a line for a shell."""
        return shlex.join([*(f"{name}={value}" for name, value in self.environment.items()), *self.command])

    @property
    def summary(self) -> str:
        """Say in a few words what is started where."""
        what = f"{self.per_node:,} process{'es' if self.per_node > 1 else ''}"
        where = f" on each of {self.nodes:,} machines: {self.world_size:,} in all" if self.nodes > 1 else ""
        return f"{self.launcher}: {what}{where}"


def num_processes(launch: LaunchConfig, machine: Machine) -> int:
    """Return how many processes to start on this machine: ``num_gpus``, else one per GPU, else one."""
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
    program: Program,
    *,
    machine: Machine,
    environment: Mapping[str, str],
) -> LaunchPlan:
    """Plan a run on this machine.

    A single process is started plainly: it needs no process group, so a laptop pays for none. Several are started by
    torchrun's agent, which picks a free port.

    Args:
        launch: number of processes.
        parallel: threads per process.
        program: what they run.
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
    if world_size > 1 or launch.max_restarts:
        options = ["--standalone", "--nproc-per-node", str(world_size), "--max-restarts", str(launch.max_restarts)]
        command = program.under_agent(*options)
    else:
        command = program.command
    cores = None if on_gpus else machine.num_cores
    return LaunchPlan(command, added_environment(launch, parallel, environment, cores, world_size), 1, world_size)


def added_environment(
    launch: LaunchConfig,
    parallel: ParallelConfig,
    environment: Mapping[str, str],
    num_cores: int | None,
    processes: int,
) -> dict[str, str]:
    """Return the variables that a run's processes get besides the launcher's own.

    Args:
        launch: names some.
        parallel: threads per process.
        environment: the launcher's variables; what the user set there is kept.
        num_cores: cores of a machine that its processes share out, or None where each may use what it likes.
        processes: processes of a machine.
    """
    added = {name: value for name, value in launch.environment.items() if name not in environment}
    threads = parallel.num_threads
    if threads is None and num_cores is not None:
        threads = max(1, num_cores // processes)
    if threads is not None and "OMP_NUM_THREADS" not in {**environment, **added}:
        added["OMP_NUM_THREADS"] = str(threads)
    return added
