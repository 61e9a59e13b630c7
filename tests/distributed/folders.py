"""Processes that open a run's newest checkpoint together; spawned by test_folders.py."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist

from megatron.checkpoint.folder import open_folder
from megatron.parallel.process import Peers, World


def work(rank: int, folder: str) -> None:
    """Open the run as this process sees it, and write down what came of it."""
    place = Path(folder)
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2)
    peers = Peers(World(rank=rank, size=2, device=torch.device("cpu")))
    opened = open_folder(place / f"seen by {rank}", peers=peers)
    try:
        open_folder(place / ("absent" if rank == 0 else "seen by 1"), peers=peers)
        told = "nothing"
    except ValueError as error:
        told = str(error)
    torch.save({"place": str(opened.place), "told": told}, place / f"{rank}.pt")
    dist.destroy_process_group()
