"""What the processes of ``test_memory.py`` do: train on one layout after the other, and follow every tensor's storage.

``python tests/distributed/memory.py`` prints what is told and what is measured, as the table of ``docs/simulation.md``.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from processes import spawn
from torch import Tensor
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from megatron.config.derive import architecture_of
from megatron.config.layout import Layout
from megatron.config.recomputation import Recomputation
from megatron.config.schema import ModelConfig
from megatron.model.micro_batch import MicroBatch
from megatron.optim.adamw import build_adamw
from megatron.parallel.context import GatheredContext, own_context
from megatron.parallel.engine import Engine
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.parts import local_part
from megatron.parallel.process import World
from megatron.simulate.memory import Memory, memory_of
from megatron.simulate.run import Run
from megatron.train.build import build_model
from megatron.train.step import TrainStep

ROWS, WIDTH, VOCABULARY = 2, 256, 512
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 128, "intermediate_size": 352, "num_layers": 4, "num_attention_heads": 8,
    "num_kv_heads": 4, "max_position_embeddings": WIDTH,
}  # fmt: skip
"""Few weights and many tokens, so that activations are most of what there is."""


_SENDS_NOTHING = ("recv", "wait_tensor", "wrap_tensor_autograd")


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations have made and that are still there, and what is sent.

    What an operation allocates and frees inside, and what gloo copies, is not seen.

    Args:
        there: tensors that do not count.

    Attributes:
        peak: the most so far.
        messages: how many were sent so far.
    """

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()
        self._there = {tensor.untyped_storage()._cdata for tensor in there}
        self._alive: dict[int, Any] = {}
        self.peak = 0
        self.messages = 0

    @property
    def now(self) -> int:
        """Bytes that are there; counted anew, since ``fully_shard`` empties and fills storages without an operation."""
        storages = [reference() for reference in list(self._alive.values())]
        return sum(storage.nbytes() for storage in storages if storage is not None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, (DTensor, AsyncCollectiveTensor)) for kind in types):
            return NotImplemented  # it calls the operations of its parts, and they come here
        operation = func.__name__.partition(".")[0].strip("_")
        if func.namespace in ("c10d", "_c10d_functional") and operation not in _SENDS_NOTHING:
            self.messages += 1
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if type(leaf) in (Tensor, torch.nn.Parameter) and leaf.device.type != "meta":
                self._see(leaf.untyped_storage())
        self.peak = max(self.peak, self.now)
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._there and key not in self._alive:
            self._alive[key] = weakref.ref(storage, lambda _: self._alive.pop(key, None))


@dataclasses.dataclass(frozen=True)
class Case:
    """A layout and what is trained on it."""

    layout: Layout
    precision: torch.dtype = torch.float32
    recompute: Recomputation = None
    micro_batches: int = 2
    tied: bool = False

    @property
    def section(self) -> ModelConfig:
        """The model."""
        return ModelConfig(**SHAPE, no_weight_tying=not self.tied)

    @property
    def run(self) -> Run:
        """The same, as the simulator sees it."""
        return Run(
            shape=architecture_of(self.section, vocab_size=VOCABULARY), layout=self.layout, seq_length=WIDTH,
            micro_size=ROWS, accumulation_steps=self.micro_batches, train_iters=1,
            element_bytes=self.precision.itemsize, recompute=self.recompute,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Measured:
    """Bytes of one process.

    Attributes:
        position: its place in the pipeline.
        index: its part of what ZeRO divides.
        parameters: at the end of a step.
        gradients: likewise.
        optimizer: likewise.
        between_steps: everything that was there then.
        peak: the most of everything in a step.
        messages: how many it has sent in a step.
    """

    position: int
    index: int
    parameters: int
    gradients: int
    optimizer: int
    between_steps: int
    peak: int
    messages: int

    @property
    def state(self) -> int:
        """What stays for all of the run, with the gradients of a step."""
        return self.parameters + self.gradients + self.optimizer

    @property
    def activations(self) -> int:
        """The most that was there besides it."""
        return self.peak - self.state

    def told(self, case: Case) -> Memory:
        """Return what the simulator says of this process."""
        return memory_of(case.run, position=self.position, index=self.index)


def measure(case: Case, world: World) -> Measured:
    """Train two steps; the second one, which has moments from its beginning, is measured."""
    mesh, execution = Mesh(case.layout, world), Execution(case.precision, case.recompute)
    steps = [list(batches(case, mesh)) for _ in range(2)]
    with LiveBytes(tensor for step in steps for batch in step for tensor in tensors_of(batch)) as live:
        stages = build_model(
            case.section, vocab_size=VOCABULARY, seed=3, mesh=mesh, execution=execution, seq_length=WIDTH
        )
        engine = Engine(
            stages, mesh, execution=execution, shape=(ROWS, WIDTH // case.layout.context),
            micro_batches=case.micro_batches,
        )  # fmt: skip
        parameters = list(engine.model.parameters())
        optimizer = build_adamw(engine.model, learning_rate=1e-3, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1)
        step = TrainStep(engine=engine, optimizer=optimizer, learning_rate=lambda _: 1e-3, max_gradient_norm=1.0)
        for number, micro_batches in enumerate(steps):
            live.peak = live.messages = 0
            step(micro_batches, step=number)
    return Measured(
        position=mesh.pipeline.rank,
        index=0 if mesh.shard_mesh is None else mesh.shard_mesh.get_local_rank("shard"),
        parameters=local_bytes(parameters),
        gradients=local_bytes(parameter.grad for parameter in parameters if parameter.grad is not None),
        optimizer=local_bytes(value for state in optimizer.state.values() for value in state.values()),
        between_steps=live.now,
        peak=live.peak,
        messages=live.messages,
    )


def batches(case: Case, mesh: Mesh) -> Iterator[MicroBatch]:
    for _ in range(case.micro_batches):
        ids = torch.randint(0, VOCABULARY, (ROWS, WIDTH + 1))
        yield own_context(MicroBatch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous()), mesh.context)


def tensors_of(batch: MicroBatch) -> Iterator[Tensor]:
    yield from (batch.inputs, batch.targets)
    if isinstance(batch.pattern, GatheredContext):
        yield batch.pattern.key_index
    if batch.positions is not None:
        yield batch.positions


def local_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(local_part(tensor)[0].nbytes for tensor in tensors)


def work(rank: int, size: int, folder: str, cases: dict[str, Case]) -> None:
    """Measure every case in one of ``size`` processes, and write down what came out."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store-{size}", rank=rank, world_size=size)
    world = World(rank=rank, size=size, device=torch.device("cpu"))
    found = {name: dataclasses.asdict(measure(case, world)) for name, case in cases.items()}
    torch.save(found, Path(folder) / f"{size}-{rank}.pt")
    dist.destroy_process_group()


def measured_in_processes(cases: dict[str, Case], folder: Path) -> dict[str, list[Measured]]:
    """Measure cases, all with the same number of processes; return what each process says."""
    size = next(iter(cases.values())).layout.processes
    spawn(work, (size, str(folder), cases), nprocs=size)
    found = [torch.load(folder / f"{size}-{rank}.pt", weights_only=True) for rank in range(size)]
    return {name: [Measured(**of_rank[name]) for of_rank in found] for name in cases}


PRECISIONS = {"fp32": torch.float32, "bfloat16": torch.bfloat16}
MODES = {"none": None, "selective": "selective", "full": "full"}


MIXED: Recomputation = ("full", "selective", None, None)


WAYS = tuple(f"{precision}, {mode}" for precision in PRECISIONS for mode in MODES)


def _every_way(name: str, layout: Layout, **options: Any) -> dict[str, Case]:
    return {
        f"{name}, {precision}, {mode}": Case(layout, PRECISIONS[precision], MODES[mode], **options)
        for precision in PRECISIONS
        for mode in MODES
    }


TWO = {
    **_every_way("replicas", Layout(replicas=2)),
    **_every_way("ZeRO 1", Layout(1, shards=2)),
    "ZeRO 2, bfloat16, selective": Case(Layout(2, shards=2), torch.bfloat16, "selective"),
    **_every_way("ZeRO 3", Layout(3, shards=2)),
    **_every_way("tensor", Layout(tensor=2)),
    **_every_way("tensor and sequence", Layout(tensor=2, sequence=True)),
    **_every_way("context", Layout(context=2)),
    **_every_way("pipeline", Layout(pipeline=2), micro_batches=4),
    "ZeRO 3, bfloat16, mixed": Case(Layout(3, shards=2), torch.bfloat16, MIXED),
    "ZeRO 1, fp32, mixed": Case(Layout(1, shards=2), recompute=MIXED, micro_batches=1),
    "tensor and sequence, fp32, mixed": Case(Layout(tensor=2, sequence=True), recompute=MIXED),
    "context, bfloat16, mixed": Case(Layout(context=2), torch.bfloat16, MIXED),
    "interleaved pipeline, bfloat16, mixed": Case(
        Layout(pipeline=2, chunks=2, schedule="interleaved"), torch.bfloat16, ("full", "selective", "full", None),
        micro_batches=8,
    ),
    "interleaved pipeline, bfloat16, full": Case(
        Layout(pipeline=2, chunks=2, schedule="interleaved"), torch.bfloat16, "full", micro_batches=8
    ),
    # What a step keeps of each micro-batch shows with many.
    "long pipeline, fp32, none": Case(Layout(pipeline=2), micro_batches=32),
    "long interleaved pipeline, fp32, none": Case(
        Layout(pipeline=2, chunks=2, schedule="interleaved"), micro_batches=32
    ),
    "zero bubble, fp32, none": Case(Layout(pipeline=2, schedule="zero_bubble"), micro_batches=4),
    "zero bubble, bfloat16, none": Case(Layout(pipeline=2, schedule="zero_bubble"), torch.bfloat16, micro_batches=4),
}  # fmt: skip
FOUR = {
    "hybrid ZeRO 3, bfloat16, selective": Case(Layout(3, shards=2, replicas=2), torch.bfloat16, "selective"),
    "tensor, sequence, ZeRO 1, bfloat16, none": Case(Layout(1, shards=2, tensor=2, sequence=True), torch.bfloat16),
    "tensor, sequence, ZeRO 3, bfloat16, selective": Case(
        Layout(3, shards=2, tensor=2, sequence=True), torch.bfloat16, "selective"
    ),
    "context, ZeRO 3, bfloat16, full": Case(Layout(3, shards=2, context=2), torch.bfloat16, "full"),
    "tensor, sequence, pipeline, bfloat16, selective": Case(
        Layout(tensor=2, sequence=True, pipeline=2), torch.bfloat16, "selective", micro_batches=4
    ),
    "pipeline, ZeRO 1, tied, bfloat16, full": Case(
        Layout(1, shards=2, pipeline=2), torch.bfloat16, "full", micro_batches=4, tied=True
    ),
    "pipeline, ZeRO 1, bfloat16, full": Case(Layout(1, shards=2, pipeline=2), torch.bfloat16, "full", micro_batches=4),
}
CASES = {**TWO, **FOUR}
"""All by layout, precision and recomputation; each fits the processes of its part."""


def rows(found: dict[str, list[Measured]]) -> Iterator[list[str]]:
    """Yield a row for each layout, with the process of each case in which measured and told differ most."""
    cells: dict[str, dict[str, str]] = {}
    for name, processes in found.items():
        case = CASES[name]
        if isinstance(case.recompute, tuple):
            continue
        pairs = [(process.activations, process.told(case).peak - process.state) for process in processes]
        measured, told = max(pairs, key=lambda pair: abs(pair[1] / pair[0] - 1))
        layout, precision, mode = name.rsplit(", ", 2)
        cells.setdefault(layout, {})[f"{precision}, {mode}"] = f"{measured / 1e6:.2f}, {told / 1e6:.2f}"
    for layout, of_way in cells.items():
        yield [layout, *(of_way.get(way, "") for way in WAYS)]


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        found = {**measured_in_processes(TWO, Path(folder)), **measured_in_processes(FOUR, Path(folder))}
    for row in (["layout", *WAYS], ["---", *("---:" for _ in WAYS)], *rows(found)):
        sys.stdout.write(f"| {' | '.join(row)} |\n")


if __name__ == "__main__":
    main()
