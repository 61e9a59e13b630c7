"""What autograd keeps of a forward pass, and what it needs for a moment on top: bytes per token, read off the model.

One term for every tensor that ``megatron/model`` leaves behind; the tests compare the sums with what PyTorch allocates.
Per token of a process, with hidden size h, query width q, key width k, feed-forward width f, e bytes an element; q, k
and f divided by ``tensor``, and h between the matrices by ``tensor`` under sequence parallelism (h'):

===================== ============================== ===================================================
tensor                bfloat16 (e = 2)               float32 (e = 4)
===================== ============================== ===================================================
each of two norms     4 h' + 2 h' (scaled) + 2 h     4 h' (its input) + 4 h' + 4 h, and 4 for the root
rotated q, k; v       2 q + 4 k                      4 q + 8 k
attention, log-sums   2 q, and 4 for each head       4 q, and 4 for each head
gate, up, silu, product  8 f                         16 f
===================== ============================== ===================================================

``torch.compile`` fuses some of this away: with it, these are upper bounds.
"""

from __future__ import annotations

import dataclasses
import functools

from megatron.config.architecture import Architecture
from megatron.config.recomputation import Mode
from megatron.simulate.run import Run

_LOGITS_GPU = 1 << 27
"""Elements of the logits that the loss makes at a time on a GPU (``megatron/model/loss.py``)."""

PRODUCT_GPU = 1 << 25
"""Elements of the output matrix's gradient that it makes at a time there."""


@dataclasses.dataclass(frozen=True)
class Widths:
    """Elements per token, as one process has them.

    Attributes:
        hidden: where it is whole.
        between: between the matrices: a part under sequence parallelism.
        query: of its heads.
        key: of its key heads.
        gathered_key: of its key heads, over all keys that attention keeps for each token of the process.
        feed_forward: of one branch.
        heads: query heads.
    """

    hidden: int
    between: int
    query: int
    key: int
    gathered_key: float
    feed_forward: int
    heads: int

    @classmethod
    def of(cls, run: Run) -> Widths:
        """Return the widths of a run."""
        return _widths(run.shape, run.layout.tensor, run.layout.context, run.layout.sequence)


@functools.lru_cache(maxsize=256)
def _widths(shape: Architecture, tensor: int, context: int, sequence: bool) -> Widths:
    key = shape.num_key_value_heads * shape.head_dim // tensor
    return Widths(
        hidden=shape.hidden_size,
        between=shape.hidden_size // (tensor if sequence else 1),
        query=shape.num_attention_heads * shape.head_dim // tensor,
        key=key,
        # Each of a process's two chunks of a row has a copy of the keys up to its end: c + 1/2 rows' worth.
        gathered_key=key if context == 1 else key * (context + 0.5),
        feed_forward=shape.intermediate_size // tensor,
        heads=shape.num_attention_heads // tensor,
    )


def block_kept(run: Run, mode: Mode) -> float:
    """Return the bytes per token that a block with this mode keeps until its backward pass."""
    if mode is None:
        return _all_of_a_block(run)
    w, e = Widths.of(run), run.element_bytes
    if mode == "full":
        return e * w.between
    return e * (w.between + w.query) + products(run) + 4 * w.heads


def products(run: Run) -> float:
    """Return the bytes per token of the results of a block's matrix products, or of their gradients."""
    w = Widths.of(run)
    return float(run.element_bytes * (w.query + 2 * w.key + 2 * w.hidden + 2 * w.feed_forward))


def block_backward(run: Run, mode: Mode) -> float:
    """Return the bytes per token that the backward pass of such a block needs besides what it and others have kept."""
    w, e = Widths.of(run), run.element_bytes
    gradients = e * (2 * w.feed_forward + w.between)
    # Narrow feed-forward layers, as tensor parallelism makes them, leave the peak to the norm before them.
    norm = (16 if e == 2 else 12) * w.between + e * w.between - 4 * e * w.feed_forward
    return _recomputed(run, w, mode) + max(gradients, norm)


def _recomputed(run: Run, w: Widths, mode: Mode) -> float:
    """Return what a backward pass computes again, less what it uses up of what was kept."""
    e = run.element_bytes
    if mode is None:
        return 0.0
    shared = e * w.between if e == 4 else 0.0  # a block's input is also that of its norm, which keeps it in float32
    if mode == "selective":
        shared += e * (w.key + w.query + 2 * w.feed_forward) + 4 * w.heads
        shared += e * (w.hidden + w.query + w.key)  # read once more, and dropped: the results before rotation and sum
    return _all_of_a_block(run) - shared


def _all_of_a_block(run: Run) -> float:
    w, e = Widths.of(run), run.element_bytes
    norm = (6 if e == 2 else 8) * w.between + e * w.hidden + 4
    attention = e * (2 * w.query + 2 * w.gathered_key) + 4 * w.heads
    return 2 * norm + attention + 4 * e * w.feed_forward


def last_norm_backward(run: Run) -> float:
    """Return the bytes per token of the last norm's backward pass, all that it has kept included."""
    return 24.0 * Widths.of(run).between


def loss_forward(run: Run, *, rows_of_a_piece: int | None = None) -> float:
    """Return the bytes of the last norm and the loss at their peak, without the weight's copies and gradient.

    Args:
        run: the run.
        rows_of_a_piece: tokens whose logits are made at a time, if it is not what a GPU does.
    """
    w, e, vocabulary = Widths.of(run), run.element_bytes, run.shape.vocab_size // run.layout.tensor
    rows = min(run.tokens, rows_of_a_piece or max(16, _LOGITS_GPU // vocabulary))
    norm = (6 if e == 2 else 8) * w.between + e * w.between
    states = 2 * e * w.hidden  # hidden states, whole under tensor parallelism, and their gradient
    logits = 6 if e == 2 else 4  # in float32, and in bfloat16 for the products
    return run.tokens * (norm + states) + rows * vocabulary * logits
