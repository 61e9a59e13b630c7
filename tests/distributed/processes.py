"""Processes for tests, forked from one that has imported what they need: each import of PyTorch takes seconds."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.multiprocessing import start_processes

_IMPORTED_ONCE = ["torch.distributed.fsdp", "torch.distributed.tensor", "train", "eval", "generate"]


def spawn(work: Callable[..., None], arguments: tuple[Any, ...], nprocs: int) -> None:
    """Call ``work(rank, *arguments)`` in ``nprocs`` processes, and wait until all have ended.

    As ``torch.multiprocessing.spawn``, but in copies of one process, which all tests share. It is no copy of this one:
    nothing that a test has done here is seen there, and its environment is that of the first call.
    """
    multiprocessing.set_forkserver_preload(_IMPORTED_ONCE)
    start_processes(work, arguments, nprocs, start_method="forkserver")


def run_script(name: str, arguments: Sequence[object], processes: int = 1) -> tuple[int, str]:
    """Run a script of the root as the launcher does, with as many processes; return exit status and all that they say.

    Only the launcher itself is left out, so a test of it, or of starts and ends, has to start commands.
    """
    with tempfile.TemporaryDirectory() as folder:
        # It is where the processes meet, as the launcher's is.
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        spawn(_call_main, (processes, store.port, folder, name, [*map(str, arguments)]), nprocs=processes)
        statuses = [int((Path(folder) / f"{rank}.status").read_text()) for rank in range(processes)]
        return max(statuses), "".join((Path(folder) / f"{rank}.txt").read_text() for rank in range(processes))


def train(config: Path, processes: int, *settings: str) -> None:
    """Train as ``deepy.py train.py`` does, with as many processes."""
    status, told = run_script("train", [str(config), f"num_gpus={processes}", *settings], processes)
    assert status == 0, told


def _call_main(rank: int, size: int, port: int, folder: str, name: str, arguments: list[str]) -> None:
    with (Path(folder) / f"{rank}.txt").open("wb") as told:
        os.dup2(told.fileno(), 1)
        os.dup2(told.fileno(), 2)
    if size > 1:
        os.environ.update(
            RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(size),
            MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE="True",
            TORCHELASTIC_RESTART_COUNT="0",
        )  # fmt: skip
    try:
        status = importlib.import_module(name).main(arguments)
    except SystemExit as end:  # argparse's
        status = end.code
    sys.stdout.flush()
    (Path(folder) / f"{rank}.status").write_text(str(status))
