"""A process's place among the others. The only module besides ``launch`` that reads the environment."""

from __future__ import annotations

import ctypes
import dataclasses
import datetime
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

import megatron.launch.agent
from megatron.launch.tasks import JOB_STATUS_VARIABLE, this_task
from megatron.utils.status import EXIT_UNFINISHED

_T = TypeVar("_T")

_SECONDS_TO_LEAVE = 5.0
"""More than a process needs to end once there is nothing left for it to do."""


@dataclasses.dataclass(frozen=True)
class World:
    """The processes of a run, as seen from one of them.

    Attributes:
        rank: number of this process, 0 .. size - 1.
        size: number of processes.
        device: where this process computes.
        timeout_minutes: how long a collective may take before the run is given up.
        ends_at: unix time in seconds at which the job that it belongs to will be ended, where that is known.
    """

    rank: int
    size: int
    device: torch.device
    timeout_minutes: float = 30.0
    ends_at: float | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes what only one may write."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Add a tensor up over all processes, in place, and return it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def largest(self, values: Sequence[float]) -> list[float]:
        """Return the largest of all processes' values, place by place."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor.tolist()

    def each(self, value: float) -> list[float]:
        """Return every process's value, by rank."""
        if self.size == 1:
            return [value]
        own = torch.tensor([value], dtype=torch.float64, device=self.device)
        found = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(found, own)
        return torch.cat(found).tolist()

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()


class Peers:
    """All processes of a run, for small Python objects, over messages that get in the way of no others.

    They have a group of their own, on CPUs, so that a thread can talk while another one trains. Objects travel as
    pickles, from processes of the same run only.

    Args:
        world: the processes, each of which must make its peers at the same time; None for this one alone.
        timeout_minutes: how long one may wait for another, which may still be writing a large file.
    """

    def __init__(self, world: World | None = None, *, timeout_minutes: float = 120.0) -> None:
        self.rank, self.size = (0, 1) if world is None else (world.rank, world.size)
        timeout = datetime.timedelta(minutes=timeout_minutes)
        self.group = dist.new_group(backend="gloo", timeout=timeout) if self.size > 1 else None

    @property
    def is_main(self) -> bool:
        """Whether this process does what only one may do."""
        return self.rank == 0

    def gather(self, value: _T) -> list[_T] | None:
        """Return the values of all processes, by rank, in the main one; None in the others."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.is_main else None
        dist.gather_object(value, values, dst=0, group=self.group)
        return values

    def scatter(self, values: Sequence[_T] | None) -> _T:
        """Return this process's one of the values that the main process gives, one for each."""
        if self.size == 1:
            assert values is not None
            return values[0]
        own: list[Any] = [None]
        dist.scatter_object_list(own, None if values is None else list(values), src=0, group=self.group)
        return own[0]  # type: ignore[no-any-return]

    def broadcast(self, value: _T | None) -> _T:
        """Return the main process's value."""
        values: list[Any] = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0, group=self.group)
        return values[0]  # type: ignore[no-any-return]

    def from_main(self, function: Callable[[], _T]) -> _T:
        """Return what ``function`` returns in the main process, the only one that calls it.

        Raises:
            ValueError: or OSError: what it raises there is raised in all. Another error is raised there, and a
                RuntimeError that names it in the others.
        """
        value: _T | None = None
        error: Exception | None = None
        if self.is_main:
            try:
                value = function()
            except (ValueError, OSError) as problem:
                error = problem
            except Exception as problem:
                self.broadcast((None, RuntimeError(f"the first process failed: {problem!r}")))
                raise
        value, error = self.broadcast((value, error))
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier(group=self.group)


@contextmanager
def joined_world(
    *, backend: str | None = None, num_threads: int | None = None, timeout_minutes: float = 30.0
) -> Iterator[World]:
    """Join the processes that the launcher started, and leave them again at the end.

    Rank and size come from torchrun, Slurm or MPI (:func:`megatron.launch.tasks.this_task`); where none of them has
    started it, this process is alone, and no process group is made.

    Args:
        backend: ``nccl`` or ``gloo``; by default ``nccl`` where CUDA is, ``gloo`` elsewhere.
        num_threads: CPU threads of this process; by default what PyTorch chooses.
        timeout_minutes: how long a collective may take before the run is given up.
    """
    task = this_task(os.environ)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _die_with_the_parent()
    use_cuda = torch.cuda.is_available() and backend != "gloo"
    if backend == "nccl" and not use_cuda:
        raise ValueError("distributed_backend is nccl, but this machine has no CUDA device; use gloo, or leave it out")
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    device = torch.device("cuda", _gpu(task.local_rank)) if use_cuda else torch.device("cpu")
    if use_cuda:
        torch.cuda.set_device(device)
    else:
        keep_freed_memory()
    if task.size > 1:
        dist.init_process_group(
            backend or ("nccl" if use_cuda else "gloo"),
            # torchrun has made a place to meet, which it keeps when it starts the processes again.
            init_method="env://" if task.address is None else f"tcp://{task.address}",
            rank=task.rank,
            world_size=task.size,
            timeout=datetime.timedelta(minutes=timeout_minutes),
            device_id=device if use_cuda else None,
        )
    try:
        ends_at = os.environ.get("SLURM_JOB_END_TIME", "")
        yield World(
            rank=task.rank,
            size=task.size,
            device=device,
            timeout_minutes=timeout_minutes,
            ends_at=float(ends_at) if ends_at.isdecimal() else None,
        )
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def keep_freed_memory() -> None:
    """Let the C library keep large blocks of memory that are freed, for those that ask next.

    glibc hands every freed block above some size back to the system, and the next step gets it anew, page by page and
    filled with zeros (measured: docs/performance.md). The process then stays as large as it ever was, and somewhat
    larger where small blocks that live long lie between large ones. Where the C library is another one, nothing
    changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is None:
        return
    trim_threshold, most_maps = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of <malloc.h>
    mallopt(most_maps, 0)  # no block gets pages of its own
    mallopt(trim_threshold, -1)  # and none of those at the end of the heap is handed back


def leave(status: int) -> int:
    """Return the exit status to end with, for a process that has ended for a reason of its own.

    srun and mpirun end all processes when one does not end with 0, and then tell of those that they have ended. So the
    status is also written down where a job's script wants to know it (``EMMA_NEOX_JOB_STATUS``), and when all is saved
    and work is left, the others leave before the first one does.

    Args:
        status: :data:`EXIT_MISTAKE` or :data:`EXIT_UNFINISHED`.
    """
    if told := os.environ.get(JOB_STATUS_VARIABLE):
        Path(told).write_text(str(status), encoding="ascii")
    task = this_task(os.environ)
    if task.address is None:
        return megatron.launch.agent.leave(status, os.environ)
    if status != EXIT_UNFINISHED:
        return status
    if task.rank > 0:
        return 0
    time.sleep(_SECONDS_TO_LEAVE)
    return EXIT_UNFINISHED


def _gpu(local_rank: int) -> int:
    """Return the number of this process's GPU: its own where it sees all of a machine, else the only one it sees."""
    return 0 if torch.cuda.device_count() == 1 else local_rank


def _die_with_the_parent() -> None:
    """Ask Linux to kill this process when torchrun, its parent, dies.

    torchrun gives its workers sessions of their own: without this, a killed launcher would leave them training, and
    writing, behind the back of the next start.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
    ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)  # it died in between
