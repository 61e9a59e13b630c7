"""Which corpus sample number ``i`` is of, when the shares change in the course of the run.

Every phase has an :class:`~megatron.data.interleaving.Interleaving` of its own, which counts its own samples. Where a
phase takes over gradually, the samples of the ramp are divided between it and the phase before by a closed form, so
that everything stays a function of the sample number, and a phase changes nothing that comes before it.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from megatron.data.interleaving import Interleaving

# Twice such a number times a piece's length is exact in 64 bits.
_LONGEST_RAMP = 1 << 40
_PIECE = 1 << 19


@dataclasses.dataclass(frozen=True)
class OrderPhase:
    """A stretch of the run with its own shares, up to the next phase.

    Attributes:
        first: its first sample number.
        ramp: samples, from the first on, over which it takes over linearly from the phase before.
        shares: one for each corpus, 0 for those that do not come; only their ratios matter.
    """

    first: int
    ramp: int
    shares: tuple[float, ...]


def ramp_samples(turn: int, ramp: int) -> int:
    """Return how many of a ramp's first ``turn`` samples are the new phase's: ``turn**2 / (2 * ramp)``, rounded."""
    return (turn * turn + ramp) // (2 * ramp)


class PhasedInterleaving:
    """Spreads samples over corpora by shares that depend on the phase.

    Args:
        phases: in the order of their start; the first starts at 0 without a ramp, and a ramp ends before the next
            phase starts.

    Raises:
        ValueError: listing everything that is wrong with the phases, or with the shares of one of them.
    """

    def __init__(self, phases: Sequence[OrderPhase]) -> None:
        _check(phases)
        self.num_corpora = len(phases[0].shares)
        self._phases = tuple(phases)
        self._firsts = [phase.first for phase in phases]
        self._trees = [Interleaving(phase.shares) for phase in phases]
        # Once a phase has taken over, its interleaving has had (sample number + shift) samples.
        self._shifts = [(phase.ramp + 1) // 2 - phase.ramp - phase.first for phase in phases]
        # What each corpus has had, when a phase has taken over, of all phases before.
        self._earlier = [[0] * self.num_corpora]
        for old, new in enumerate(phases[1:]):
            total = new.first + new.ramp + self._shifts[old] - (new.ramp + 1) // 2
            counts = self._trees[old].counts(total)
            self._earlier.append([a + b for a, b in zip(self._earlier[old], counts, strict=True)])

    def _active(self, samples: int) -> list[tuple[int, int]]:
        """Return the phases that sample number ``samples`` may be of, and how many samples each has had before it.

        These are two in a ramp, the old one first, and else one.
        """
        number = bisect.bisect_right(self._firsts, samples) - 1
        if number < 0:
            raise ValueError(f"{samples} is not a number of samples")
        turn, ramp = samples - self._firsts[number], self._phases[number].ramp
        if turn >= ramp:
            return [(number, samples + self._shifts[number])]
        new = ramp_samples(turn, ramp)
        return [(number - 1, samples + self._shifts[number - 1] - new), (number, new)]

    def locate(self, sample: int) -> tuple[int, int]:
        """Return (corpus, how many earlier samples that corpus has had, in all phases) of a sample number."""
        number = bisect.bisect_right(self._firsts, sample) - 1
        # Nearly every sample is outside of ramps; the loader's speed depends on this way being short.
        if number >= 0 and sample - self._firsts[number] >= self._phases[number].ramp:
            corpus, ordinal = self._trees[number].locate(sample + self._shifts[number])
            return corpus, ordinal + self._earlier[number][corpus]
        (old, _), (new, taken_over) = active = self._active(sample)
        phase = self._phases[new]
        is_new = ramp_samples(sample + 1 - phase.first, phase.ramp) > taken_over
        number, turn = active[is_new]
        corpus, ordinal = self._trees[number].locate(turn)
        other, had = active[not is_new]
        return corpus, ordinal + self._earlier[old][corpus] + self._trees[other].count(corpus, had)

    def assign(self, start: int, stop: int) -> NDArray[np.int32]:
        """Return the corpus of every sample number in ``[start, stop)``: ``locate`` for many at once, but ordinals.

        Raises:
            ValueError: the range is not one of sample numbers.
        """
        if not 0 <= start <= stop:
            raise ValueError(f"[{start}, {stop}) is not a range of sample numbers")
        corpora = np.empty(stop - start, dtype=np.int32)
        sample = start
        while sample < stop:
            active = self._active(sample)
            number, turn = active[-1]
            phase = self._phases[number]
            end = stop if number + 1 == len(self._phases) else min(stop, self._firsts[number + 1])
            if len(active) == 1:
                piece = self._trees[number].assign(turn, turn + end - sample)
            else:
                end = min(end, sample + _PIECE, phase.first + phase.ramp)
                piece = self._assign_ramp(active, phase, sample, end)
            corpora[sample - start : end - start] = piece
            sample = end
        return corpora

    def _assign_ramp(
        self, active: Sequence[tuple[int, int]], phase: OrderPhase, start: int, stop: int
    ) -> NDArray[np.int32]:
        """Return the corpora of samples within one ramp: as in ``assign``, at most a piece."""
        first = start - phase.first
        # ``ramp_samples`` of the first turn and of those after it, less what it is for the first: below 2**62.
        rest = (first * first + phase.ramp) % (2 * phase.ramp)
        steps = np.arange(stop - start + 1, dtype=np.int64)
        taken_over = (steps * (steps + 2 * first) + rest) // (2 * phase.ramp)
        is_new = taken_over[1:] > taken_over[:-1]
        corpora = np.empty(stop - start, dtype=np.int32)
        for (number, turn), mine in zip(active, (~is_new, is_new), strict=True):
            corpora[mine] = self._trees[number].assign(turn, turn + int(np.count_nonzero(mine)))
        return corpora

    def count(self, corpus: int, samples: int) -> int:
        """Return how many of the first ``samples`` samples one corpus has."""
        active = self._active(samples)
        return self._earlier[active[0][0]][corpus] + sum(self._trees[n].count(corpus, had) for n, had in active)

    def counts(self, samples: int) -> list[int]:
        """Return how many of the first ``samples`` samples each corpus has; they add up to ``samples``."""
        active = self._active(samples)
        counts = [self._earlier[active[0][0]], *(self._trees[number].counts(had) for number, had in active)]
        return [sum(of_corpus) for of_corpus in zip(*counts, strict=True)]

    def expected(self, samples: int) -> list[float]:
        """Return what the shares make of the first ``samples`` samples for each corpus, in fractions of samples."""
        entered = [_entered(phase, samples) for phase in self._phases]
        drawn = [mine - later for mine, later in zip(entered, [*entered[1:], 0.0], strict=True)]
        expected = [0.0] * self.num_corpora
        for phase, number in zip(self._phases, drawn, strict=True):
            shares = _normalised(phase.shares)
            expected = [so_far + number * share for so_far, share in zip(expected, shares, strict=True)]
        return expected

    def bound(self) -> float:
        """Return what ``abs(count - expected)`` of a corpus cannot exceed in any prefix, in samples.

        Let phase ``k`` have had ``m[k]`` samples, and ``m'[k]`` without rounding. A corpus's count differs from
        ``sum(share[k] * m[k])`` by at most the sum of its bounds in the phases' trees. There remains ``sum(share[k] *
        (m[k] - m'[k]))``. A ramp rounds once, by ``d[k]``, at most 1/2: what phase ``k`` gains, the phase before loses.
        So ``m[k] - m'[k] = d[k] - d[k + 1]``, and the sum is ``sum(d[k] * (share[k] - share[k - 1]))``: at most half of
        what the share changes by, for each ramp. With one phase this is :meth:`Interleaving.bound`, and as there, less
        than one sample in 2**30 comes to it because fractions are kept to 2**-32.
        """
        bounds: list[float] = [
            sum(of_corpus) for of_corpus in zip(*(tree.bounds() for tree in self._trees), strict=True)
        ]
        for old, new in itertools.pairwise(self._phases):
            if new.ramp:
                shares = zip(_normalised(old.shares), _normalised(new.shares), strict=True)
                bounds = [bound + abs(b - a) / 2 for bound, (a, b) in zip(bounds, shares, strict=True)]
        return max(bounds)


def _entered(phase: OrderPhase, samples: int) -> float:
    """Return how many of the first ``samples`` samples are of a phase or a later one, before anything is rounded."""
    turn = max(0, samples - phase.first)
    return turn * turn / (2 * phase.ramp) if turn < phase.ramp else turn - phase.ramp / 2


def _normalised(shares: Sequence[float]) -> list[float]:
    total = math.fsum(shares)
    return [share / total for share in shares]


def _check(phases: Sequence[OrderPhase]) -> None:
    """Refuse phases that overlap, or that do not start at the beginning."""
    if not phases:
        raise ValueError("an order needs at least one phase")
    problems = []
    if (phases[0].first, phases[0].ramp) != (0, 0):
        problems.append(
            f"phase 0 must start at sample 0 without a ramp, not at {phases[0].first} with {phases[0].ramp}"
        )
    for number, phase in enumerate(phases):
        if not 0 <= phase.ramp <= _LONGEST_RAMP:
            problems.append(f"phase {number} has a ramp of {phase.ramp} samples; it must be 0 to {_LONGEST_RAMP}")
        if len(phase.shares) != len(phases[0].shares):
            problems.append(f"phase {number} has {len(phase.shares)} shares, phase 0 has {len(phases[0].shares)}")
    for number, (before, phase) in enumerate(itertools.pairwise(phases), start=1):
        ready = before.first + before.ramp
        if phase.first < ready:
            problems.append(
                f"phase {number} starts at sample {phase.first}, but phase {number - 1} has taken over only at {ready}"
            )
    if problems:
        raise ValueError("; ".join(problems))
