"""Runs that ``mpirun`` starts: Open MPI, or MPICH and its kin (Intel MPI, MVAPICH). Training itself uses no MPI."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from typing import Literal

from megatron.config.schema import LaunchConfig, ParallelConfig
from megatron.launch.hosts import Hosts
from megatron.launch.plan import LaunchPlan, Machine, Program, added_environment, num_processes
from megatron.launch.slurm import master
from megatron.launch.tasks import port_of

Flavour = Literal["Open MPI", "MPICH"]
_QUERY_SECONDS = 30


def installed_mpi() -> Flavour:
    """Return whose ``mpirun`` is found first.

    Raises:
        ValueError: there is none.
    """
    if shutil.which("mpirun") is None:
        raise ValueError(
            "launcher is mpi, but there is no mpirun on the PATH: load the cluster's MPI module, or install one "
            "(Debian: apt-get install openmpi-bin)"
        )
    try:
        answer = subprocess.run(["mpirun", "--version"], capture_output=True, text=True, timeout=_QUERY_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise ValueError(f"mpirun does not say which one it is: {error}") from None
    return "Open MPI" if "open mpi" in answer.stdout.lower() or "openrte" in answer.stdout.lower() else "MPICH"


def plan_mpi(
    launch: LaunchConfig,
    parallel: ParallelConfig,
    program: Program,
    *,
    flavour: Flavour,
    hosts: Hosts | None,
    machine: Machine,
    environment: Mapping[str, str],
) -> LaunchPlan:
    """Plan a run under ``mpirun``; every process learns its rank from it.

    Args:
        launch: number of machines and processes.
        parallel: threads per process.
        program: what they run.
        flavour: whose ``mpirun`` it is.
        hosts: the machines; None for this one.
        machine: this machine.
        environment: the launcher's variables; what the user set there is kept.

    Raises:
        ValueError: the machines have different numbers of slots.
    """
    if launch.max_restarts:
        raise ValueError("max_restarts is torchrun's: use launcher local, slurm or ssh, or leave the key out")
    nodes = 1 if hosts is None else len(hosts)
    per_node = num_processes(launch, machine) if hosts is None else slots_per_host(hosts, launch)
    cores = None if machine.num_gpus and parallel.distributed_backend != "gloo" else machine.num_cores
    added = added_environment(launch, parallel, environment, cores, per_node)
    if hosts is not None:
        if moved := [host for host, slots in hosts.items() if slots[:per_node] != list(range(per_node))]:
            raise ValueError(
                f"include and exclude leave other slots of {moved[0]} than its first ones, and mpirun does not tell "
                "processes which GPUs are theirs: choose whole machines, or use launcher: ssh"
            )
        added["MASTER_ADDR"] = next(iter(hosts))
        added |= {name: environment[name] for name in launch.environment if name in environment}
    added["MASTER_PORT"] = str(port_of(f"mpi {program.config_path}"))
    added |= master(launch)
    command = ["mpirun", "-n", str(nodes * per_node)]
    # Processes of several threads must not be bound to one core each, which is what mpirun does by itself.
    if flavour == "Open MPI":
        command += ["--bind-to", "none"]
        if hosts is not None:
            named = ",".join(f"{host}:{per_node}" for host in hosts)
            command += ["--host", named, "--map-by", f"ppr:{per_node}:node"]
        command += [part for name, value in added.items() for part in ("-x", f"{name}={value}")]
    else:
        command += ["-bind-to", "none"]
        if hosts is not None:
            command += ["-hosts", ",".join(hosts), "-ppn", str(per_node)]
        command += [part for name, value in added.items() for part in ("-genv", name, value)]
    return LaunchPlan([*command, *launch.launcher_args, *program.command], {}, nodes, per_node, f"mpirun ({flavour})")


def slots_per_host(hosts: Hosts, launch: LaunchConfig) -> int:
    """Return how many processes each machine gets: ``num_gpus``, else its slots, which must be as many everywhere.

    Raises:
        ValueError: they are not, or ``num_gpus`` exceeds them.
    """
    counts = {host: len(slots) for host, slots in hosts.items()}
    fewest, most = min(counts, key=lambda host: counts[host]), max(counts, key=lambda host: counts[host])
    if launch.num_gpus is not None:
        if launch.num_gpus > counts[fewest]:
            raise ValueError(f"num_gpus = {launch.num_gpus} exceeds the {counts[fewest]} slots of {fewest}")
        return launch.num_gpus
    if counts[fewest] != counts[most]:
        raise ValueError(
            f"{fewest} has {counts[fewest]} slots and {most} has {counts[most]}, but every machine must run as many "
            "processes: give num_gpus, or leave slots out with include or exclude"
        )
    return counts[fewest]
