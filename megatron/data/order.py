"""Which tokens sample number ``i`` holds: a pure function of the seed and ``i``.

Nothing is built, stored or exchanged. Two ideas make that possible:

* **Which corpus.** A tree of rounded fractions splits the sample numbers
  (:class:`~megatron.data.interleaving.Interleaving`), one for each phase of the run
  (:class:`~megatron.data.phased_interleaving.PhasedInterleaving`).
* **Which window.** A corpus is a ring of tokens. Each epoch cuts it into windows from where the last epoch ended, and
  takes them in another order: a keyed Feistel permutation (Black and Rogaway, "Ciphers with arbitrary finite
  domains", 2002).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import NamedTuple

import xxhash

from megatron.data.phased_interleaving import OrderPhase, PhasedInterleaving

ORDER_VERSION = 3
"""Goes up whenever the same seed gives another order; a run cannot be resumed across that."""

_ROUNDS = 6
_ROUNDS_OF_FEW = 16  # with few places it takes more until all orders come equally often
_FEW = 256
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
    # The cipher works on a rectangle of width x height, the smallest near a square that holds the range.
    width = math.isqrt(size - 1) + 1
    height = -(-size // width)
    rounds = _ROUNDS if size > _FEW else _ROUNDS_OF_FEW
    while True:
        left, right = divmod(index, width)
        for turn in range(0, rounds, 2):
            left = (left + _mix(key + (turn << 56) + right & _MASK64)) % height
            right = (right + _mix(key + (turn + 1 << 56) + left & _MASK64)) % width
        index = left * width + right
        # Walking on from the few values outside keeps it one-to-one inside.
        if index < size:
            return index


class Sample(NamedTuple):
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
        phases: relative number of samples for each corpus, from which sample on; see :class:`PhasedInterleaving`.
        seq_length: tokens a sample is trained on; windows are one token longer, the last one being a target only.
    """

    def __init__(
        self, *, seed: int, names: Sequence[str], tokens: Sequence[int], phases: Sequence[OrderPhase], seq_length: int
    ) -> None:
        empty = [name for name, length in zip(names, tokens, strict=True) if length < 1]
        if empty:
            raise ValueError(f"these corpora have no tokens and cannot be sampled from: {', '.join(empty)}")
        self.interleaving = PhasedInterleaving(phases)
        if self.interleaving.num_corpora != len(names):
            raise ValueError(f"the phases have {self.interleaving.num_corpora} shares for {len(names)} corpora")
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

    def first_repeat(self, corpus: int, *, limit: int) -> int | None:
        """Return the first sample number below ``limit`` with text that the corpus has given before.

        That is its first sample of epoch 1, or of all when it is shorter than a sample; None when it has none.
        """
        new, count = self._tokens[corpus] // self.seq_length, self.interleaving.count
        if count(corpus, limit) <= new:
            return None
        return bisect.bisect_left(range(limit), new + 1, lo=new, key=lambda sample: count(corpus, sample + 1))
