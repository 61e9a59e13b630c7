"""What makes a run that does not fit smaller, one change at a time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from megatron.simulate.budget import BudgetError, modes_within, most_kept
from megatron.simulate.estimate import peak_bytes
from megatron.simulate.hardware import GIB
from megatron.simulate.run import Run


def remedies(run: Run, *, usable_bytes: float | None = None) -> list[tuple[str, float]]:
    """Return changes that need less memory, the most useful first: what to write, and the new peak in bytes.

    Args:
        run: that does not fit.
        usable_bytes: what it should fit into; when absent, none of the changes is made to measure.
    """
    now = peak_bytes(run)
    changed = [(text, peak_bytes(other)) for text, other in _changes(run)]
    if usable_bytes is not None:
        changed += [(text, peak_bytes(other)) for text, other in _budget(run, usable_bytes)]
    return sorted((change for change in changed if change[1] < 0.99 * now), key=lambda change: change[1])


def _changes(run: Run) -> Iterator[tuple[str, Run]]:
    layout = run.layout
    if run.element_bytes == 4:
        yield "precision: bfloat16", dataclasses.replace(run, element_bytes=2)
    if run.recompute != "full":
        yield "checkpoint_activations: true", dataclasses.replace(run, recompute="full")
    if run.recompute is None:
        yield (
            "checkpoint_activations: true, checkpoint_mode: selective", dataclasses.replace(run, recompute="selective")
        )
    if run.micro_size > 1:
        more = run.micro_size * run.accumulation_steps
        yield (
            "train_micro_batch_size_per_gpu: 1", dataclasses.replace(run, micro_size=1, accumulation_steps=more)
        )
    highest = 1 if layout.pipeline > 1 else 3
    partly = layout.stage > 0 and layout.replicas > 1
    if layout.data * layout.context > 1 and (layout.stage < highest or partly):
        divided = dataclasses.replace(layout, stage=highest, shards=layout.data, replicas=1)
        whole = " without data_parallel_shard_size" if partly else ""
        yield f"zero_optimization: {{stage: {highest}}}{whole}", dataclasses.replace(run, layout=divided)
    for factor in (2, 4, 8):
        if layout.tensor == 1 and not run.float8 and _divides_matrices(run, factor) and layout.data % factor == 0:
            yield from _with_tensor(run, factor)


def _budget(run: Run, usable_bytes: float) -> Iterator[tuple[str, Run]]:
    """Yield the budget of activations with which a run fits and least is computed again, if there is one."""
    if run.recompute == "full" or peak_bytes(dataclasses.replace(run, recompute="full")) > usable_bytes:
        return
    tenths, other = math.inf, run
    while (missing := peak_bytes(other) - usable_bytes) > 0:
        # What is computed again needs memory, too, so a first budget may not be enough.
        tenths = min(tenths - 1, math.floor(10 * (most_kept(other) - missing) / GIB))
        try:
            other = dataclasses.replace(run, recompute=modes_within(run, budget_gib=tenths / 10))
        except BudgetError:
            return
    if other is not run:
        gib = f"activation_memory_gib: {tenths / 10:g}"
        yield f"checkpoint_activations: true, checkpoint_mode: budget, {gib}", other


def _with_tensor(run: Run, size: int) -> Iterator[tuple[str, Run]]:
    data = run.layout.data // size
    steps = run.accumulation_steps * size
    stage = run.layout.stage if data * run.layout.context > 1 else 0
    shards = data if stage else 1
    layout = dataclasses.replace(
        run.layout, tensor=size, sequence=True, stage=stage, shards=shards, replicas=data // shards
    )
    if run.seq_length // run.layout.context % size == 0:
        text = f"model_parallel_size: {size}, sequence_parallel: true"
        yield text, dataclasses.replace(run, layout=layout, accumulation_steps=steps)


def _divides_matrices(run: Run, size: int) -> bool:
    shape = run.shape
    sizes = (shape.num_attention_heads, shape.num_key_value_heads, shape.intermediate_size, shape.vocab_size)
    return all(number % size == 0 for number in sizes)
