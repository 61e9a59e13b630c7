"""Which launcher starts a run, and how it is told to."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from megatron.config.schema import LaunchConfig, ParallelConfig
from megatron.launch.hosts import Hosts, read_hosts
from megatron.launch.local import become
from megatron.launch.mpi import installed_mpi, plan_mpi
from megatron.launch.plan import LaunchPlan, Machine, Program, plan_local
from megatron.launch.slurm import Allocation, plan_srun
from megatron.launch.ssh import plan_ssh, run_everywhere
from megatron.launch.tasks import launched_tasks

Launch = dict[str, LaunchPlan]
"""What to run: one command on this machine, under the name ``""``, or, through ssh, one for each machine."""


def plan_launch(
    launch: LaunchConfig,
    parallel: ParallelConfig,
    program: Program,
    *,
    machine: Machine,
    environment: Mapping[str, str],
    working_directory: Path,
) -> Launch:
    """Plan how a run is started, by ``launcher`` and by where this command runs.

    Args:
        launch: how processes are started.
        parallel: how they work together.
        program: what they run.
        machine: this machine.
        environment: this command's variables.
        working_directory: where relative paths begin.

    Raises:
        ValueError: the run cannot be started like this.
    """
    if (tasks := launched_tasks(environment) or 1) > 1:
        raise ValueError(
            f"this is one of {tasks} processes that were started together, and each would start all: run deepy.py "
            "once, or the script itself in each"
        )
    allocation = Allocation.of(environment)
    launcher = launch.launcher
    if launcher == "auto":
        # A login node has Slurm's programs but no allocation; a laptop has neither.
        inside = allocation is not None and shutil.which("srun") is not None
        if allocation is not None and allocation.nodes > 1 and not inside and launch.hostfile is None:
            raise ValueError(
                f"this is a job of Slurm on {allocation.nodes} machines, but srun is not on the PATH (inside a "
                "container?): run deepy.py outside, with slurm.container, or set launcher: local for this machine alone"
            )
        launcher = "ssh" if launch.hostfile is not None else "slurm" if inside else "local"
    if launcher in ("slurm", "local") and (launch.include or launch.exclude):
        raise ValueError(
            "include and exclude choose among the machines of hostfile, which is not used here: under Slurm use "
            "launcher_args or slurm.sbatch_args with --exclude=...; on one machine set CUDA_VISIBLE_DEVICES"
        )
    if launcher == "slurm":
        if allocation is None:
            raise ValueError(
                "launcher is slurm, but this is no job of Slurm (SLURM_JOB_ID is not set): submit one with --submit, "
                "or ask for machines with salloc"
            )
        return {"": plan_srun(launch, parallel, program, allocation=allocation, environment=environment)}
    if launcher == "mpi":
        flavour, hosts = installed_mpi(), _hosts(launch)
        plan = plan_mpi(
            launch, parallel, program, flavour=flavour, hosts=hosts, machine=machine, environment=environment
        )
        return {"": plan}
    if launcher == "ssh":
        hosts = _hosts(launch)
        if hosts is None:
            raise ValueError("launcher is ssh, but hostfile, with a line `name slots=8` for each machine, is not set")
        return plan_ssh(
            launch, parallel, program, hosts=hosts, working_directory=working_directory, environment=environment
        )
    if (launch.num_nodes or 1) > 1:
        raise ValueError(
            f"num_nodes = {launch.num_nodes}, but this command starts processes on this machine only: run it in a job "
            "of Slurm, hand one in with --submit, or name the machines in hostfile"
        )
    return {"": plan_local(launch, parallel, program, machine=machine, environment=environment)}


def run_launch(launch: Launch, *, environment: Mapping[str, str]) -> int:
    """Run what was planned. On this machine the command takes this one's place; through ssh, return its exit status."""
    if set(launch) == {""}:
        become(launch[""], environment=environment)
    return run_everywhere({host: plan.command for host, plan in launch.items()})


def submit(script: Path) -> str:
    """Hand a job script to ``sbatch`` and return what it answers.

    Raises:
        ValueError: Slurm is not there, or does not take the job.
    """
    try:
        done = subprocess.run(["sbatch", str(script)], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise ValueError(f"there is no sbatch here; {script} is written: submit it where Slurm is") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"sbatch does not take {script}: {error.stderr.strip()}") from None
    return done.stdout.strip()


def _hosts(launch: LaunchConfig) -> Hosts | None:
    if launch.hostfile is None:
        if launch.include is not None or launch.exclude is not None:
            raise ValueError("include and exclude choose among the machines of hostfile, which is not set")
        return None
    hosts = read_hosts(Path(launch.hostfile), include=launch.include, exclude=launch.exclude)
    wanted = launch.num_nodes or len(hosts)
    if wanted > len(hosts):
        raise ValueError(f"num_nodes = {wanted} exceeds the {len(hosts)} machines of {launch.hostfile}")
    return dict(list(hosts.items())[:wanted])
