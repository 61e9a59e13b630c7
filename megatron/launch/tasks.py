"""What a launcher of MPI programs or Slurm tells the processes that it has started."""

from __future__ import annotations

from collections.abc import Mapping

# Slurm's srun; PMI (MPICH, Hydra, Cray); Open MPI's mpirun.
_SIZES = ("SLURM_STEP_NUM_TASKS", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")


def launched_tasks(environment: Mapping[str, str]) -> int | None:
    """Return how many processes a launcher has started beside this one, with it; None where none says so.

    Args:
        environment: the process's environment variables.
    """
    # Inside an allocation SLURM_NTASKS is set for plain commands, too; only srun sets SLURM_PROCID as a step's.
    names = (*_SIZES, "SLURM_NTASKS") if "SLURM_STEP_ID" in environment else _SIZES
    found = (environment[name] for name in names if environment.get(name, "").isdecimal())
    return next((int(size) for size in found), None)
