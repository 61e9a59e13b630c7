"""Causal self-attention, over whole rows or within the documents that are packed into them.

Parameter names and layouts are Hugging Face's (``self_attn.q_proj.weight`` and so on): q, k and v are separate, nothing
is permuted or fused on disk, so weights go in and out without a mapping.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megatron.config.architecture import Architecture
from megatron.model.rope import rotate


class KeyValueStore(Protocol):
    """Keeps the keys and values of earlier tokens while text is written, and knows which tokens see which."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Keep the keys and values of new tokens, and mix those that each token sees; as :meth:`Pattern.attend`."""
        ...


class Pattern(Protocol):
    """Which tokens see which, where that is not simply every token and those before it in its row."""

    def check(self, shape: torch.Size, device: torch.device) -> None:
        """Refuse a batch of ids of this shape, ``[batch, sequence]``, that the pattern is not made for."""
        ...

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Mix the values of the tokens that each one sees.

        Args:
            query: ``[batch, sequence, heads, head_dim]``.
            key: ``[batch, sequence, key heads, head_dim]``; ``heads`` is a multiple of its heads.
            value: as ``key``.

        Returns:
            A tensor like ``query``.
        """
        ...

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Pattern:
        """Return a copy with every tensor changed, such as moved to a device."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Documents:
    """Which tokens of a batch belong together: attention does not cross the borders. A :class:`Pattern`.

    The rows of the batch are laid end to end. A document that spans two rows is two pieces here, one in each row.

    Attributes:
        offsets: int32 ``[pieces + 1]`` on the model's device: where each piece begins, and where the last one ends.
        lengths: tokens of each piece, on the host, so that nothing waits for the device.
    """

    offsets: Tensor
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        shape, dtype = tuple(self.offsets.shape), self.offsets.dtype
        if shape != (len(self.lengths) + 1,) or dtype != torch.int32:
            raise ValueError(
                f"offsets of {len(self.lengths)} documents must be int32 [{len(self.lengths) + 1}], "
                f"not {dtype} {list(shape)}; Documents.of makes them from the lengths"
            )
        if any(length < 1 for length in self.lengths):
            at = next(number for number, length in enumerate(self.lengths) if length < 1)
            raise ValueError(f"document {at} of the batch has {self.lengths[at]} tokens; every document has at least 1")

    @classmethod
    def of(cls, lengths: Sequence[int], *, device: torch.device | None = None) -> Documents:
        """Return the documents with these lengths, in the order of their tokens; on the CPU by default."""
        offsets = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)
        return cls(offsets, tuple(lengths))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Documents:
        """As :meth:`Pattern.mapped`."""
        return dataclasses.replace(self, offsets=change(self.offsets))

    @functools.cached_property
    def packing(self) -> Packing:
        """As :func:`attention_packed` wants it."""
        longest = max(self.lengths)
        return Packing(self.offsets, self.offsets, longest, longest)

    def check(self, shape: torch.Size, device: torch.device) -> None:
        """Refuse a batch of ids ``[batch, sequence]`` that these documents do not divide.

        Raises:
            ValueError: they add up to another number of tokens, one crosses the end of a row, or they lie elsewhere.
        """
        rows, width = shape
        ends = list(itertools.accumulate(self.lengths))
        total = ends[-1] if ends else 0
        if total != rows * width:
            raise ValueError(
                f"{len(self.lengths)} documents have {total} tokens, but the batch has {rows} x {width} = "
                f"{rows * width}; their lengths must add up to it"
            )
        if not set(range(width, total + 1, width)) <= set(ends):
            raise ValueError(
                f"a document crosses the end of a row of {width} tokens; cut it in two there: each row is read alone"
            )
        if self.offsets.device != device:
            raise ValueError(f"offsets of documents are on {self.offsets.device}, the tokens on {device}")

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As :meth:`Pattern.attend`: every token sees itself and those before it in its document."""
        if len(self.lengths) == query.shape[0]:
            return causal_attention(query, key, value)  # every row is one document: there are no borders
        return attention_within(self, query, key, value)


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend from every token to itself and those before it in its row; tensors as in :meth:`Pattern.attend`."""
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    grouped = query.shape[1] != key.shape[1]
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
    return mixed.transpose(1, 2)


PackedKernel = Callable[..., Any]
"""``torch.nn.attention.varlen.varlen_attn``, or what stands for it: query, key, value ``[tokens, heads, head_dim]``,
offsets twice, longest twice, and ``window_size``; ``enable_gqa`` where it has it. Returns a tensor like query."""


def attention_within(documents: Documents, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend from every token to itself and to those before it in its document.

    Args:
        documents: the pieces; all tokens of the batch belong to one.
        query: ``[batch, sequence, heads, head_dim]``.
        key: ``[batch, sequence, key heads, head_dim]``; ``heads`` is a multiple of its heads.
        value: as ``key``.

    Returns:
        A tensor like ``query``.
    """
    flat = (query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
    if fits_packed_kernel(query):
        from torch.nn.attention.varlen import varlen_attn

        return attention_packed(documents.packing, *flat, kernel=varlen_attn).view_as(query)
    return attention_by_piece(documents, *flat).view_as(query)


class Packing(NamedTuple):
    """Pieces whose queries and keys are laid end to end: int32 offsets ``[pieces + 1]``, and the longest, of each."""

    query_offsets: Tensor
    key_offsets: Tensor
    longest_query: int
    longest_key: int


def attention_packed(packing: Packing, query: Tensor, key: Tensor, value: Tensor, *, kernel: PackedKernel) -> Tensor:
    """Attend within all pieces in one call of a variable-length kernel; tensors ``[tokens, heads, head_dim]``.

    The last query of a piece sees all of its keys, the one before it all but the last, and so on.
    """
    options: dict[str, Any] = {"window_size": (-1, 0)}  # causal: everything to the left, nothing to the right
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        if _groups_heads(kernel):
            options["enable_gqa"] = True
        else:  # torch 2.11
            key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    mixed: Tensor = kernel(query, key, value, *packing, **options)
    return mixed


@functools.cache
def _groups_heads(kernel: PackedKernel) -> bool:
    """Whether a kernel takes fewer key heads than query heads; asked once, not in every layer of every step."""
    return "enable_gqa" in inspect.signature(kernel).parameters


def attention_by_piece(documents: Documents, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend within one document after the other; tensors ``[tokens, heads, head_dim]``.

    On a CPU this beats a block mask wherever documents have more than a few tokens, because nothing is computed for
    pairs of tokens that do not see each other, and it is faster than attention over whole rows (measured:
    docs/performance.md).
    """
    lengths, grouped = list(documents.lengths), query.shape[1] != key.shape[1]
    mixed = []
    for pieces in zip(query.split(lengths), key.split(lengths), value.split(lengths), strict=True):
        q, k, v = (piece.transpose(0, 1).unsqueeze(0) for piece in pieces)
        piece = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        mixed.append(piece.squeeze(0).transpose(0, 1))
    return torch.cat(mixed)


def fits_packed_kernel(query: Tensor) -> bool:
    """Whether PyTorch's variable-length kernel, which is flash attention, takes these heads on this device."""
    head_dim = query.shape[-1]
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and head_dim % 8 == 0
        and head_dim <= 256
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


class Attention(nn.Module):
    """Causal self-attention with grouped key/value heads and rotary positions."""

    def __init__(self, architecture: Architecture, *, layer: int) -> None:
        super().__init__()
        hidden, self.head_dim = architecture.hidden_size, architecture.head_dim
        query_width = architecture.num_attention_heads * self.head_dim
        key_width = architecture.num_key_value_heads * self.head_dim
        self.layer = layer
        self.q_proj = nn.Linear(hidden, query_width, bias=False)
        self.k_proj = nn.Linear(hidden, key_width, bias=False)
        self.v_proj = nn.Linear(hidden, key_width, bias=False)
        self.o_proj = nn.Linear(query_width, hidden, bias=False)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        cache: KeyValueStore | None = None,
        pattern: Pattern | None = None,
    ) -> Tensor:
        """Attend from every position to itself and those before it.

        Args:
            x: ``[batch, sequence, hidden]``.
            cos: ``[sequence, 1, head_dim]``, or ``[batch, sequence, 1, head_dim]``.
            sin: as ``cos``.
            cache: keeps keys and values, and mixes them with those of earlier tokens.
            pattern: who sees whom, where that is something else; not with a cache.

        Returns:
            ``[batch, sequence, hidden]``.
        """
        batch, length, _ = x.shape
        # -1 lets the number of heads follow from the weights, which tensor parallelism may have sliced.
        query = rotate(self.q_proj(x).view(batch, length, -1, self.head_dim), cos, sin)
        key = rotate(self.k_proj(x).view(batch, length, -1, self.head_dim), cos, sin)
        value = self.v_proj(x).view(batch, length, -1, self.head_dim)
        if pattern is not None:
            mixed = pattern.attend(query, key, value)
        elif cache is not None:
            mixed = cache.attend(self.layer, query, key, value)
        else:
            mixed = causal_attention(query, key, value)
        out: Tensor = self.o_proj(mixed.reshape(batch, length, -1))
        return out
