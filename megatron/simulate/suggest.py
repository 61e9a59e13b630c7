"""The fastest layouts that fit, and the text of ``deepy.py --suggest``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from megatron.config.recomputation import modes_text
from megatron.simulate.candidates import candidates
from megatron.simulate.estimate import Estimate, peak_bytes
from megatron.simulate.hardware import Gpu
from megatron.simulate.run import Run
from megatron.utils.table import text_table

_SHOWN = 10

_KEYS = (
    "zero_optimization", "data_parallel_shard_size", "model_parallel_size", "sequence_parallel",
    "context_parallel_size", "pipe_parallel_size", "pipe_schedule", "pipe_chunks", "train_batch_size",
    "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "checkpoint_activations", "checkpoint_mode",
    "activation_memory_gib",
)  # fmt: skip
"""All keys that a suggestion decides, whether it writes them or leaves them at their defaults."""


def best_layouts(run: Run, gpu: Gpu, *, train_batch_size: int, per_node: int | None = None) -> list[Estimate]:
    """Return the fastest runs that fit, the fastest first.

    Among those within 1 % of each other the simplest is first, then that which needs least memory.

    Args:
        run: any run of the model on the processes; its layout, micro-batch and recomputation do not matter.
        gpu: the type of accelerator.
        train_batch_size: sequences of a step, which are kept.
        per_node: accelerators in a node; those of the type's usual nodes when absent.
    """
    per_node = per_node or gpu.per_node
    fitting = (
        candidate
        for candidate in candidates(run, train_batch_size=train_batch_size, per_node=per_node)
        if peak_bytes(candidate) <= gpu.usable_bytes
    )
    found = [Estimate.of(candidate, gpu, per_node=per_node) for candidate in fitting]
    fastest = min((estimate.time.seconds for estimate in found), default=1.0)
    return sorted(found, key=lambda estimate: _order(estimate, fastest))


def _order(estimate: Estimate, fastest: float) -> tuple[int, int, float]:
    """Return how many per cent slower than the fastest, how many kinds of division, and how much memory."""
    layout, run = estimate.run.layout, estimate.run
    parts = (layout.tensor > 1, layout.sequence, layout.pipeline > 1, layout.chunks > 1, layout.context > 1,
             layout.stage > 0, layout.replicas > 1 and layout.stage > 0, run.recompute is not None)  # fmt: skip
    return math.floor(100 * (estimate.time.seconds / fastest - 1)), sum(parts), estimate.peak_bytes


def settings_of(run: Run) -> Mapping[str, Any]:
    """Return the keys that make a configuration this run; those at their defaults are left out."""
    layout = run.layout
    keys: dict[str, Any] = {}
    if layout.stage:
        keys["zero_optimization"] = {"stage": layout.stage}
        if layout.replicas > 1:
            keys["data_parallel_shard_size"] = layout.shards
    if layout.tensor > 1:
        keys["model_parallel_size"] = layout.tensor
        if layout.sequence:
            keys["sequence_parallel"] = True
    if layout.context > 1:
        keys["context_parallel_size"] = layout.context
    if layout.pipeline > 1:
        keys["pipe_parallel_size"] = layout.pipeline
        keys["pipe_schedule"] = layout.schedule
        if layout.chunks > 1:
            keys["pipe_chunks"] = layout.chunks
    keys["train_batch_size"] = run.micro_size * run.accumulation_steps * layout.data
    keys["train_micro_batch_size_per_gpu"] = run.micro_size
    if run.recompute:
        keys["checkpoint_activations"] = True
        keys["checkpoint_mode"] = run.recompute
    return keys


def suggestion_report(
    run: Run, gpu: Gpu, *, train_batch_size: int, per_node: int | None = None
) -> tuple[str, bool]:
    """Return the ten best layouts as text, with the settings of the best one, and whether there is any that fits."""
    best = best_layouts(run, gpu, train_batch_size=train_batch_size, per_node=per_node)
    where = f"{run.layout.processes:,} {gpu.name} ({per_node or gpu.per_node} a node, {gpu.usable_bytes / 1e9:.1f} GB)"
    if not best:
        return (
            f"no layout fits on {where} with train_batch_size = {train_batch_size:,}. More processes, GPUs with more "
            "memory or a train_batch_size with more divisors would help.\n"
        ), False
    rows = [["", "ZeRO", "shards", "tensor", "context", "pipeline", "micro", "steps", "recompute", "peak GB", "s/step",
             "tokens/s", "MFU", "days"]]  # fmt: skip
    rows += [[str(number), *_row(estimate)] for number, estimate in enumerate(best[:_SHOWN], start=1)]
    settings = settings_of(best[0].run)
    lines = [f"{key}: {_yaml(value)}" for key, value in settings.items()]
    others = ", ".join(key for key in _KEYS if key not in settings)
    return "\n".join([
        f"{len(best):,} layouts fit on {where}; the fastest by estimate, the simplest first among equals:", "",
        text_table(rows, left=2), "",
        "# the first of them; take these keys out of your configuration, and those that it leaves at their defaults:",
        f"# {others}", *lines, "",
    ]), True  # fmt: skip


def _row(estimate: Estimate) -> list[str]:
    run, layout, time = estimate.run, estimate.run.layout, estimate.time
    chunks = f" x {layout.chunks}" if layout.chunks > 1 else ""
    return [
        str(layout.stage),
        str(layout.shards) if layout.stage else "-",
        f"{layout.tensor}{' seq' if layout.sequence else ''}",
        str(layout.context),
        f"{layout.pipeline}{chunks} {layout.schedule}" if layout.pipeline > 1 else "1",
        str(run.micro_size),
        str(run.accumulation_steps),
        modes_text(run.recompute),
        f"{estimate.peak_bytes / 1e9:.1f}",
        f"{time.seconds:.3g}",
        f"{time.tokens_per_second:,.0f}",
        f"{time.mfu:.1%}",
        f"{estimate.days:.3g}",
    ]


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(inner)}" for key, inner in value.items()) + "}"
    return str(value)
