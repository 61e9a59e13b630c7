"""The text of ``deepy.py --simulate``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from megatron.config.recomputation import modes_text
from megatron.simulate.estimate import Estimate
from megatron.simulate.hardware import USABLE, Gpu
from megatron.simulate.memory import memory_of
from megatron.simulate.parts import Rank, distinct_ranks
from megatron.simulate.pipeline import bubble
from megatron.simulate.remedies import remedies
from megatron.simulate.run import Run
from megatron.simulate.traffic import Messages, traffic_of
from megatron.simulate.work import model_flops_per_token, work_of
from megatron.utils.table import text_table

_GB = 1e9


def simulation_report(run: Run, gpus: Sequence[Gpu], *, per_node: int | None = None) -> tuple[str, bool]:
    """Return what a run takes, as text, and whether it fits on any of the accelerators.

    Args:
        run: the run.
        gpus: types to reckon it for.
        per_node: accelerators in a node; those of each type's usual nodes when absent.
    """
    estimates = [Estimate.of(run, gpu, per_node=per_node) for gpu in gpus]
    fits = any(not estimate.missing_bytes for estimate in estimates)
    parts = [
        "\n".join(_heading(run)),
        f"memory of each process, GB\n{_memory(run)}",
        f"messages of each process in a step: GB sent (number)\n{_traffic(run)}",
        f"work of each process in a step\n{_work(run)}",
        f"expected speed (an estimate: docs/simulation.md)\n{_speed(estimates)}",
        "\n".join(_verdict(estimates)),
    ]
    return "\n\n".join(parts) + "\n", fits


def layout_text(run: Run) -> str:
    """Return the axes of a layout in one line."""
    layout = run.layout
    axes = [f"ZeRO stage {layout.stage}"]
    if layout.stage:
        axes[0] += f" among {layout.shards * layout.context}"
    if layout.replicas > 1:
        axes.append(f"{layout.replicas} copies")
    if layout.tensor > 1:
        axes.append(f"tensor {layout.tensor}{' with sequence' if layout.sequence else ''}")
    if layout.context > 1:
        axes.append(f"context {layout.context}")
    if layout.pipeline > 1:
        chunks = f" x {layout.chunks} chunks" if layout.chunks > 1 else ""
        axes.append(f"pipeline {layout.pipeline}{chunks} ({layout.schedule})")
    return ", ".join(axes)


def _heading(run: Run) -> Iterator[str]:
    shape, layout = run.shape, run.layout
    yield f"{shape.num_parameters():,} parameters, {layout.processes:,} processes: {layout_text(run)}"
    yield (
        f"{run.micro_size * run.accumulation_steps * layout.data:,} sequences of {run.seq_length:,} tokens per step = "
        f"{run.micro_size:,} x {run.accumulation_steps:,} micro-batches x {layout.data:,}; "
        f"{'bfloat16' if run.element_bytes == 2 else 'fp32'}, "
        f"recomputation {modes_text(run.recompute)}{', compiled' if run.compiled else ''}"
    )
    if run.float8 is not None:
        yield f"fp8: {run.float8} is not reckoned with: memory and speed are those of products in bfloat16"
    if layout.pipeline > 1:
        share = bubble(layout, micro_batches=run.accumulation_steps)
        yield f"pipeline bubble: {share:.1%} of a step ({layout.schedule}); blocks: {_cut(run)}"


def _cut(run: Run) -> str:
    return " | ".join("+".join(map(str, run.blocks(position))) for position in range(run.layout.pipeline))


def _memory(run: Run) -> str:
    head = ["place", "processes", "parameters", "weights", "gradients", "optimizer", "whole weights",
            "activations", "peak"]  # fmt: skip
    rows = [head]
    for rank in distinct_ranks(run):
        memory = memory_of(run, position=rank.position, index=rank.index)
        amounts = (memory.parameters, memory.gradients, memory.optimizer, memory.weights, memory.activations)
        rows.append([
            _place(run, rank), f"{rank.count:,}", f"{memory.parameters / 4:,.0f}",
            *(f"{amount / _GB:.2f}" for amount in (*amounts, memory.peak)),
        ])  # fmt: skip
    return text_table(rows)


def _place(run: Run, rank: Rank) -> str:
    place = f"stage {rank.position}" if run.layout.pipeline > 1 else "any"
    return f"{place}, part {rank.index}" if rank.index else place


def _traffic(run: Run) -> str:
    rows = [["place", "gather weights", "scatter gradients", "sum gradients", "tensor", "context", "pipeline"]]
    for position in range(run.layout.pipeline):
        sent = traffic_of(run, position=position)
        columns = (sent.gathers, sent.scatters, sent.sums + sent.ends, sent.tensor, sent.context, sent.pipeline)
        rows.append([f"stage {position}" if run.layout.pipeline > 1 else "any", *map(_messages, columns)])
    return text_table(rows)


def _messages(messages: Messages) -> str:
    return f"{messages.bytes / _GB:.2f} ({messages.count:,.0f})" if messages.count else "-"


def _work(run: Run) -> str:
    rows = [["place", "TFLOP", "of which again", "elementwise GB"]]
    for position in range(run.layout.pipeline):
        work = work_of(run, position=position)
        again = (work.flops - 3 * work.forward_flops) / work.flops
        rows.append([
            f"stage {position}" if run.layout.pipeline > 1 else "any",
            f"{work.flops * run.accumulation_steps / 1e12:,.1f}", f"{again:.0%}",
            f"{work.moved_bytes * run.accumulation_steps / _GB:,.0f}",
        ])  # fmt: skip
    total = model_flops_per_token(run) * run.step_tokens / 1e12
    return f"{text_table(rows)}\nthe model's own, all processes: {total:,.0f} TFLOP"


def _speed(estimates: Sequence[Estimate]) -> str:
    rows = [["GPU", "usable GB", "peak GB", "fits", "s/step", "waiting", "messages", "tokens/s", "of each", "MFU",
             "days", "GPU hours"]]  # fmt: skip
    for estimate in estimates:
        time = estimate.time
        rows.append([
            estimate.gpu.name, f"{estimate.gpu.usable_bytes / _GB:.1f}", f"{estimate.peak_bytes / _GB:.1f}",
            "no" if estimate.missing_bytes else "yes", f"{time.seconds:.3g}", f"{time.waiting / time.seconds:.0%}",
            f"{time.exposed / time.seconds:.0%}", f"{time.tokens_per_second:,.0f}",
            f"{time.tokens_per_second / estimate.run.layout.processes:,.0f}", f"{time.mfu:.1%}",
            f"{estimate.days:.3g}", f"{estimate.gpu_hours:,.0f}",
        ])  # fmt: skip
    return text_table(rows)


def _verdict(estimates: Sequence[Estimate]) -> Iterator[str]:
    fitting = [estimate for estimate in estimates if not estimate.missing_bytes]
    if fitting:
        names = ", ".join(estimate.gpu.name for estimate in fitting)
        yield f"fits on {names} ({USABLE:.0%} of their memory is planned with)"
        return
    least = min(estimates, key=lambda estimate: estimate.missing_bytes)
    missing = math.ceil(least.missing_bytes / _GB * 10) / 10
    where = "it" if len(estimates) == 1 else f"the largest, {least.gpu.name},"
    known = "this GPU" if len(estimates) == 1 else "none of these GPUs"
    yield f"does not fit on {least.gpu.name}" if len(estimates) == 1 else f"fits on {known}"
    yield (
        f"{where} lacks {missing:,.1f} GB ({least.missing_bytes:,.0f} bytes): a process needs "
        f"{least.peak_bytes / _GB:,.1f} GB, and {least.gpu.usable_bytes / _GB:,.1f} GB can be planned with"
    )
    yield from _advice(least)


def _advice(estimate: Estimate) -> Iterator[str]:
    helps = remedies(estimate.run, usable_bytes=estimate.gpu.usable_bytes)
    yield "what would help, one at a time:" if helps else "more processes, or GPUs with more memory, would help"
    for text, peak in helps:
        enough = "enough" if peak <= estimate.gpu.usable_bytes else "not enough alone"
        yield f"  - {text}: {peak / _GB:,.1f} GB, {enough}"
    if helps:
        yield "or let `deepy.py --suggest` look for a layout"
