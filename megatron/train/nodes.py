"""Whether every machine of a run computes, remembers, writes and sends as it should, before days are spent on it."""

from __future__ import annotations

import errno
import os
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from megatron.parallel.process import Peers, World
from megatron.utils.log import get_logger
from megatron.utils.table import text_table

logger = get_logger(__name__)

_SLOW = 0.5
"""Of the median of all processes: a machine below that holds all others up, or is broken."""
_REPETITIONS = 3


class NodeError(RuntimeError):
    """A machine computes wrongly or cannot write; it should be left out of the run."""


class Measured(NamedTuple):
    """What one process has measured.

    Attributes:
        host: its machine.
        device: where it computes.
        matmul: 10^12 floating-point operations a second, in bfloat16 on a GPU and float32 on a CPU.
        memory: GB/s of a copy in the device's memory, read and written.
        disk: MB/s of a file in the run's folder.
        messages: GB/s of a sum over all processes, as each of them sends and receives; None with one process.
        wrong: what is wrong with the machine, empty if nothing is.
    """

    host: str
    device: str
    matmul: float
    memory: float
    disk: float
    messages: float | None
    wrong: str


def check_nodes(world: World, peers: Peers, folder: Path) -> list[str]:
    """Measure every process at the same time, show the machines as a table, and return what looks slow.

    A process that measures less than half of the median of all is named, with its machine. It may be a broken GPU, or a
    machine on which something else runs; whether that matters is for people to say.

    Args:
        world: the processes; every one of them calls this.
        peers: the same, for what they have measured.
        folder: the run's folder; each process writes and deletes a file there.

    Returns:
        One line for each process and measurement, in every process alike.

    Raises:
        NodeError: a machine computes wrongly, or cannot write; in every process alike.
    """
    # Machines that are broken are found before the first message goes over the network that is measured.
    found = _of_all(peers, _measure(world, folder))
    if world.size > 1 and not any(one.wrong for one in found):
        found = _of_all(peers, found[world.rank]._replace(messages=_messages(world)))
    wrong = [f"{one.host}, process {rank}: {one.wrong}" for rank, one in enumerate(found) if one.wrong]
    if world.is_main:
        logger.info("machines:\n%s", _table(found))
    if wrong:
        hosts = ",".join(dict.fromkeys(one.host for one in found if one.wrong))
        advice = f"Leave {hosts} out (Slurm: --exclude={hosts}; hostfile: exclude) and tell whoever looks after it"
        raise NodeError("\n".join(["these machines are not fit for the run:", *wrong, advice]))
    return [line for name in ("matmul", "memory", "disk", "messages") for line in _slow(found, name)]


def _of_all(peers: Peers, own: Measured) -> list[Measured]:
    found = peers.broadcast(peers.gather(own))
    assert found is not None
    return found


def _measure(world: World, folder: Path) -> Measured:
    device, problems = world.device, []
    matmul, memory, disk = 0.0, 0.0, 0.0
    try:
        matmul, right = _matmul(device)
        if not right:
            problems.append("matrix products come out wrong")
        memory, same = _memory(device)
        if not same:
            problems.append("memory does not give back what was put into it")
    except RuntimeError as error:  # CUDA's errors, and memory that is not there
        problems.append(f"{error}".splitlines()[0])
    try:
        disk = _disk(folder, world.rank)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # of all machines alike, and saves have their own patience
            logger.warning("%s: %s", folder, error.strerror)
        else:
            problems.append(f"{folder} cannot be written to: {error.strerror}")
    try:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    except RuntimeError:
        name = str(device)
    return Measured(socket.gethostname(), name, matmul, memory, disk, None, "; ".join(problems))


def _matmul(device: torch.device) -> tuple[float, bool]:
    """Return 10^12 operations a second of a matrix product, and whether it is right.

    Whole numbers small enough to be exact in every format make a product that is known: any bit that is wrong shows.
    """
    on_gpu = device.type == "cuda"
    size, dtype = (8192, torch.bfloat16) if on_gpu else (768, torch.float32)
    signs = torch.ones(size, device=device, dtype=dtype)
    signs[1::2] = -1
    # Each element of the product is a sum of `size` terms of 1, with the sign of its column.
    left, right = torch.ones(size, size, device=device, dtype=dtype), signs.expand(size, size).contiguous()
    product = left @ right
    seconds = _seconds(lambda: left @ right, device)
    return 2 * size**3 / seconds / 1e12, bool((product == size * signs).all())


def _memory(device: torch.device) -> tuple[float, bool]:
    """Return GB/s of a copy, and whether what was copied is the same."""
    size = (1 << 30) if device.type == "cuda" else (1 << 26)
    pattern = torch.arange(size // 8, device=device, dtype=torch.int64)
    copy = torch.empty_like(pattern)
    seconds = _seconds(lambda: copy.copy_(pattern), device)
    return 2 * size / seconds / 1e9, bool(torch.equal(copy, pattern))


def _disk(folder: Path, rank: int, *, size: int = 16 << 20) -> float:
    """Return MB/s with which a file gets onto the disk."""
    path = folder / f".node-test-{rank}"
    data = os.urandom(1 << 20)
    started = time.perf_counter()
    try:
        with path.open("wb") as file:
            for _ in range(size >> 20):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        seconds = time.perf_counter() - started
    finally:
        path.unlink(missing_ok=True)
    return size / seconds / 1e6


def _messages(world: World) -> float:
    """Return GB/s with which each process sends and receives in a sum over all of them."""
    size = (1 << 28) if world.device.type == "cuda" else (1 << 22)
    tensor = torch.ones(size // 4, device=world.device)
    world.sum(tensor)
    world.barrier()
    seconds = _seconds(lambda: world.sum(tensor), world.device)
    # A ring sends and receives 2 (n - 1) / n of the bytes.
    return 2 * (world.size - 1) / world.size * size / seconds / 1e9


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    """Return the median duration of a call, after one that does not count."""
    function()
    taken = []
    for _ in range(_REPETITIONS):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _slow(found: Sequence[Measured], name: str) -> list[str]:
    values = [getattr(one, name) for one in found]
    if len(found) < 3 or any(value is None for value in values):
        return []  # of two nobody knows which is the slow one
    median = statistics.median(values)
    return [
        f"{one.host}, process {rank}: {name} {value:,.3g}, the median of all is {median:,.3g}"
        for rank, (one, value) in enumerate(zip(found, values, strict=True))
        if value < _SLOW * median
    ]


def _table(found: Sequence[Measured]) -> str:
    """Show each machine by the slowest of its processes."""
    hosts: dict[str, list[Measured]] = {}
    for one in found:
        hosts.setdefault(one.host, []).append(one)
    rows = [["machine", "processes", "device", "TFLOP/s", "memory GB/s", "disk MB/s", "messages GB/s", ""]]
    for host, many in hosts.items():
        slowest = [min(getattr(one, name) for one in many) for name in ("matmul", "memory", "disk")]
        messages = [one.messages for one in many if one.messages is not None]
        wrong = "; ".join(dict.fromkeys(one.wrong for one in many if one.wrong))
        numbers = [f"{value:,.3g}" for value in slowest] + [f"{min(messages):,.3g}" if messages else "-"]
        rows.append([host, str(len(many)), many[0].device, *numbers, wrong])
    return text_table(rows, ruled=True)
