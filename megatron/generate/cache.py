"""Keys and values of the tokens already read, so that each new token costs one position."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from megatron.model.attention import Documents, attention_within

_LEAST_CAPACITY, _GROWTH = 64, 1.5


class KeyValueCache:
    """Keys and values of several texts, each of its own length; a :class:`megatron.model.attention.KeyValueStore`.

    A pass through the model reads tokens of all texts laid end to end: first one more token of every text that is here
    already, then whole new texts. So nothing is padded but what short texts lack in attention over the longest.

    Args:
        places: most texts at a time.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._capacity = 0
        self._lengths: list[int] = []
        self._continued = 0
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._place = self._position = torch.empty(0, dtype=torch.int64)

    def begin(self, new: Sequence[int], *, device: torch.device) -> Tensor:
        """Make ready for a pass and return the positions of its tokens, int64 ``[tokens]``.

        Args:
            new: how many tokens each of the new texts has.
            device: where the pass is made.
        """
        self._continued = len(self._lengths)
        assert self._continued + len(new) <= self._places, "more texts than there are places"
        position = list(itertools.chain(self._lengths, *(range(length) for length in new)))
        place = [*range(self._continued)]
        for number, length in enumerate(new, start=self._continued):
            place += [number] * length
        self._place, self._position = torch.tensor([place, position], device=device).unbind(0)
        old = [length + 1 for length in self._lengths]
        self._lengths = [*old, *new]
        if (longest := max(self._lengths)) > self._capacity:
            self._capacity = max(longest, _LEAST_CAPACITY, int(self._capacity * _GROWTH))
        self._longest = max(old, default=0)
        self._seen: Tensor | None = None
        if len(set(old)) > 1:
            seen = torch.arange(self._longest, device=device) <= self._position[: self._continued, None]
            self._seen = seen[:, None, None]
        self._documents = Documents.of(new, device=device) if new else None
        return self._position

    def drop(self, place: int) -> None:
        """Forget a text; the last one takes its place."""
        last = len(self._lengths) - 1
        length = self._lengths.pop()
        if place == last:
            return
        self._lengths[place] = length
        for kept in (*self._keys.values(), *self._values.values()):
            kept[place, :, :length] = kept[last, :, :length]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As :meth:`megatron.model.attention.Pattern.attend`, for the tokens of a pass in one row.

        What follows them in the row only fills it up, and comes back as zeros.
        """
        count, old = len(self._place), self._continued
        keys, values = self._room(self._keys, layer, key), self._room(self._values, layer, value)
        keys[self._place, :, self._position] = key[0, :count]
        values[self._place, :, self._position] = value[0, :count]
        parts = [self._continue(query[0, :old], keys, values)] if old else []
        if self._documents is not None:
            parts += [attention_within(self._documents, *(part[:, old:count] for part in (query, key, value)))[0]]
        if count < query.shape[1]:
            parts += [torch.zeros_like(query[0, count:])]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).unsqueeze(0)

    def _continue(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend from one token of each old text, ``[texts, heads, head_dim]``, to all of its tokens."""
        # The heads that share keys stand where a sequence does: they all see the same, and nothing is copied for them.
        grouped = query.unflatten(1, (keys.shape[1], -1))
        part = slice(self._continued), slice(None), slice(self._longest)
        mixed = F.scaled_dot_product_attention(grouped, keys[part], values[part], attn_mask=self._seen)
        return mixed.flatten(1, 2)

    def _room(self, kept: dict[int, Tensor], layer: int, like: Tensor) -> Tensor:
        """Return a layer's ``[places, key heads, capacity, head_dim]``, with room for all that the pass will keep."""
        have = kept.get(layer)
        if have is None or have.shape[2] < self._capacity:
            heads, width = like.shape[2:]
            # Not left as it was found: weights of 0 do not hide what is no number.
            room = like.new_zeros(self._places, heads, self._capacity, width)
            if have is not None:
                room[:, :, : have.shape[2]] = have
            kept[layer] = room
        return kept[layer]
