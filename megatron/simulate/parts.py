"""Which tensors a process holds, and exactly how many elements of each."""

from __future__ import annotations

import dataclasses
import functools
import math

from megatron.config.architecture import Architecture
from megatron.simulate.run import Run

Shape = tuple[int, ...]

_BUCKET_ELEMENTS = 1 << 24


@dataclasses.dataclass(frozen=True)
class Held:
    """The tensors of a process, before ZeRO divides them.

    Attributes:
        block: the tensors of one block.
        blocks: how many blocks there are.
        frame: the tensors besides the blocks: embedding, last norm, output matrix.
        pieces: processes that divide every tensor among them.
    """

    block: tuple[Shape, ...]
    blocks: int
    frame: tuple[Shape, ...]
    pieces: int

    @functools.cached_property
    def block_elements(self) -> int:
        """Elements of one block."""
        return _elements(self.block)

    @functools.cached_property
    def frame_elements(self) -> int:
        """Elements of all that is besides the blocks."""
        return _elements(self.frame)

    @property
    def whole(self) -> int:
        """Elements of everything."""
        return self.blocks * self.block_elements + self.frame_elements

    @functools.cached_property
    def own(self) -> int:
        """Elements of the first of the pieces, which is never smaller than others."""
        return self.own_of(0)

    def own_of(self, index: int) -> int:
        """Return the elements of a piece."""
        return self.blocks * self._piece(self.block, index) + self._piece(self.frame, index)

    @functools.cached_property
    def own_block(self) -> int:
        """Elements of one block in the first of the pieces."""
        return self._piece(self.block, 0)

    def _piece(self, shapes: tuple[Shape, ...], index: int) -> int:
        return sum(piece_rows(shape[0], self.pieces, index) * math.prod(shape[1:]) for shape in shapes)

    @functools.cached_property
    def buckets(self) -> tuple[tuple[int, ...], ...]:
        """Elements of the tensors that stage 0 sums up together, as ``megatron/parallel/gradients.py`` does."""
        made: list[list[int]] = []
        for shape in (*self.frame[:1], *self.block * self.blocks, *self.frame[1:]):
            elements = math.prod(shape)
            if not made or sum(made[-1]) + elements > _BUCKET_ELEMENTS:
                made.append([])
            made[-1].append(elements)
        return tuple(map(tuple, made))

    @property
    def tensors(self) -> int:
        """How many tensors there are."""
        return self.blocks * len(self.block) + len(self.frame)

    @property
    def groups(self) -> int:
        """How many groups of tensors are gathered together: each block, and what frames them."""
        return self.blocks + bool(self.frame)


def held(run: Run, position: int) -> Held:
    """Return what a process at this place of the pipeline holds."""
    blocks = sum(run.blocks(position))
    return _held(
        run.shape, run.layout.tensor, run.pieces, blocks, run.is_first(position), run.is_last(position)
    )


def piece_rows(rows: int, pieces: int, index: int) -> int:
    """Return how many of ``rows`` piece ``index`` gets, as ``torch.chunk`` and ``fully_shard`` cut them."""
    size = -(-rows // pieces)
    return min(size, max(0, rows - size * index))


@dataclasses.dataclass(frozen=True)
class Rank:
    """Processes that hold the same amounts.

    Attributes:
        position: their place in the pipeline.
        index: the first of the pieces that ZeRO makes of their parameters.
        count: how many processes they are.
    """

    position: int
    index: int
    count: int


def distinct_ranks(run: Run) -> list[Rank]:
    """Return every kind of process once, for all processes of the run."""
    ranks = []
    others = run.layout.processes // (run.layout.pipeline * run.pieces)
    for position in range(run.layout.pipeline):
        here = held(run, position)
        amounts: dict[int, list[int]] = {}
        for index in range(run.pieces):
            amounts.setdefault(here.own_of(index), []).append(index)
        ranks += [Rank(position, same[0], len(same) * others) for same in amounts.values()]
    return ranks


@functools.lru_cache(maxsize=4096)
def _held(shape: Architecture, tensor: int, pieces: int, blocks: int, first: bool, last: bool) -> Held:
    return Held(_block(shape, tensor), blocks, _frame(shape, tensor, first=first, last=last), pieces)


def _block(shape: Architecture, tensor: int) -> tuple[Shape, ...]:
    """Return a block's tensors as one of ``tensor`` processes holds them; the norms are whole in each."""
    hidden, width = shape.hidden_size, shape.intermediate_size // tensor
    query = shape.num_attention_heads * shape.head_dim // tensor
    key = shape.num_key_value_heads * shape.head_dim // tensor
    attention = ((query, hidden), (key, hidden), (key, hidden), (hidden, query))
    return (*attention, (width, hidden), (width, hidden), (hidden, width), (hidden,), (hidden,))


def _frame(shape: Architecture, tensor: int, *, first: bool, last: bool) -> tuple[Shape, ...]:
    """Return what is besides the blocks; the last stage of a pipeline has a copy of a tied embedding."""
    matrix, norm = (shape.vocab_size // tensor, shape.hidden_size), (shape.hidden_size,)
    tied = shape.tie_word_embeddings
    embedding = [matrix] if first or (last and tied) else []
    return (*embedding, *([norm] if last else []), *([matrix] if last and not tied else []))


def _elements(shapes: tuple[Shape, ...]) -> int:
    return sum(math.prod(shape) for shape in shapes)
