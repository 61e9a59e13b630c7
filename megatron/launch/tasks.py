"""What a launcher tells each of the processes that it has started: their number, and which of them each is."""

from __future__ import annotations

import dataclasses
import re
import socket
import zlib
from collections.abc import Mapping

# Open MPI's mpirun; PMI (MPICH, Hydra, Cray); Slurm's srun, which may itself have started one of the others' daemons.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
_LOCALHOST = "127.0.0.1"
_FIRST_PORT, _NUM_PORTS = 10_000, 20_000
"""Below the ports that Linux gives away by itself, from 32,768 on."""


JOB_STATUS_VARIABLE = "EMMA_NEOX_JOB_STATUS"
"""Names the file in which a process leaves the status that it ends with on purpose, for the script of its job."""


@dataclasses.dataclass(frozen=True)
class Task:
    """The place of a process among those that were started together.

    Attributes:
        rank: its number among all of them.
        size: how many there are.
        local_rank: its number on its machine.
        address: where the first of them is met, ``host:port``; None where torchrun has seen to that.
    """

    rank: int
    size: int
    local_rank: int
    address: str | None


def this_task(environment: Mapping[str, str]) -> Task:
    """Return the place of this process, from the variables of torchrun, Slurm, Open MPI, or MPICH and its kin.

    Without any of them the process is alone.

    Args:
        environment: the process's environment variables.

    Raises:
        ValueError: the processes are on several machines, and nothing says which is the first.
    """
    if "RANK" in environment:
        size, local = int(environment.get("WORLD_SIZE", "1")), int(environment.get("LOCAL_RANK", "0"))
        return Task(int(environment["RANK"]), size, local, None)
    size = launched_tasks(environment) or 1
    if size == 1:
        return Task(0, 1, 0, None)
    ranks: tuple[str, ...]
    if _is_slurm_step(environment):
        ranks, host = ("SLURM_PROCID", "SLURM_LOCALID"), _first_slurm_host(environment)
        own = f"slurm {environment.get('SLURM_JOB_ID')} {environment.get('SLURM_STEP_ID')}"
    elif "OMPI_COMM_WORLD_RANK" in environment:
        ranks = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")
        host = _LOCALHOST if environment.get("OMPI_COMM_WORLD_LOCAL_SIZE") == str(size) else None
        own = environment.get("PMIX_NAMESPACE", "open mpi")
    else:
        ranks, own = ("PMI_RANK", "MPI_LOCALRANKID", "PMI_LOCAL_RANK", "PALS_LOCAL_RANKID"), "pmi"
        host = _LOCALHOST if environment.get("MPI_LOCALNRANKS") == str(size) else None
    host = environment.get("MASTER_ADDR", host)
    if host is None:
        raise ValueError(
            f"{size} processes were started on several machines, and MASTER_ADDR does not say where the first one is: "
            "start them with deepy.py, or export MASTER_ADDR with the name of the first machine"
        )
    port = environment.get("MASTER_PORT") or str(port_of(own))
    rank, *local_ranks = [environment.get(name) for name in ranks]
    local_rank = next((number for number in local_ranks if number is not None), None)
    if rank is None or local_rank is None:
        raise ValueError(
            f"{size} processes were started, but {', '.join(ranks)} do not say which of them this is: start them with "
            "deepy.py, srun, or the mpirun of Open MPI or MPICH"
        )
    return Task(int(rank), size, int(local_rank), f"{host}:{port}")


def port_of(name: str) -> int:
    """Return a port for those who know a name, such as that of a job; another name most probably has another one."""
    return _FIRST_PORT + zlib.crc32(name.encode()) % _NUM_PORTS


def launched_tasks(environment: Mapping[str, str]) -> int | None:
    """Return how many processes a launcher has started beside this one, with it; None where none says so.

    Args:
        environment: the process's environment variables.
    """
    # Inside an allocation SLURM_NTASKS is set for plain commands, too; only srun sets SLURM_PROCID as a step's.
    names = (*_SIZES, "SLURM_NTASKS") if "SLURM_STEP_ID" in environment else _SIZES
    found = (environment[name] for name in names if environment.get(name, "").isdecimal())
    return next((int(size) for size in found), None)


def _is_slurm_step(environment: Mapping[str, str]) -> bool:
    """Whether srun has started this process itself, and not one of the MPI launchers inside an allocation."""
    return "SLURM_STEP_ID" in environment and not {"OMPI_COMM_WORLD_SIZE", "MPI_LOCALRANKID"} & environment.keys()


def _first_slurm_host(environment: Mapping[str, str]) -> str | None:
    """Return the machine of a step's first process: its name, or the address that srun gives where it has none."""
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    first = first_node(nodes)
    if first is not None and is_known(first):
        return first
    return environment.get("SLURM_LAUNCH_NODE_IPADDR")


def is_known(host: str) -> bool:
    """Whether the name of a machine leads somewhere."""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def first_node(nodes: str) -> str | None:
    """Return the first name of a list as Slurm writes it, such as ``lrdn[0012-0020,0031],login1``."""
    one = re.match(r"([^,\[\]]|\[[^\]]*\])+", nodes)
    return None if one is None else re.sub(r"\[([^,\]-]+)[^\]]*\]", r"\1", one[0])
