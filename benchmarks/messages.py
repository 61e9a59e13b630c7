"""What a process sends: the bytes of every collective by the formulas of rings, and those that the kernel counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import _resolve_process_group
from torch.distributed.distributed_c10d import GroupName
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

_SUM: Callable[[int], float] = lambda members: 2 * (members - 1) / members  # noqa: E731
_GATHER: Callable[[int], float] = lambda members: members - 1  # noqa: E731
_SCATTER: Callable[[int], float] = lambda members: (members - 1) / members  # noqa: E731

SENT: Mapping[str, Callable[[int], float]] = MappingProxyType(
    {
        "allreduce_": _SUM,
        "all_reduce": _SUM,
        "all_reduce_": _SUM,
        "_allgather_base_": _GATHER,
        "all_gather_into_tensor": _GATHER,
        "_reduce_scatter_base_": _SCATTER,
        "reduce_scatter_tensor": _SCATTER,
        "send": lambda _: 1.0,
        "recv_": lambda _: 0.0,
        "wait_tensor": lambda _: 0.0,
        "_wrap_tensor_autograd": lambda _: 0.0,
    }
)
"""Bytes that leave a process for each byte that it puts in, by operation and members of the group."""


class Messages(TorchDispatchMode):
    """Counts what this process sends, and the time that its main thread spends on it.

    It sees every operation of ``torch.distributed`` that Python or autograd issues in this thread, those within
    DTensor included, and times each of them and each wait for one. Not seen are waits within C++ (the reducer of
    ``DistributedDataParallel``), and what gloo's own threads do while this one computes. A wait lasts until the slowest
    member has come: what is timed is not only transfer.

    Attributes:
        bytes: sent, by the formula of a ring.
        count: operations that send.
        seconds: of issuing and of waiting.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.count, self.seconds = 0.0, 0, 0.0
        self._wait = dist.Work.wait

    def __enter__(self) -> Messages:
        def wait(work: dist.Work, *args: Any) -> bool:
            return bool(self._timed(self._wait, work, *args))

        dist.Work.wait = wait  # type: ignore[assignment, method-assign]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        dist.Work.wait = self._wait  # type: ignore[method-assign]

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # DTensor first turns it into what is done with the parts, and that comes here
        if function.namespace not in ("c10d", "_c10d_functional"):
            return function(*args, **(kwargs or {}))
        name = function.__name__.partition(".")[0]
        if name not in SENT:
            raise ValueError(f"{name} sends bytes that are not known here; add it to SENT")
        share = SENT[name](_members(args))
        # The operations that write into a tensor which they are given take it first.
        given = args[1] if name in ("_allgather_base_", "_reduce_scatter_base_") else args[0]
        self.bytes += share * sum(tensor.nbytes for tensor in (given if isinstance(given, list) else [given]))
        self.count += share > 0
        return self._timed(function, *args, **(kwargs or {}))

    def _timed(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            self.seconds += time.perf_counter() - started


def _members(args: Any) -> int:
    """Return the size of the group that is among the arguments of an operation, as an object or by its name."""
    for arg in args:
        if isinstance(arg, torch.ScriptObject) and "ProcessGroup" in str(arg._type()):
            return int(dist.ProcessGroup.unbox(arg).size())
    names = [arg for arg in args if isinstance(arg, str)]
    return int(_resolve_process_group(GroupName(names[-1])).size()) if names else 1


def kernel_bytes() -> int | None:
    """Return the bytes that this process has written so far, sockets included; None where Linux does not tell."""
    counters = Path("/proc/self/io")
    if not counters.exists():
        return None
    return int(dict(line.split(": ") for line in counters.read_text().splitlines())["wchar"])
