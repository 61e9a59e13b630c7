"""One training step of this project, of transformers and of torchtitan, each in a process of its own.

A side's process builds its model, then takes a step whenever it is told to, so that the sides take turns while none of
them shares memory or threads with another.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import resource
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from megatron.config.architecture import Architecture
from megatron.config.recomputation import Recomputation

LEARNING_RATE, BETAS, EPS, WEIGHT_DECAY, CLIP = 1e-4, (0.9, 0.95), 1e-8, 0.1, 1.0

PROFILE = -1
"""Number of a step that is taken under PyTorch's profiler."""

Step = Callable[[Tensor], None]
"""Trains on int64 ``[micro-batches, batch, length + 1]``."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What all sides do.

    Attributes:
        shape: of the model.
        batch: rows of a micro-batch.
        length: tokens of a row.
        micro_batches: of a step.
        precision: ``fp32`` or ``bf16``.
        compiled: whether ``torch.compile`` is used.
        recompute: None or ``full``; ours also ``selective``, or one of them for every block.
        bf16_weights: for transformers: the weights and the optimizer's state are bfloat16 as well.
        fp8: for ours: recipe of the matrix products in 8 bits.
        threads: of the CPU.
        cuda: whether it runs on the GPU.
    """

    shape: Architecture
    batch: int
    length: int
    micro_batches: int = 1
    precision: str = "fp32"
    compiled: bool = False
    recompute: Recomputation = None
    bf16_weights: bool = False
    fp8: str | None = None
    threads: int = 2
    cuda: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.micro_batches * self.batch * self.length

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return torch.device("cuda" if self.cuda else "cpu")


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a side took.

    Attributes:
        first_seconds: the first step, compilation included.
        seconds: each of the others.
        peak_bytes: the most memory during a step, beyond what the process had before it built a model; of the GPU
            where there is one.
        profile: where the time of one more step went, if it was asked for.
    """

    first_seconds: float
    seconds: list[float]
    peak_bytes: int
    profile: str = ""

    @property
    def median(self) -> float:
        """Median seconds of a step."""
        return statistics.median(self.seconds)


def ours(task: Task) -> Step:
    """Return a step of this project, as its trainer makes it."""
    from megatron.config.layout import Layout
    from megatron.model.llama import Llama
    from megatron.model.micro_batch import MicroBatch
    from megatron.optim.adamw import build_adamw
    from megatron.parallel.engine import Engine
    from megatron.parallel.mesh import Mesh
    from megatron.parallel.parallelize import Execution, parallelize
    from megatron.parallel.process import World
    from megatron.train.step import TrainStep

    mesh = Mesh(Layout(), World(rank=0, size=1, device=task.device))
    dtype = torch.bfloat16 if task.precision == "bf16" else torch.float32
    more = {} if task.fp8 is None else {"float8": task.fp8}
    execution = Execution(dtype, recomputation=task.recompute, compiled=task.compiled, **more)
    model = Llama.empty(task.shape, device=task.device, prepare=lambda model: parallelize(model, mesh, execution))
    fill(model)
    step = TrainStep(
        engine=Engine(
            [model], mesh, execution=execution, shape=(task.batch, task.length), micro_batches=task.micro_batches
        ),
        optimizer=build_adamw(
            model, learning_rate=LEARNING_RATE, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY
        ),
        learning_rate=lambda _: LEARNING_RATE,
        max_gradient_norm=CLIP,
    )

    def run(tokens: Tensor) -> None:
        step([MicroBatch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous()) for rows in tokens], step=0)

    return run


def transformers(task: Task) -> Step:
    """Return a step of transformers' Llama: bfloat16 by autocast over float32 weights, or with bfloat16 weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    entries = {key: value for key, value in task.shape.to_hf().items() if key not in ("architectures", "model_type")}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**entries))
    if task.bf16_weights:
        model.bfloat16()
    rotary = model.model.rotary_emb
    model.to_empty(device=task.device)
    model.model.rotary_emb = type(rotary)(model.config).to(task.device)
    fill(model)
    model.train()
    if task.recompute is not None:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    called = torch.compile(model) if task.compiled else model

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        out: Tensor = called(input_ids=inputs, labels=inputs, shift_labels=targets).loss
        return out

    return _plain_loop(model, loss, task, autocast=not task.bf16_weights)


def torchtitan(task: Task) -> Step:
    """Return a step of torchtitan 0.2's Llama 3 model and loss, each block and the loss compiled by themselves.

    As its trainer does on one GPU, bfloat16 is computed by autocast.
    """
    from torchtitan.components.loss import cross_entropy_loss
    from torchtitan.models.llama3.model.args import TransformerModelArgs
    from torchtitan.models.llama3.model.model import Transformer

    shape = task.shape
    with torch.device("meta"):
        model = Transformer(
            TransformerModelArgs(
                dim=shape.hidden_size, n_layers=shape.num_hidden_layers, n_heads=shape.num_attention_heads,
                n_kv_heads=shape.num_key_value_heads, vocab_size=shape.vocab_size, multiple_of=16,
                ffn_dim_multiplier=(shape.intermediate_size + 0.5) / int(8 * shape.hidden_size / 3),
                norm_eps=shape.rms_norm_eps, rope_theta=shape.rope_theta, max_seq_len=task.length,
            )
        )  # fmt: skip
    width = model.layers["0"].feed_forward.w1.weight.shape[0]
    if width != shape.intermediate_size:
        raise ValueError(f"torchtitan makes feed-forward layers of {width}, not of {shape.intermediate_size}")
    model.to_empty(device=task.device)
    with task.device, torch.no_grad():
        model.init_weights(buffer_device=task.device)
    fill(model)
    if task.recompute is not None:
        from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

        for name, block in list(model.layers.items()):
            model.layers[name] = checkpoint_wrapper(block)
    if task.compiled:
        for block in model.layers.values():
            block.compile(fullgraph=True)
    summed = torch.compile(cross_entropy_loss) if task.compiled else cross_entropy_loss

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        out: Tensor = summed(model(inputs), targets) / targets.numel()
        return out

    return _plain_loop(model, loss, task, autocast=True)


SIDES: Mapping[str, Callable[[Task], Step]] = {"ours": ours, "transformers": transformers, "torchtitan": torchtitan}


def fill(model: nn.Module) -> None:
    """Fill weights where they lie: how they are drawn does not matter to a step's time."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.02)
            else:
                parameter.fill_(1.0)


def _plain_loop(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], task: Task, *, autocast: bool) -> Step:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY, fused=True
    )
    autocast = autocast and task.precision == "bf16"

    def step(tokens: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=task.device)
        for rows in tokens:
            inputs, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
            with torch.autocast(task.device.type, dtype=torch.bfloat16, enabled=autocast):
                part = loss(inputs, targets) / len(tokens)
            part.backward()
            total += part.detach()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        total.item()

    return step


class Side:
    """The process of a side, as its parent sees it."""

    def __init__(self, name: str, task: Task) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, name, task), daemon=True)
        self._process.start()
        other.close()
        self.ready: bool = self._answer()

    def step(self, number: int) -> float:
        """Take a step on random tokens that the number decides; return its seconds."""
        self._connection.send(number)
        return float(self._answer())

    def profile(self) -> str:
        """Take a step, and return a table of where its time went."""
        self._connection.send(PROFILE)
        self._answer()
        return str(self._connection.recv())

    def close(self) -> int:
        """End the process, and return its most bytes of memory during a step but the first."""
        self._connection.send(None)
        peak = int(self._answer())
        self._process.join()
        return peak

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            raise RuntimeError(f"a side's process has ended with status {self._process.exitcode}") from None
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer


def _serve(connection: Connection, name: str, task: Task) -> None:
    """Do what a parent asks for: a step for each number, and at None say how much memory was needed."""
    torch.set_num_threads(task.threads)
    if task.cuda:
        torch.set_float32_matmul_precision("high")
    try:
        if name == "ours":
            from megatron.parallel.process import keep_freed_memory

            keep_freed_memory()
        before = 0 if task.cuda else _resident()
        step = SIDES[name](task)
    except ImportError:
        connection.send(False)
        return
    except Exception:
        connection.send(f"{name}: {traceback.format_exc()}")
        return
    connection.send(True)
    taken = 0
    while (number := _told(connection)) is not None:
        shape = (task.micro_batches, task.batch, task.length + 1)
        generator = torch.Generator().manual_seed(abs(number))
        tokens = torch.randint(0, task.shape.vocab_size, shape, generator=generator).to(task.device)
        started = time.perf_counter()
        try:
            if number == PROFILE:
                connection.send(0.0)
                connection.send(_profiled(step, tokens, task))
                continue
            step(tokens)
        except Exception:
            connection.send(f"{name}: {traceback.format_exc()}")
            return
        if task.cuda:
            torch.cuda.synchronize()
        connection.send(time.perf_counter() - started)
        taken += 1
        if taken == 1:
            _forget_peak(cuda=task.cuda)
    with suppress(BrokenPipeError):
        connection.send(torch.cuda.max_memory_allocated() if task.cuda else _peak() - before)


def _profiled(step: Step, tokens: Tensor, task: Task) -> str:
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if task.cuda else [])
    with profile(activities=activities) as found:
        step(tokens)
    key = "self_device_time_total" if task.cuda else "self_cpu_time_total"
    table: str = found.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=60)
    return table


def _told(connection: Connection) -> int | None:
    try:
        return connection.recv()  # type: ignore[no-any-return]
    except EOFError:  # the parent has ended
        return None


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _forget_peak(*, cuda: bool) -> None:
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        return
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    line = next(line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


def measure(
    sides: Mapping[str, tuple[str, Task]], *, repetitions: int, together: bool, profiled: bool = False
) -> Iterator[tuple[str, Measured]]:
    """Measure sides, each under the name that it is given; those that are not installed are left out.

    Args:
        sides: the side and its task.
        repetitions: timed steps of each.
        together: keep all processes and let them take turns step by step; otherwise one follows the other, as their
            memory may demand.
        profiled: profile one more step of each.
    """
    if not together:
        for name, side in sides.items():
            yield from _in_turns({name: side}, repetitions, profiled)
        return
    yield from _in_turns(sides, repetitions, profiled)


def _in_turns(
    sides: Mapping[str, tuple[str, Task]], repetitions: int, profiled: bool
) -> Iterator[tuple[str, Measured]]:
    with _started(sides) as running:
        first = {name: side.step(0) for name, side in running.items()}
        seconds: dict[str, list[float]] = {name: [] for name in running}
        for side in running.values():
            side.step(0)  # the optimizer's state is there; some compile once more
        for number in range(1, repetitions + 1):
            for name, side in running.items():
                seconds[name].append(side.step(number))
        for name, side in running.items():
            table = side.profile() if profiled else ""
            yield name, Measured(first[name], seconds[name], side.close(), table)


@contextmanager
def _started(sides: Mapping[str, tuple[str, Task]]) -> Iterator[dict[str, Side]]:
    running = {name: Side(side, task) for name, (side, task) in sides.items()}
    yield {name: side for name, side in running.items() if side.ready}


def matmul_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Return the FLOP/s of the fastest square matrix product on this device: the ceiling of a training step."""
    best = 0.0
    for size in (4_096, 8_192, 16_384) if device.type == "cuda" else (1_024, 2_048, 4_096):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        times = []
        for _ in range(7):
            if device.type == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            torch.mm(left, right)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        best = max(best, 2 * size**3 / statistics.median(times[2:]))
    return best
