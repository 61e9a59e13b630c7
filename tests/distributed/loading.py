"""Processes that load a model, each its own part; spawned by test_loading.py."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import re
from pathlib import Path

import torch
import torch.distributed as dist

from megatron.checkpoint.convert.run import Conversion, convert
from megatron.checkpoint.hf import save_model
from megatron.checkpoint.restore import load
from megatron.checkpoint.storage import LocalStorage
from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from megatron.config.schema import ModelConfig
from megatron.model.llama import Llama
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.parts import local_part
from megatron.parallel.pipeline import joined
from megatron.parallel.process import Peers, World
from megatron.train.build import build_model

SIZE = 4
SHAPE = Architecture(32_000, 512, 1_408, 8, 8, 8, 64, 2_048)
LARGEST_BYTES = 4 * 32_000 * 512
LAYOUTS = {
    "ZeRO 3": Layout(stage=3, shards=4),
    "tensor and pipeline": Layout(tensor=2, pipeline=2),
    "tensor and ZeRO 3": Layout(stage=3, shards=2, tensor=2),
}


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What a process has loaded.

    Attributes:
        share_bytes: of its parameters.
        grown_bytes: how much its memory, with files that it maps, has been larger than before it had any of them.
        equal: whether the parameters are those of the model.
    """

    share_bytes: int
    grown_bytes: int
    equal: bool


def write_models(folder: Path) -> None:
    """Write a Hugging Face folder and a checkpoint of the same random model."""
    model = Llama(SHAPE)
    model.init_weights(seed=1)
    save_model(model.state_dict(), SHAPE, folder / "hf", dtype=torch.float32, bos_id=1, eos_id=2)
    list(convert(Conversion("hf", str(folder / "hf"), "native", str(folder / "native"), checked=False)))


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def measured(layout: Layout, kind: str, world: World, folder: Path) -> Loaded:
    """Build this process's part of a model and fill it."""
    mesh = Mesh(layout, world)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier cases have left would be used again, unseen
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
    # Without its weights the folder gives the shape alone.
    section = ModelConfig(hf_model=str(folder / "hf"), load_weights=kind == "hf")
    stages = build_model(section, vocab_size=32_000, seed=0, mesh=mesh, execution=Execution(), seq_length=64)
    model = joined(stages)
    if kind == "native":
        load(LocalStorage(folder / "native"), model=model, optimizer=None, peers=Peers(world))
    grown = _memory("VmHWM") - before
    whole = Llama(SHAPE)
    whole.init_weights(seed=1)
    weights = whole.state_dict()
    equal, share = True, 0
    for name, parameter in model.named_parameters():
        part, place = local_part(parameter)
        share += part.nbytes
        equal &= torch.equal(part, weights[name][place])
    return Loaded(share, grown, equal)


def work(rank: int, folder: str) -> None:
    """Load in every way, and write down what was seen."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=SIZE)
    world = World(rank=rank, size=SIZE, device=torch.device("cpu"))
    found = {
        f"{name}, {kind}": dataclasses.asdict(measured(layout, kind, world, Path(folder)))
        for name, layout in LAYOUTS.items()
        for kind in ("hf", "native")
    }
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
