"""Every layout that is worth a look for a model on so many processes, and every way to cut its batch."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from megatron.config.layout import Layout, pipeline_problems, shape_problems
from megatron.config.schema import ParallelConfig
from megatron.simulate.run import Run

_MICRO_SIZES = (1, 2, 4, 8, 16)
_CONTEXTS = (1, 2, 4, 8)
_SHORTEST_PART = 2048
"""Tokens of a sequence in one process below which context parallelism is not tried."""
_SCHEDULES = (("1f1b", 1), ("interleaved", 2), ("interleaved", 4), ("zero_bubble", 1), ("zero_bubble", 2))


def candidates(run: Run, *, train_batch_size: int, per_node: int) -> Iterator[Run]:
    """Yield runs with other layouts, micro-batches and recomputation; model, batch and processes stay.

    Args:
        run: any run of the model on the processes.
        train_batch_size: sequences of a step.
        per_node: accelerators in a node, which tensor parallelism stays within.
    """
    for section, layout in _layouts(run, per_node):
        for micro in _MICRO_SIZES:
            if train_batch_size % (micro * layout.data):
                continue
            steps = train_batch_size // (micro * layout.data)
            if any(pipeline_problems(section, accumulation_steps=steps)):
                continue
            for recompute in (None, "selective", "full"):
                if recompute and layout.schedule == "zero_bubble":
                    continue  # each of the two halves of its backward passes would compute again
                yield dataclasses.replace(
                    run, layout=layout, micro_size=micro, accumulation_steps=steps, recompute=recompute
                )


def _layouts(run: Run, per_node: int) -> Iterator[tuple[ParallelConfig, Layout]]:
    processes = run.layout.processes
    for model in _model_axes(run, processes, per_node):
        size = model.get("model_parallel_size", 1) * model.get("pipe_parallel_size", 1)
        size *= model.get("context_parallel_size", 1)
        for zero in _divisions(processes // size, model, per_node):
            section = ParallelConfig.model_validate({**model, **zero})
            if any(shape_problems(section, run.shape, seq_length=run.seq_length)):
                break
            try:
                layout = Layout.of(section, processes=processes)
            except ValueError:
                continue  # shards with nobody to divide with
            if layout.stage == section.zero_optimization.stage:  # else it is stage 0, for the same reason
                yield section, layout


def _model_axes(run: Run, processes: int, per_node: int) -> Iterator[dict[str, Any]]:
    """Yield the axes that divide the model and its sequences, as settings; those at their defaults are left out."""
    tensors = [size for size in range(1, per_node + 1) if per_node % size == 0 and (size == 1 or not run.float8)]
    pipelines = [size for size in range(1, run.shape.num_hidden_layers + 1) if size & (size - 1) == 0]
    contexts = [size for size in _CONTEXTS if size == 1 or run.seq_length // size >= _SHORTEST_PART]
    for tensor, context, pipeline in itertools.product(tensors, contexts, pipelines):
        if processes % (tensor * context * pipeline):
            continue
        axes: dict[str, Any] = {"context_parallel_size": context} if context > 1 else {}
        if tensor > 1:
            axes["model_parallel_size"] = tensor
        for sequence in (False, True) if tensor > 1 else (False,):
            within = {**axes, "sequence_parallel": True} if sequence else axes
            if pipeline == 1:
                yield within
                continue
            for schedule, chunks in _SCHEDULES:
                if run.float8 and schedule == "zero_bubble":
                    continue
                stages = {"pipe_parallel_size": pipeline, "pipe_schedule": schedule, "pipe_chunks": chunks}
                yield {**within, **stages}


def _divisions(data: int, model: dict[str, Any], per_node: int) -> Iterator[dict[str, Any]]:
    """Yield the stages of ZeRO, each among all processes or among those of one, two or four nodes."""
    yield {}
    inside = per_node // (model.get("model_parallel_size", 1) * model.get("context_parallel_size", 1))
    sizes = [None, *(size for size in (inside, 2 * inside, 4 * inside) if 1 < size < data and data % size == 0)]
    for stage in (1,) if "pipe_parallel_size" in model else (1, 2, 3):
        for size in sizes:
            divided = {"data_parallel_shard_size": size} if size else {}
            yield {"zero_optimization": {"stage": stage}, **divided}
