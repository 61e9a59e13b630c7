"""What a process computes in a step: floating-point operations of its matrices, and bytes of its elementwise work."""

from __future__ import annotations

import dataclasses

from megatron.config.layout import block_flops
from megatron.simulate.activations import Widths
from megatron.simulate.parts import held
from megatron.simulate.run import Run

_FUSED = 1 / 3
"""Share of the elementwise traffic that is left after ``torch.compile`` (an estimate)."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What one process does for one micro-batch, and once a step.

    Attributes:
        forward_flops: matrix products and attention of the forward pass.
        backward_flops: the same of the backward pass, and of what is computed again in it.
        moved_bytes: bytes that elementwise work reads and writes in memory.
        update_bytes: the same of the optimizer, once a step.
    """

    forward_flops: float
    backward_flops: float
    moved_bytes: float
    update_bytes: float

    @property
    def flops(self) -> float:
        """Operations of a micro-batch."""
        return self.forward_flops + self.backward_flops


def work_of(run: Run, *, position: int) -> Work:
    """Return the work of a process at a place of the pipeline."""
    shape, layout = run.shape, run.layout
    blocks, tokens = sum(run.blocks(position)), run.tokens
    block = block_flops(shape, seq_length=run.seq_length) * tokens / layout.tensor
    head = 2.0 * shape.vocab_size * shape.hidden_size * tokens / layout.tensor if run.is_last(position) else 0.0
    # The last product of a block is not needed again (PyTorch stops early); `selective` keeps all products.
    last_product = 2.0 * shape.hidden_size * shape.intermediate_size * tokens / layout.tensor
    again = (block - last_product) * run.mode_counts(position).get("full", 0)
    return Work(
        forward_flops=blocks * block + head,
        backward_flops=blocks * 2 * block + again + 2 * head,
        moved_bytes=_moved(run, position, blocks),
        # Read: parameter, gradient, two moments; written: all but the gradient; and norm and scale of the gradient.
        update_bytes=(28.0 + 12.0) * held(run, position).own,
    )


def model_flops_per_token(run: Run) -> float:
    """Return the operations that one token needs, forward and backward, whatever a layout adds to them.

    The definition of ``megatron/monitor/throughput.py``: causal attention counts half, recomputation not at all.
    """
    head = 2.0 * run.shape.vocab_size * run.shape.hidden_size
    return 3.0 * (run.shape.num_hidden_layers * block_flops(run.shape, seq_length=run.seq_length) + head)


def _moved(run: Run, position: int, blocks: int) -> float:
    """Return elementwise traffic: a forward pass as the model does it, step by step, and twice as much backward."""
    w, e = Widths.of(run), run.element_bytes
    norm = (36 if e == 2 else 40) * w.between
    rotation = 10 * e * (w.query + w.key)
    forward = 2 * norm + 6 * e * w.between + rotation + 5 * e * w.feed_forward
    passes = 3 * blocks + run.recomputed_blocks(position)
    moved = forward * passes * run.tokens * (_FUSED if run.compiled else 1.0)
    if run.is_last(position):  # logits to gradients, in float32: a dozen passes over them
        moved += 50.0 * run.shape.vocab_size // run.layout.tensor * run.tokens
    if run.layout.stage == 0 and e == 2:
        cast, added, added_last = 6.0, 10.0, 18.0  # the last micro-batch makes float32 copies of gradients first
        if run.layout.pipeline == 1:  # all micro-batches but the last share what is cast
            steps = run.accumulation_steps
            cast *= min(2, steps) / steps
            added = ((steps - 1) * added + added_last) / steps
        else:
            added = added_last
        moved += (cast + added) * held(run, position).own
    return moved
