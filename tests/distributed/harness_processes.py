"""Processes of one model that lm-evaluation-harness evaluates; spawned by test_harness_processes.py."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import torch
import torch.distributed as dist

from megatron.checkpoint.folder import open_folder
from megatron.config.layout import Layout
from megatron.evaluation.engine_model import open_engine_model
from megatron.evaluation.harness.run import HarnessOptions, run_harness
from megatron.evaluation.results import ResultsFolder
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import Peers, World

SIZE = 2
TASKS = ["xcopa", "arc", "mgsm-direct"]
OPTIONS = HarnessOptions(num_fewshot={"arc": 1, "mgsm-direct": 1}, limit=3, maximum_tokens=8)
LAYOUTS = {"tensor": Layout(tensor=2), "replicas": Layout(replicas=2), "ZeRO 3": Layout(stage=3, shards=2)}


def evaluate(name: str, world: World, folder: Path) -> list[tuple[str, str, float]]:
    """Evaluate with one layout, twice: the second time all is there."""
    peers = Peers(world, timeout_minutes=1)
    mesh = Mesh(LAYOUTS.get(name, Layout()), world)
    opened = open_folder(folder / "model" / "hf")
    model = open_engine_model(opened, mesh=mesh, peers=peers, execution=Execution(torch.float32))
    for _ in range(2):
        results = ResultsFolder(folder / name, model={}) if world.is_main else None
        scores = run_harness(
            model, data=folder / "data", results=results, tasks=TASKS, options=OPTIONS, peers=peers
        )
    return [(score.benchmark, score.language, score.value) for score in scores]


def work(rank: int, place: str) -> None:
    """Evaluate with every layout."""
    os.environ["LOCAL_RANK"] = str(rank)  # as launchers do
    torch.set_num_threads(1)
    folder = Path(place)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=SIZE,
        timeout=datetime.timedelta(seconds=60),
    )  # fmt: skip
    world = World(rank=rank, size=SIZE, device=torch.device("cpu"))
    found = {name: evaluate(name, world, folder) for name in LAYOUTS}
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()
