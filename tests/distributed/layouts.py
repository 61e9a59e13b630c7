"""What the processes of ``test_layouts.py`` do: train a small model on one layout after the other."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from megatron.config.layout import Layout
from megatron.config.recomputation import Recomputation
from megatron.config.schema import ModelConfig
from megatron.data.manifest import ShardInfo
from megatron.evaluation.bits_per_byte import HeldOutSet
from megatron.evaluation.rows import Window
from megatron.model.attention import Documents
from megatron.model.loss import IGNORE
from megatron.model.micro_batch import MicroBatch
from megatron.optim.adamw import build_adamw
from megatron.optim.schedule import NewTokenRates, Schedule
from megatron.parallel.context import own_context
from megatron.parallel.engine import Engine
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.parts import local_part
from megatron.parallel.pipeline import joined
from megatron.parallel.process import World
from megatron.train.build import build_model
from megatron.train.new_tokens import NewTokens
from megatron.train.step import TrainStep

STEPS, ROWS, WIDTH, VOCABULARY, NUM_GROUPS = 10, 8, 16, 67, 3
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 50, "num_layers": 3, "num_attention_heads": 4,
    "num_kv_heads": 2, "max_position_embeddings": WIDTH,
}  # fmt: skip
"""Sizes that do not divide evenly, as real vocabularies over real numbers of processes do not."""

EVEN: dict[str, Any] = {
    **SHAPE, "vocab_size": 68, "intermediate_size": 48, "num_layers": 4, "num_attention_heads": 8, "num_kv_heads": 4,
}  # fmt: skip
"""Sizes that tensor parallelism divides."""


class Messages(TorchDispatchMode):
    """Counts the collectives that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.reduced: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.namespace == "c10d":
            name = function.__name__.partition(".")[0]
            if name == "_reduce_scatter_base_":
                self.reduced.add(str(args[1].dtype))
            self.counts[name] = self.counts.get(name, 0) + 1
        return function(*args, **(kwargs or {}))


@dataclasses.dataclass(frozen=True)
class Case:
    """A layout and what is trained on it."""

    layout: Layout
    micro: int = 1
    compiled: bool = False
    even: bool = False
    tied: bool = False
    documents: bool = False
    precision: torch.dtype = torch.float32
    recomputation: Recomputation = None
    float8: str | None = None
    new_tokens: int | None = None
    """The first of them, when their rows are trained alone in the first half and faster in the second."""

    @property
    def shape(self) -> dict[str, Any]:
        return EVEN if self.even else SHAPE

    def alone(self) -> Case:
        """Return the same training in one process."""
        return dataclasses.replace(self, layout=Layout(), recomputation=None, compiled=False)


def batches(case: Case, step: int, mesh: Mesh) -> list[MicroBatch]:
    """Return this process's micro-batches of a step: every process has other rows, all together always the same."""
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(0, VOCABULARY // 8, (ROWS, WIDTH + 1), generator=generator) * 8  # there is much to learn
    targets = tokens[:, 1:].clone()
    targets[torch.rand(targets.shape, generator=generator) < 0.2] = IGNORE  # another number of them in each row
    lengths = [int(length) for length in torch.randint(1, WIDTH, (ROWS,), generator=generator)]
    made = []
    for first in range(mesh.data.rank * case.micro, ROWS, mesh.data.size * case.micro):
        rows = range(first, first + case.micro)
        cut = [piece for row in rows for piece in (lengths[row], WIDTH - lengths[row])]
        documents = Documents.of(cut) if case.documents else None
        batch = MicroBatch(tokens[rows.start : rows.stop, :-1], targets[rows.start : rows.stop], None, documents)
        batch = dataclasses.replace(batch, groups=torch.tensor(rows) % NUM_GROUPS)
        made.append(own_context(batch, mesh.context).to(mesh.world.device))
    return made


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu().clone()


def device_of(rank: int, size: int) -> torch.device:
    """Return a GPU where there is one for every process, else the CPU."""
    return torch.device("cuda", rank) if torch.cuda.device_count() >= size else torch.device("cpu")


class Windows(HeldOutSet):
    """Held-out text without files: five windows, for four processes."""

    def __init__(self) -> None:
        self.shards = [
            ShardInfo(
                "x", "x", "valid", "monolingual", "eng", "Latn", documents=5, words=5, tokens=5, bytes=5, unk_tokens=0,
                dtype="uint16", content_hash="",
            )
        ]  # fmt: skip
        generator = np.random.default_rng(0)
        ids = [generator.integers(0, VOCABULARY, WIDTH - 1) for _ in range(6)]  # a length that 2 does not divide
        self._windows = [Window(0, before, after) for before, after in itertools.pairwise(ids)]


def score(engine: Engine) -> torch.Tensor:
    """Evaluate between two steps, with a pass more in one process than in the others; return the nats."""
    [row] = Windows().score(engine, batch_tokens=WIDTH)
    assert row.tokens == 5 * (WIDTH - 1)
    blocks = [block for block in engine.model.model.layers.values() if isinstance(block, FSDPModule)]
    assert all(isinstance(weight, DTensor) for block in blocks for weight in block.parameters())  # none left whole
    return torch.tensor(row.nats)


def trained(case: Case, world: World) -> dict[str, Any]:
    """Train, and return losses, gradient norms, and the weights and moments at the end."""
    section = ModelConfig(**case.shape, no_weight_tying=not case.tied)
    mesh = Mesh(case.layout, world)
    execution = Execution(case.precision, case.recomputation, case.compiled, case.float8)
    stages = build_model(
        section, vocab_size=VOCABULARY, seed=3, mesh=mesh, execution=execution, seq_length=WIDTH
    )
    micro_batches = ROWS // (case.micro * case.layout.data)
    engine = Engine(
        stages, mesh, execution=execution, shape=(case.micro, WIDTH // case.layout.context),
        micro_batches=micro_batches,
    )  # fmt: skip
    model = engine.model
    in_8_bits = [name for name, module in model.named_modules() if type(module).__name__ == "Float8Matrix"]
    assert len(in_8_bits) == (7 * sum(len(stage.model.layers) for stage in stages) if case.float8 else 0)
    optimizer = build_adamw(model, learning_rate=3e-3, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1)
    new_tokens = None
    if case.new_tokens is not None:
        rates = NewTokenRates(Schedule(3e-3, "constant", STEPS, 2.0, 0.0), only_steps=STEPS // 2, factor=2.0)
        new_tokens = NewTokens(engine, optimizer, first=case.new_tokens, rates=rates)
    step = TrainStep(
        engine=engine, optimizer=optimizer, learning_rate=lambda _: 3e-3, max_gradient_norm=1.0,
        num_groups=NUM_GROUPS, new_tokens=new_tokens,
    )  # fmt: skip
    results, began = [], {name: whole(parameter) for name, parameter in model.named_parameters()}
    for number in range(STEPS):
        if number == STEPS // 2:
            evaluated = score(engine)
            if case.new_tokens is not None:
                check_alone(model, optimizer, began, first=case.new_tokens)
        results.append(step(batches(case, number, mesh), step=number))
    with Messages() as messages:
        step(batches(case, STEPS, mesh), step=STEPS)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert local_part(parameter.grad)[0].shape == local_part(parameter)[0].shape, f"whole gradient of {name}"
    return {
        "messages": messages.counts,
        "reduced": sorted(messages.reduced),
        "nats": evaluated,
        "losses": torch.tensor([result.loss for result in results]),
        "norms": torch.tensor([result.gradient_norm for result in results]),
        "groups": torch.tensor([result.groups for result in results]),
        "weights": {name: whole(parameter) for name, parameter in model.named_parameters()},
        "moments": {
            name: whole(optimizer.state[parameter]["exp_avg_sq"]) for name, parameter in model.named_parameters()
        },
        "held_elements": sum(
            (parameter.to_local() if isinstance(parameter, DTensor) else parameter).numel()
            for parameter in model.parameters()
        ),
    }


def check_alone(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, began: dict[str, torch.Tensor], *, first: int
) -> None:
    """Assert that nothing but the rows of new tokens has changed, and that nothing else has moments."""
    for name, parameter in model.named_parameters():
        now, state, start = whole(parameter), optimizer.state[parameter], began[name]
        moments = whole(state["exp_avg"]), whole(state["exp_avg_sq"])
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            # Only every eighth id comes in the text, but the output matrix learns of all.
            assert not torch.equal(now[first:], start[first:]), name
            assert state["step"].item() == STEPS // 2
            now, start, moments = now[:first], start[:first], (moments[0][:first], moments[1][:first])
        else:
            assert state["step"].item() == 0
        assert torch.equal(now, start), name
        assert not any(moment.any() for moment in moments), name


def loaded(case: Case, world: World, folder: Path) -> dict[str, Any]:
    """Return the weights of a model that is read from a Hugging Face folder."""
    stages = build_model(
        ModelConfig(hf_model=str(folder)), vocab_size=VOCABULARY, seed=3, mesh=Mesh(case.layout, world),
        execution=Execution(), seq_length=WIDTH,
    )  # fmt: skip
    return {"weights": {name: whole(parameter) for name, parameter in joined(stages).named_parameters()}, "moments": {}}


def work(rank: int, size: int, folder: str, cases: dict[str, Case], pretrained: Path | None = None) -> None:
    """Train every case in one of ``size`` processes, or load its weights; the first of a stage writes what came out."""
    torch.set_num_threads(1)
    device = device_of(rank, size)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, backend = f"file://{folder}/store-{next(iter(cases))}", "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=store, rank=rank, world_size=size)
    world = World(rank=rank, size=size, device=device)
    for name, case in cases.items():
        torch.compiler.reset()  # what was compiled for the processes of another layout is not used again
        result = trained(case, world) if pretrained is None else loaded(case, world, pretrained)
        # A process of another stage has other weights.
        if rank % (size // case.layout.pipeline) == 0:
            torch.save(result, Path(folder) / f"{name}-{rank * case.layout.pipeline // size}.pt")
    dist.destroy_process_group()


def collected(folder: Path, name: str, case: Case) -> dict[str, Any]:
    """Return what a case's processes have written: that of the first, with the weights of every stage."""
    stages = [torch.load(folder / f"{name}-{stage}.pt", weights_only=True) for stage in range(case.layout.pipeline)]
    merged = {key: {k: v for stage in stages for k, v in stage[key].items()} for key in ("weights", "moments")}
    return {**stages[0], **merged}
