"""The bytes that a process holds, and the most that it holds at any moment of a step.

Exact: parameters, gradients, optimizer state. Read off the model: activations (:mod:`megatron.simulate.activations`).
Read off PyTorch's sources: what ``fully_shard`` and pipelines hold for a moment. Tests measure all of it in processes
that train (``tests/distributed/test_memory.py``).
"""

from __future__ import annotations

import dataclasses
import itertools

from megatron.simulate.activations import (
    PRODUCT_GPU,
    Widths,
    block_backward,
    block_kept,
    last_norm_backward,
    loss_forward,
    products,
)
from megatron.simulate.parts import Held, held
from megatron.simulate.pipeline import delayed_passes, in_flight
from megatron.simulate.run import Run


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one process.

    Attributes:
        parameters: its part, float32.
        gradients: float32; in stage 1 the whole ones that last from one micro-batch to the next, else its part.
        optimizer: two moments of each parameter, float32, and a counter for each tensor.
        weights: copies in the dtype that is computed in.
        activations: what forward passes have left for backward passes, at the most.
        peak: the most of everything at one moment.
    """

    parameters: float
    gradients: float
    optimizer: float
    weights: float
    activations: float
    peak: float


def memory_of(run: Run, *, position: int, index: int = 0) -> Memory:
    """Return what a process holds.

    Args:
        run: the run.
        position: place of the process in the pipeline.
        index: which piece of the parameters it has; the first is never smaller than others.
    """
    here, stage, several = held(run, position), run.layout.stage, run.accumulation_steps > 1
    own = here.own_of(index) if index else here.own
    parameters, optimizer = 4.0 * own, 8.0 * own + 4.0 * here.tensors
    gradients = 4.0 * (here.whole if stage == 1 and several else own)
    weights, kept = _weights(run, position, here), kept_bytes(run, position)
    # Activations are most at the start of a backward pass. A step's first one makes the gradients while they go.
    start = (gradients if several else 0.0) + weights + _start_of_backward(run, position, here, kept)
    end = 4.0 * own + _end_of_backward(run, position, here)
    if stage == 0 and run.layout.pipeline == 1 and several:
        end += weights  # of a pass that is not the last: they are kept for the next
    update = 4.0 * own + (_summed_copies(run, here) if stage == 0 else 0.0)
    peak = parameters + optimizer + _rotation_tables(run) + max(start, end, update)
    return Memory(parameters, gradients, optimizer, weights, kept, peak)


def _summed_copies(run: Run, here: Held) -> float:
    """Return the largest copy of gradients in which several are summed together (``gradients.py``)."""
    if run.layout.data * run.layout.context == 1:
        return 0.0
    return 4.0 * max((sum(bucket) for bucket in here.buckets if len(bucket) > 1), default=0)


def _rotation_tables(run: Run) -> float:
    """Return the float32 cosines and sines of all positions, which every stage of a pipeline has."""
    return 8.0 * run.shape.max_position_embeddings * run.shape.head_dim * run.layout.chunks


def _weights(run: Run, position: int, here: Held) -> float:
    """Return the copies of weights that are there while a pass runs."""
    e, layout = run.element_bytes, run.layout
    if layout.stage == 0:
        if e == 4:
            return 0.0
        own_head = 0 if run.shape.tie_word_embeddings else _head_elements(run, position)
        passes = _in_flight(run, position) / layout.chunks  # each in flight has cast them anew
        return 2.0 * passes * (here.whole - own_head)  # the loss casts the output matrix by itself
    if layout.stage < 3:
        return float(e * here.whole)
    # The block that is computed; the next one, gathered ahead, in the buffer that it came in and in its own tensors.
    return float(e * (here.frame_elements + 3 * here.block_elements))


def kept_bytes(run: Run, position: int) -> float:
    """Return what passes in flight keep for their backward passes in a process at this place, at the most."""
    blocks, layout = run.blocks(position), run.layout
    kept = sum(block_kept(run, mode) * count for mode, count in run.mode_counts(position).items()) * run.tokens
    if layout.pipeline == 1:
        return kept
    flying = _in_flight(run, position)
    passes = flying * kept / len(blocks)
    between = float(run.element_bytes * Widths.of(run).between * run.tokens)
    # Every output in flight, and the gradient that a backward pass begins with. All schedules but 1F1B also keep what
    # they have sent until the end of the step.
    sent = (2 * layout.chunks - run.is_first(position) - run.is_last(position)) * run.accumulation_steps
    more = max(1, sent - 2 * flying) if layout.schedule != "1f1b" else 1
    delayed = delayed_passes(layout, position=position) * sum(blocks) / len(blocks) * products(run) * run.tokens
    return passes + delayed + between * (flying + more)


def _start_of_backward(run: Run, position: int, here: Held, kept: float) -> float:
    """Return the most that activations, the loss and the gradients of a moment take together."""
    e, head = run.element_bytes, _head_elements(run, position)
    if run.layout.stage == 0:
        largest = run.shape.hidden_size * run.shape.intermediate_size // run.layout.tensor
        made, copied = (6.0 if e == 2 else 4.0) * largest, 0.0  # one matrix's gradient, and the same in float32
        head_gradient = 4.0 * head if run.accumulation_steps == 1 else 0.0  # later ones are added and dropped
        cast = e * head if e == 2 else 0
    else:
        made = float(e * here.block_elements)  # a block's gradients
        # And the float32 copy of those of the block before, in place of what that block had kept.
        copied = 4.0 * here.block_elements if run.layout.stage > 1 or run.accumulation_steps == 1 else 0.0
        head_gradient, cast = float(e * head), 0  # waits for the embedding's
    stays = 4.0 * here.own_block if run.accumulation_steps == 1 else 0.0  # else they are there from the beginning
    backward = _backward_of_blocks(run, position, kept, copied=copied, stays=stays) + made + head_gradient
    if not run.is_last(position):
        return backward
    summed = 4.0 * head + (e * min(head, PRODUCT_GPU) if e == 2 else 0)  # float32, and a part of one piece's share
    loss = kept + loss_forward(run) + summed + cast
    norm = kept + last_norm_backward(run) * run.tokens + head_gradient
    return max(backward, loss, norm)


def _backward_of_blocks(run: Run, position: int, kept: float, *, copied: float, stays: float) -> float:
    """Return the most that is there while blocks go backward, the last one first.

    Blocks whose backward passes need much may come when others have let go of what they kept.

    Args:
        run: the run.
        position: place of the process in the pipeline.
        kept: by all blocks together.
        copied: bytes of a copy of the gradients of the block before.
        stays: bytes of the gradients that each block leaves.
    """
    most = 0.0
    for modes in run.modes(position):
        left, there = kept, 0.0
        for mode, same in itertools.groupby(reversed(modes)):
            own = block_kept(run, mode) * run.tokens
            most = max(most, left + block_backward(run, mode) * run.tokens + max(there, copied - own))
            left, there = left + (stays - own) * len(list(same)), copied
    return most


def _end_of_backward(run: Run, position: int, here: Held) -> float:
    """Return what the last gradients take, of embedding and output matrix, with the weights that are still whole."""
    e = run.element_bytes
    if run.layout.stage == 0:
        embedding = run.vocabulary_elements if run.is_first(position) else 0
        return (6.0 if e == 2 else 4.0) * embedding
    weights = here.whole if run.layout.stage < 3 else here.frame_elements
    return e * weights + (e + 4.0) * here.frame_elements


def _in_flight(run: Run, position: int) -> int:
    return in_flight(run.layout, micro_batches=run.accumulation_steps, position=position)


def _head_elements(run: Run, position: int) -> int:
    return run.vocabulary_elements if run.is_last(position) else 0
