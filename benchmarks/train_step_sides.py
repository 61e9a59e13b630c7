"""One training step of this project, of transformers and of torchtitan, each in a process of its own.

A side's process builds its model, then takes a step whenever it is told to, so that the sides take turns while none of
them shares memory or threads with another.
"""

from __future__ import annotations

import dataclasses
import importlib
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from megatron.config.architecture import Architecture
from megatron.config.recomputation import Mode, Recomputation, mode_of
from megatron.parallel.process import keep_freed_memory
from megatron.parallel.recompute import checkpoint_options

LEARNING_RATE, BETAS, EPS, WEIGHT_DECAY, CLIP = 1e-4, (0.9, 0.95), 1e-8, 0.1, 1.0

PROFILE = -1
"""Number of a step that is taken under PyTorch's profiler."""

NOT_INSTALLED = "is NOT INSTALLED"

Step = Callable[[Tensor], float]
"""Trains on int64 ``[micro-batches, batch, length + 1]``, and returns the loss in nats per token."""


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
        recompute: None, ``full`` or ``selective``, or one of them for every block.
        bf16_weights: for transformers: the weights and the optimizer's state are bfloat16 as well.
        fp8: for ours: recipe of the matrix products in 8 bits.
        keeps_memory: on a CPU, whether freed memory is kept, as this project's trainer does.
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
    keeps_memory: bool = True
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
        first_seconds: the first step, compilation included; nothing has been compiled before.
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


@dataclasses.dataclass(frozen=True)
class Failed:
    """Why a side has no figures, in a few words."""

    reason: str


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
    execution = Execution(dtype, recomputation=task.recompute, compiled=task.compiled, float8=task.fp8)
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

    def run(tokens: Tensor) -> float:
        batches = [MicroBatch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous()) for rows in tokens]
        return step(batches, step=0).loss

    return run


def transformers(task: Task) -> Step:
    """Return a step of transformers' Llama: bfloat16 by autocast over float32 weights, or with bfloat16 weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    entries = {key: value for key, value in task.shape.to_hf().items() if key not in ("architectures", "model_type")}
    entries["use_cache"] = False
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**entries))
    if task.bf16_weights:
        model.bfloat16()
    rotary = model.model.rotary_emb
    model.to_empty(device=task.device)
    model.model.rotary_emb = type(rotary)(model.config).to(task.device)
    fill(model)
    model.train()
    for layer, block in enumerate(model.model.layers):
        recompute(block, mode_of(task.recompute, layer))
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
    for layer, block in model.layers.items():
        recompute(block, mode_of(task.recompute, int(layer)))
        if task.compiled:
            block.compile(fullgraph=True)
    summed = torch.compile(cross_entropy_loss) if task.compiled else cross_entropy_loss

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        out: Tensor = summed(model(inputs), targets) / targets.numel()
        return out

    return _plain_loop(model, loss, task, autocast=True)


SIDES: Mapping[str, Callable[[Task], Step]] = {"ours": ours, "transformers": transformers, "torchtitan": torchtitan}

MODULES: Mapping[str, Sequence[str]] = {
    "ours": ("megatron.train.step", "megatron.parallel.parallelize", "megatron.optim.adamw"),
    "transformers": ("transformers.models.llama.modeling_llama",),
    "torchtitan": ("torchtitan.components.loss", "torchtitan.models.llama3.model.model"),
}
"""What a side imports: no part of its memory, since all it does is lie there."""


def fill(model: nn.Module) -> None:
    """Fill weights where they lie, each by its name: ours and transformers have the same names, so the same weights."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                generator = torch.Generator(parameter.device).manual_seed(zlib.crc32(name.encode()))
                parameter.normal_(0.0, 0.02, generator=generator)
            else:
                parameter.fill_(1.0)


def recompute(block: nn.Module, mode: Mode) -> None:
    """Let a peer's block recompute as ours does in this mode."""
    if mode is None:
        return
    forward, options = block.forward, checkpoint_options(mode)

    def recomputed(*args: Any, **kwargs: Any) -> Any:  # a function, so that torch.compile sees what it calls
        return checkpoint(forward, *args, **options, **kwargs)

    block.forward = recomputed  # type: ignore[method-assign]


def _plain_loop(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], task: Task, *, autocast: bool) -> Step:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY, fused=True
    )
    autocast = autocast and task.precision == "bf16"

    def step(tokens: Tensor) -> float:
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
        return total.item()

    return step


class SideError(RuntimeError):
    """A side's process has ended, or told of a mistake."""


class Side:
    """The process of a side, as its parent sees it.

    Raises:
        SideError: here and in every step, the side cannot do it.
    """

    def __init__(self, name: str, task: Task) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, name, task), daemon=True)
        self._process.start()
        other.close()
        self._answer()

    def step(self, number: int) -> tuple[float, float]:
        """Take a step on random tokens that the number decides; return its seconds and its loss."""
        self._connection.send(number)
        seconds, loss = self._answer()
        return seconds, loss

    def profile(self) -> str:
        """Take a step, and return a table of where its time went."""
        self._connection.send(PROFILE)
        return str(self._answer())

    def close(self) -> int:
        """End the process, and return its most bytes of memory during a step but the first."""
        self._connection.send(None)
        peak = int(self._answer())
        self._process.join()
        return peak

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._process.terminate()
        self._process.join()

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join()
            raise SideError(f"its process has ended with status {self._process.exitcode}") from None
        if isinstance(answer, Failed):
            raise SideError(answer.reason)
        return answer


def _serve(connection: Connection, name: str, task: Task) -> None:
    """Do what a parent asks for: a step for each number, and at None say how much memory was needed."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # the first step compiles everything
        torch.set_num_threads(task.threads)
        if task.keeps_memory and not task.cuda:
            keep_freed_memory()
        try:
            _answer_all(connection, name, task)
        except Exception as error:
            with suppress(BrokenPipeError):
                connection.send(Failed(_reason(error)))


def _reason(error: Exception) -> str:
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return "out of memory"
    if isinstance(error, ModuleNotFoundError) and error.name in SIDES:
        return NOT_INSTALLED
    print(traceback.format_exc(), file=sys.stderr)
    return f"failed ({type(error).__name__})"


def _answer_all(connection: Connection, name: str, task: Task) -> None:
    for module in MODULES[name]:
        importlib.import_module(module)
    before = 0 if task.cuda else _resident()
    step = SIDES[name](task)
    connection.send(True)
    taken = 0
    while (number := _told(connection)) is not None:
        shape = (task.micro_batches, task.batch, task.length + 1)
        generator = torch.Generator().manual_seed(abs(number))
        tokens = torch.randint(0, task.shape.vocab_size, shape, generator=generator).to(task.device)
        if number == PROFILE:
            connection.send(_profiled(step, tokens, task))
            continue
        started = time.perf_counter()
        loss = step(tokens)
        if task.cuda:
            torch.cuda.synchronize()
        connection.send((time.perf_counter() - started, loss))
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
) -> Iterator[tuple[str, Measured | Failed]]:
    """Measure sides, each under the name that it is given.

    Args:
        sides: the side and its task.
        repetitions: timed steps of each.
        together: keep all processes and let them take turns step by step; otherwise one follows the other, as their
            memory may demand.
        profiled: profile one more step of each.

    Raises:
        ValueError: sides disagree about the loss by more than 1 %.
    """
    losses: dict[str, list[float]] = {}
    if together:
        yield from _in_turns(sides, repetitions, profiled, losses)
    else:
        for name, side in sides.items():
            yield from _in_turns({name: side}, repetitions, profiled, losses)
    check_losses(losses)


def check_losses(losses: Mapping[str, Sequence[float]]) -> None:
    """Refuse sides that have not done the same: losses of the first step, and on the same text after it.

    Raises:
        ValueError: some differ by more than 1 %.
    """
    for values in zip(*losses.values(), strict=True):
        if not max(values) <= 1.01 * min(values):
            told = ", ".join(f"{name} {value:.4f}" for name, value in zip(losses, values, strict=True))
            raise ValueError(f"the sides' losses differ, so they have not done the same: {told}")


def _in_turns(
    sides: Mapping[str, tuple[str, Task]], repetitions: int, profiled: bool, losses: dict[str, list[float]]
) -> Iterator[tuple[str, Measured | Failed]]:
    running: dict[str, Side] = {}
    first: dict[str, float] = {}
    seconds: dict[str, list[float]] = {}
    failed: dict[str, str] = {}

    def each(do: Callable[[str, Side], None]) -> None:
        for name, side in list(running.items()):
            try:
                do(name, side)
            except SideError as error:
                failed[name] = str(error)
                running.pop(name).stop()
                losses.pop(name, None)

    def begin(name: str, side: Side) -> None:
        first[name], loss = side.step(0)
        losses[name] = [loss]

    def again(name: str, side: Side) -> None:
        _, loss = side.step(0)  # the optimizer's state is there; some compile once more
        losses[name].append(loss)
        seconds[name] = []

    for name, (side, task) in sides.items():
        try:
            running[name] = Side(side, task)
        except SideError as error:
            failed[name] = str(error)
    each(begin)
    each(again)
    for number in range(1, repetitions + 1):
        each(lambda name, side, number=number: seconds[name].append(side.step(number)[0]))  # type: ignore[misc]
    measured: dict[str, Measured] = {}

    def end(name: str, side: Side) -> None:
        table = side.profile() if profiled else ""
        measured[name] = Measured(first[name], seconds[name], side.close(), table)

    each(end)
    for name in sides:
        yield name, Failed(failed[name]) if name in failed else measured[name]


def fastest_product(precision: str, *, cuda: bool, threads: int) -> float:
    """Return the FLOP/s of the fastest square matrix product: the ceiling of a step. In a process that then ends."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_fastest_product, (precision, cuda, threads))


def _fastest_product(precision: str, cuda: bool, threads: int) -> float:
    torch.set_num_threads(threads)
    device, dtype = torch.device("cuda" if cuda else "cpu"), torch.bfloat16 if precision == "bf16" else torch.float32
    best = 0.0
    for size in (4_096, 8_192, 16_384) if cuda else (1_024, 2_048, 4_096):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        times = []
        for _ in range(7):
            if cuda:
                torch.cuda.synchronize()
            started = time.perf_counter()
            torch.mm(left, right)
            if cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        best = max(best, 2 * size**3 / statistics.median(times[2:]))
    return best
