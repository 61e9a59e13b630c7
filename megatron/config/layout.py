"""How the processes of a run divide the model and its batch. Standard library only, so that a dry run can check it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from megatron.config.architecture import Architecture
    from megatron.config.schema import ParallelConfig


@dataclasses.dataclass(frozen=True)
class Layout:
    """The axes of a run; their product is the number of processes.

    Processes are numbered with ``tensor`` counting fastest, then ``context``, ``shards``, ``replicas`` and
    ``pipeline``: those that send each other most are neighbours, so that they fit into a node.

    Attributes:
        stage: what ``shards`` x ``context`` processes divide (Rajbhandari et al., ZeRO, arXiv 1910.02054): 0 nothing,
            1 optimizer state, 2 also gradients, 3 also weights.
        shards: data-parallel processes that share one copy of the model; 1 in stage 0.
        replicas: copies of it.
        context: processes that divide each sequence.
        tensor: processes that divide each matrix.
        sequence: whether what lies between the matrices is divided among the ``tensor`` processes, too.
        pipeline: processes that divide the blocks.
        chunks: stages of the pipeline in each of them.
        schedule: order of the pipeline's work: ``1f1b``, ``interleaved`` or ``zero_bubble``.
    """

    stage: int = 0
    shards: int = 1
    replicas: int = 1
    context: int = 1
    tensor: int = 1
    sequence: bool = False
    pipeline: int = 1
    chunks: int = 1
    schedule: str = "1f1b"

    @property
    def data(self) -> int:
        """Groups of processes that train on different sequences."""
        return self.replicas * self.shards

    @property
    def processes(self) -> int:
        """All processes."""
        return self.data * self.context * self.tensor * self.pipeline

    @property
    def stages(self) -> int:
        """Stages of the pipeline."""
        return self.pipeline * self.chunks

    @classmethod
    def of(cls, section: ParallelConfig, *, processes: int) -> Layout:
        """Return the layout of so many processes.

        Raises:
            ValueError: they cannot be divided so.
        """
        pipeline = section.pipe_parallel_size or 1
        tensor, context = section.model_parallel_size, section.context_parallel_size
        model = pipeline * tensor * context
        if processes % model:
            sizes = {"pipe_parallel_size": pipeline, "model_parallel_size": tensor, "context_parallel_size": context}
            product = " x ".join(f"{key} = {size}" for key, size in sizes.items() if size > 1)
            raise ValueError(
                f"{product}{f' = {model}' if ' x ' in product else ''} does not divide the {processes} processes. "
                f"Start a multiple of {model}, or change the sizes."
            )
        data, stage, asked = processes // model, section.zero_optimization.stage, section.data_parallel_shard_size
        if data * context == 1 and (asked in (None, 1) or processes == 1):
            stage = 0  # there is nobody to divide with
        shards = _shards(asked, data, context) if stage else 1
        return cls(
            stage=stage,
            shards=shards,
            replicas=data // shards,
            context=context,
            tensor=tensor,
            sequence=section.sequence_parallel,
            pipeline=pipeline,
            chunks=section.pipe_chunks,
            schedule=section.pipe_schedule,
        )


def _shards(asked: int | None, data: int, context: int) -> int:
    shards = data if asked is None else asked
    if data % shards == 0 and shards * context > 1:
        return shards
    rule = f"does not divide the {data} data-parallel processes"
    if shards == 1:
        rule = "divides nothing: every process would hold the whole model"
    fits = ", ".join(str(size) for size in range(2, data + 1) if data % size == 0)
    fix = f"Set it to one of {fits}, or start another number of processes" if fits else "Remove the key"
    raise ValueError(f"data_parallel_shard_size = {shards} {rule}. {fix}.")


def shape_problems(section: ParallelConfig, shape: Architecture, *, seq_length: int) -> Iterator[str]:
    """Tell which sizes of a model, and of its sequences, a layout does not divide; none when it fits.

    Args:
        section: the layout.
        shape: the model.
        seq_length: tokens of a sequence.
    """
    tensor, context = section.model_parallel_size, section.context_parallel_size
    divided = {
        "num_attention_heads": shape.num_attention_heads,
        "num_kv_heads": shape.num_key_value_heads,
        "intermediate_size": shape.intermediate_size,
        "vocab_size": shape.vocab_size,
    }
    for name, size in divided.items():
        if size % tensor:
            yield f"model_parallel_size = {tensor} does not divide {name} = {size}. {_divisors(size, tensor)}"
    if context > 1 and seq_length % (2 * context):
        yield (
            f"context_parallel_size = {context} cuts a sequence into {2 * context} pieces, which does not divide "
            f"seq_length = {seq_length}. Change one of the two."
        )
    elif section.sequence_parallel and (seq_length // context) % tensor:
        part = seq_length // context
        yield (
            f"sequence_parallel divides {part} tokens of a sequence among model_parallel_size = {tensor} processes, "
            "which does not go. Change seq_length or the sizes."
        )
    stages = (section.pipe_parallel_size or 1) * section.pipe_chunks
    if stages > shape.num_hidden_layers:
        yield (
            f"pipe_parallel_size = {section.pipe_parallel_size} with pipe_chunks = {section.pipe_chunks} makes "
            f"{stages} stages, but the model has num_layers = {shape.num_hidden_layers}. Lower one of them."
        )


def _divisors(size: int, wanted: int) -> str:
    fits = [str(number) for number in range(1, min(size, 64) + 1) if size % number == 0]
    near = sorted(fits, key=lambda number: abs(int(number) - wanted))[:3]
    return f"It may be {', '.join(sorted(near, key=int))}."


def stage_layers(shape: Architecture, *, stages: int, seq_length: int) -> list[range]:
    """Return the blocks of every stage of a pipeline, so that the costliest stage costs as little as possible.

    Costs are operations of a forward pass per token. The first stage also has the embedding, the last one the output
    matrix, which for Llama 3 8B weighs as much as two and a half blocks.

    Raises:
        ValueError: there are more stages than blocks.
    """
    if stages > shape.num_hidden_layers:
        raise ValueError(f"{stages} stages are more than the {shape.num_hidden_layers} blocks that they divide")
    costs = [0.0] * stages
    block, head = block_flops(shape, seq_length=seq_length), 2.0 * shape.vocab_size * shape.hidden_size
    costs[0] += shape.hidden_size  # a row is copied for each token
    costs[-1] += head
    counts = [1] * stages
    costs = [cost + block for cost in costs]
    for _ in range(shape.num_hidden_layers - stages):
        lightest = min(range(stages), key=costs.__getitem__)
        counts[lightest] += 1
        costs[lightest] += block
    ends = [sum(counts[: number + 1]) for number in range(stages)]
    return [range(end - count, end) for end, count in zip(ends, counts, strict=True)]


def block_flops(shape: Architecture, *, seq_length: int) -> float:
    """Return the operations of one block's forward pass per token; attention sees half a sequence on average."""
    query = shape.num_attention_heads * shape.head_dim
    key = shape.num_key_value_heads * shape.head_dim
    weights = shape.hidden_size * (2 * query + 2 * key + 3 * shape.intermediate_size)
    return 2.0 * weights + 4.0 * math.ceil(seq_length / 2) * query


def pipeline_problems(section: ParallelConfig, *, accumulation_steps: int | None) -> Iterator[str]:
    """Tell what keeps a pipeline from running, with so many micro-batches a step if that is known."""
    pipeline = section.pipe_parallel_size or 1
    if pipeline > 1 and section.zero_optimization.stage > 1:
        yield (
            f"zero_optimization.stage = {section.zero_optimization.stage} does not go with pipe_parallel_size = "
            f"{pipeline}: every micro-batch of the pipeline would gather, or reduce, all that a stage holds. Use "
            "stage 1, or pipe_parallel_size: 1."
        )
    if accumulation_steps is None:
        return
    if pipeline > 1 and accumulation_steps < pipeline:
        yield (
            f"gradient_accumulation_steps = {accumulation_steps} is less than pipe_parallel_size = {pipeline}: some "
            f"processes of the pipeline would never have work. Give at least {pipeline} micro-batches a step, by a "
            "larger train_batch_size or a smaller train_micro_batch_size_per_gpu."
        )
    elif pipeline > 1 and section.pipe_schedule != "1f1b" and accumulation_steps % pipeline:
        yield (
            f"gradient_accumulation_steps = {accumulation_steps} is not a multiple of pipe_parallel_size = {pipeline}, "
            f"which pipe_schedule = {section.pipe_schedule} needs. Change train_batch_size or the micro-batch, or use "
            "pipe_schedule: 1f1b."
        )
