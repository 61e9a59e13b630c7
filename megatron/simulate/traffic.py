"""What a process sends in a step, along each axis of the layout.

Bytes are those that leave a process in a ring: (n - 1) / n of a tensor for gathering and for scattering it among n,
twice that for a sum that all get (Thakur et al. 2005). What is done again with recomputation is counted again.
"""

from __future__ import annotations

import dataclasses

from megatron.simulate.activations import Widths
from megatron.simulate.parts import held
from megatron.simulate.run import Run


@dataclasses.dataclass(frozen=True)
class Messages:
    """Messages along one axis.

    Attributes:
        bytes: that one process sends.
        count: how many messages it takes part in.
    """

    bytes: float = 0.0
    count: float = 0.0

    def __add__(self, other: Messages) -> Messages:
        return Messages(self.bytes + other.bytes, self.count + other.count)

    def __mul__(self, times: float) -> Messages:
        return Messages(self.bytes * times, self.count * times)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What one process sends in a step.

    Attributes:
        gathers: weights, from the processes that divide them.
        scatters: gradients, to them.
        sums: gradients, with copies of the model.
        tensor: activations, with those that have other parts of the matrices, and under sequence parallelism the
            gradients of norms.
        context: keys, values and their gradients.
        pipeline: activations and their gradients, to the neighbours.
        ends: gradients of tied embeddings, with the other end of the pipeline.
    """

    gathers: Messages
    scatters: Messages
    sums: Messages
    tensor: Messages
    context: Messages
    pipeline: Messages
    ends: Messages


def traffic_of(run: Run, *, position: int) -> Traffic:
    """Return what a process at a place of the pipeline sends in a step."""
    gathers, scatters, sums = _of_data(run, position)
    return Traffic(
        gathers,
        scatters,
        sums,
        tensor=_of_tensor(run, position),
        context=_of_context(run, position),
        pipeline=_of_pipeline(run, position),
        ends=_of_tied_ends(run, position),
    )


def _of_data(run: Run, position: int) -> tuple[Messages, Messages, Messages]:
    layout, steps, here = run.layout, run.accumulation_steps, held(run, position)
    if layout.stage == 0:
        count = len(here.buckets)
        return Messages(), Messages(), _sum(4.0 * here.whole, layout.data * layout.context, count=count)
    weights, gradients = (
        [_part(size * here.block_elements, run.pieces) * here.blocks, _part(size * here.frame_elements, run.pieces)]
        for size in (run.element_bytes, 4)
    )
    frames = 1 if here.frame else 0
    again = steps if layout.stage == 3 else 1  # what frames the blocks stays from the forward to the backward pass
    gathers = weights[0] * (2 * steps if layout.stage == 3 else 1) + weights[1] * (again * frames)
    scatters = (gradients[0] + gradients[1] * frames) * (1 if layout.stage == 1 else steps)
    return gathers, scatters, _sum(4.0 * here.own, layout.replicas, count=here.groups)


def _of_tensor(run: Run, position: int) -> Messages:
    """Return sums after each half of a block; under sequence parallelism each is a scatter, and a gather follows."""
    layout, w = run.layout, Widths.of(run)
    if layout.tensor == 1:
        return Messages()
    states = float(run.element_bytes * w.hidden * run.tokens)
    half = _part(states, layout.tensor)
    # Forward and backward: four sums. Computed again: what precedes the last product.
    blocks, again = sum(run.blocks(position)), run.recomputed_blocks(position)
    total = half * (8 * blocks + 3 * again) if layout.sequence else _sum(states, layout.tensor) * (4 * blocks + again)
    if run.is_first(position):  # embedding
        total += half * 2 if layout.sequence else _sum(states, layout.tensor)
    if run.is_last(position):  # loss: hidden states there, their gradient back, and three numbers for each token
        total += half * 2 if layout.sequence else _sum(states, layout.tensor)
        total += _sum(12.0 * run.tokens, layout.tensor, count=2)
    return total * run.accumulation_steps + (_of_norms(run, position) if layout.sequence else Messages())


def _of_norms(run: Run, position: int) -> Messages:
    """Return sums of what each part of a sequence says about the weights of norms.

    ``fully_shard`` makes one for each norm, whenever it reduces gradients; without it there is one for all, in float32.
    """
    layout = run.layout
    norms = 2 * sum(run.blocks(position)) + run.is_last(position)
    size = float(run.shape.hidden_size * norms)
    if layout.stage == 0:
        return _sum(4 * size, layout.tensor)
    times = 1 if layout.stage == 1 else run.accumulation_steps
    return _sum(run.element_bytes * size, layout.tensor, count=norms) * times


def _of_context(run: Run, position: int) -> Messages:
    """Return keys and values gathered forward and, with recomputation, again; their gradients scattered backward."""
    layout, w = run.layout, Widths.of(run)
    if layout.context == 1:
        return Messages()
    both = 2.0 * run.element_bytes * w.key * run.tokens * layout.context
    times = 2 * sum(run.blocks(position)) + run.recomputed_blocks(position)
    return _part(both, layout.context) * (times * run.accumulation_steps)


def _of_pipeline(run: Run, position: int) -> Messages:
    layout, w = run.layout, Widths.of(run)
    if layout.pipeline == 1:
        return Messages()
    sends = 2 * layout.chunks - run.is_first(position) - run.is_last(position)
    return Messages(float(run.element_bytes * w.between * run.tokens), 1) * (sends * run.accumulation_steps)


def _of_tied_ends(run: Run, position: int) -> Messages:
    """Return the sum of a step's gradients of tied embeddings, which the first and the last stage each have."""
    ends = run.layout.pipeline > 1 and (run.is_first(position) or run.is_last(position))
    if not ends or not run.shape.tie_word_embeddings:
        return Messages()
    return _sum(4.0 * run.vocabulary_elements / run.pieces, 2)


def _part(size: float, members: int) -> Messages:
    """Return what gathering or scattering a tensor of so many bytes takes."""
    return Messages(size * (members - 1) / members, 1) if members > 1 else Messages()


def _sum(size: float, members: int, *, count: float = 1) -> Messages:
    """Return what a sum that all members get takes."""
    return Messages(2 * size * (members - 1) / members, count) if members > 1 else Messages()
