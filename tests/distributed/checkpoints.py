"""Processes that save and load together, one of which fails; spawned by test_checkpoints.py."""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch
import torch.distributed as dist

from megatron.checkpoint.blocks import DamagedError
from megatron.checkpoint.restore import load
from megatron.checkpoint.storage import LocalStorage, Storage
from megatron.checkpoint.store import CheckpointError, CheckpointStore, SaveError
from megatron.config.architecture import Architecture
from megatron.model.llama import Llama
from megatron.parallel.process import Peers, World

SHAPE = Architecture(64, 16, 32, 2, 2, 1, 8, 64)


class Flaky(LocalStorage):
    """Cannot be written to, or read from, by some processes."""

    fails_to_write = fails_to_read = False

    def __truediv__(self, name: str) -> Flaky:
        return Flaky(self.path / name)

    def put(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        if Flaky.fails_to_write:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().put(name, write)

    def read_into(self, name: str, start: int, buffer: memoryview) -> None:
        super().read_into(name, start, buffer)
        if Flaky.fails_to_read and name.endswith(".safetensors"):
            buffer[0] ^= 1


def told(function: Callable[[], object]) -> str:
    """Return the error of a call, or nothing."""
    try:
        function()
    except (SaveError, DamagedError, CheckpointError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def work(rank: int, size: int, folder: str) -> None:
    """Let each process in turn fail to write, then to read; write down what every one was told."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    peers = Peers(World(rank=rank, size=size, device=torch.device("cpu")))
    model = Llama(SHAPE)
    found: dict[str, str] = {}

    def restore(checkpoint: Storage) -> None:
        load(checkpoint, model=model, optimizer=None, peers=peers)

    for in_background in (False, True):
        model.init_weights(seed=2 + in_background)
        store = CheckpointStore(Flaky(Path(folder) / str(in_background)), peers=peers, in_background=in_background)

        def save(step: int, store: CheckpointStore = store) -> None:
            store.save(step=step, model=model, optimizer=None, state={})
            store.wait()

        for failing in range(size):
            Flaky.fails_to_write = rank == failing
            found[f"write {failing} {in_background}"] = told(lambda: save(1))
        Flaky.fails_to_write = False
        found[f"write - {in_background}"] = told(lambda: save(1))
        for failing in range(size):
            Flaky.fails_to_read = rank == failing
            newest = store.newest()
            assert newest is not None
            found[f"read {failing} {in_background}"] = told(functools.partial(restore, newest))
        Flaky.fails_to_read = False
        found[f"read - {in_background}"] = told(functools.partial(restore, newest))
    # What one process sees as another checkpoint than the others is not loaded.
    place = LocalStorage(Path(folder) / ("False" if rank == 0 else "True") / "global_step1")
    found["two"] = told(lambda: restore(place))
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
