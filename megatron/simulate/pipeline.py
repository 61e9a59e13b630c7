"""What a pipeline's schedule keeps in flight and how long it waits, in ``torch.distributed.pipelining``'s order.

``1f1b``: Narayanan et al., arXiv 2006.09503; ``interleaved``: arXiv 2104.04473; ``zero_bubble``: ZB-H1 of Qi et al.,
arXiv 2401.10241, whose waits are a third of 1F1B's where forward pass, gradients of inputs and gradients of weights
take equally long. With several chunks a process, each wait is that much shorter.
"""

from __future__ import annotations

from megatron.config.layout import Layout


def in_flight(layout: Layout, *, micro_batches: int, position: int) -> int:
    """Return how many forward passes of single stages a process has at most made without their backward passes.

    With one chunk that is the number of micro-batches; with more, each counts once for every chunk that it has passed.
    Tests compare with PyTorch's schedules.
    """
    behind = layout.pipeline - 1 - position
    if layout.chunks == 1:
        # Zero bubble looks no further ahead; but it keeps inputs until the gradients of weights are made, as late as
        # the place of the process in the pipeline.
        delayed = position if layout.schedule == "zero_bubble" else 0
        return min(micro_batches, behind + 1 + delayed)
    round_size = micro_batches // max(1, micro_batches // layout.pipeline)
    per_hop, delayed = (1, position) if layout.schedule == "zero_bubble" else (2, 0)
    ahead = (layout.chunks - 1) * round_size + per_hop * behind
    return min(ahead + 1 + delayed, micro_batches * layout.chunks)


def delayed_passes(layout: Layout, *, position: int) -> int:
    """Return of how many passes a process has the gradients of all results, but not yet those of the weights."""
    if layout.schedule != "zero_bubble" or (layout.chunks == 1 and position == 0):
        return 0  # the first stage sends no gradients on, so it has no reason to delay
    return position + 1


def waits(layout: Layout) -> float:
    """Return how long a process waits in a step, in units of the time of a micro-batch."""
    third = 3 if layout.schedule == "zero_bubble" else 1
    return (layout.pipeline - 1) / (layout.chunks * third)


def bubble(layout: Layout, *, micro_batches: int) -> float:
    """Return the share of a step that a process waits: for 1F1B (p - 1) / (m + p - 1)."""
    return waits(layout) / (micro_batches + waits(layout))
