"""Which tokens sample number ``i`` holds: a pure function of the seed and ``i``.

Nothing is built, stored or exchanged. Two ideas make that possible:

* **Which corpus.** A binary tree over the corpora (Huffman's, over their shares) splits the sample numbers. At a node
  that sends the part ``p`` to the left, the first ``t`` samples hold ``round(p * t)`` left ones, a closed form that
  counts and locates alike. Rounding errors shrink on the way down, so in *every* prefix each corpus has its exact
  share to within one sample (see :meth:`Interleaving.bound`).
* **Which window.** A corpus is a ring of tokens. Each epoch cuts it into windows from where the last epoch ended, and
  takes them in another order: a keyed Feistel permutation (Black and Rogaway, "Ciphers with arbitrary finite
  domains", 2002).
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence

import xxhash

_FRACTION_BITS = 32
_ROUNDS = 6
_MASK64 = (1 << 64) - 1


def key_of(*parts: int | str) -> int:
    """Return 64 bits that depend on every part; the same on every machine and in every version."""
    return xxhash.xxh3_64_intdigest("\x1f".join(str(part) for part in parts).encode())


def _mix(value: int) -> int:
    """Scramble 64 bits (the finaliser of SplitMix64; Steele, Lea and Flood, OOPSLA 2014)."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)


def permute(index: int, *, size: int, key: int) -> int:
    """Return the place of ``index`` in a random order of ``range(size)`` chosen by ``key``, in constant time."""
    if not 0 <= index < size:
        raise ValueError(f"index {index} is not in range({size})")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(_ROUNDS):
            left, right = right, left ^ (_mix(key + (turn << 56) + right & _MASK64) & mask)
        index = left << half | right
        # The cipher works on a power of four; walking on from values outside keeps it one-to-one inside.
        if index < size:
            return index


@dataclasses.dataclass(frozen=True)
class _Node:
    """An inner node: children are inner nodes (>= 0) or corpora (``~corpus``, negative)."""

    left: int
    right: int
    fraction: int  # part that goes left, in units of 2**-_FRACTION_BITS

    def left_of(self, samples: int) -> int:
        """Return how many of the node's first ``samples`` samples go left."""
        return (samples * self.fraction + (1 << (_FRACTION_BITS - 1))) >> _FRACTION_BITS


class Interleaving:
    """Spreads samples over corpora so that every prefix holds each corpus's exact share.

    Args:
        shares: one positive number for each corpus; only their ratios matter.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        if not shares or min(shares) <= 0:
            raise ValueError("an interleaving needs at least one corpus, and every share must be positive")
        self.num_corpora = len(shares)
        self._nodes: list[_Node] = []
        heap = [(share, ~corpus) for corpus, share in enumerate(shares)]
        heapq.heapify(heap)
        while len(heap) > 1:
            light, heavy = heapq.heappop(heap), heapq.heappop(heap)
            total = light[0] + heavy[0]
            fraction = min(max(round(light[0] / total * (1 << _FRACTION_BITS)), 1), (1 << _FRACTION_BITS) - 1)
            self._nodes.append(_Node(left=light[1], right=heavy[1], fraction=fraction))
            heapq.heappush(heap, (total, len(self._nodes) - 1))
        self._root = heap[0][1]

    def locate(self, sample: int) -> tuple[int, int]:
        """Return (corpus, how many earlier samples that corpus has had) of a sample number."""
        place = self._root
        while place >= 0:
            node = self._nodes[place]
            before = node.left_of(sample)
            if node.left_of(sample + 1) > before:
                place, sample = node.left, before
            else:
                place, sample = node.right, sample - before
        return ~place, sample

    def counts(self, samples: int) -> list[int]:
        """Return how many of the first ``samples`` samples each corpus has; they add up to ``samples``."""
        counts = [0] * self.num_corpora
        stack = [(self._root, samples)]
        while stack:
            place, number = stack.pop()
            if place < 0:
                counts[~place] = number
                continue
            node = self._nodes[place]
            left = node.left_of(number)
            stack += [(node.left, left), (node.right, number - left)]
        return counts

    def bound(self) -> float:
        """Return the largest possible ``abs(count - share * prefix)`` of any corpus in any prefix, in samples.

        A node rounds by at most 1/2, and passes the part of its own error on that it passes of its samples. In a
        Huffman tree two levels halve a share, which keeps the sum below 1 + (share of the parent) < 2; below 1.5, the
        count is the rounded share or one beside it.
        """
        worst = 0.0
        stack = [(self._root, 0.0)]
        while stack:
            place, error = stack.pop()
            worst = max(worst, error)
            if place >= 0:
                node = self._nodes[place]
                part = node.fraction / (1 << _FRACTION_BITS)
                stack += [(node.left, 0.5 + part * error), (node.right, 0.5 + (1 - part) * error)]
        return worst


@dataclasses.dataclass(frozen=True)
class Sample:
    """Where one training sequence comes from.

    Attributes:
        corpus: index of the corpus.
        epoch: how often the corpus had been gone through before.
        window: number of the window within the epoch's order of the text.
        start: first token in the corpus's stream; the sequence runs on from there and around the end.
    """

    corpus: int
    epoch: int
    window: int
    start: int


class SampleOrder:
    """The order of a whole run, for ever: any sample number, in constant time.

    Args:
        seed: chooses the permutations and offsets.
        names: one unique name for each corpus; a corpus's own order depends on its name and not on its neighbours.
        tokens: length of each corpus in tokens.
        shares: relative number of samples for each corpus.
        seq_length: tokens a sample is trained on; windows are one token longer, the last one being a target only.
    """

    def __init__(
        self, *, seed: int, names: Sequence[str], tokens: Sequence[int], shares: Sequence[float], seq_length: int
    ) -> None:
        empty = [name for name, length in zip(names, tokens, strict=True) if length < 1]
        if empty:
            raise ValueError(f"these corpora have no tokens and cannot be sampled from: {', '.join(empty)}")
        self.interleaving = Interleaving(shares)
        self.seq_length = seq_length
        self._tokens = list(tokens)
        self._keys = [key_of("window order", seed, name) for name in names]

    def windows(self, corpus: int) -> int:
        """Return the number of windows of one epoch; a corpus shorter than a window has one, which goes around it."""
        return max(1, self._tokens[corpus] // self.seq_length)

    def sample(self, number: int) -> Sample:
        """Return where sample ``number`` comes from."""
        corpus, ordinal = self.interleaving.locate(number)
        windows, length = self.windows(corpus), self._tokens[corpus]
        epoch, turn = divmod(ordinal, windows)
        key = _mix((self._keys[corpus] + epoch) & _MASK64)
        window = permute(turn, size=windows, key=key)
        # An epoch begins where the one before ended, so that over time every token comes equally often. Where that is
        # always the same place, the borders would never move, and nothing is lost by a free offset.
        taken = windows * self.seq_length
        offset = self._keys[corpus] + (key if taken % length == 0 else epoch * taken)
        start = (offset + window * self.seq_length) % length
        return Sample(corpus=corpus, epoch=epoch, window=window, start=start)
