"""Limits on the epochs of a corpus: what it may not take goes to the others, by filling up ("water-filling").

A corpus over its limit is held at it, in all phases in proportion. Its surplus goes to the other corpora of its source
in proportion to what they want, and what a used-up source leaves goes to the other sources in proportion to their
shares. That is repeated until no corpus is over its limit. With one phase the result is exact; with several, limits
that they use up together almost wholly may be refused although another division between the phases would fit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

_SLACK = 1e-12  # a limit that is met to rounding is met
_FULL = 1e-9


class CapsError(ValueError):
    """The limits leave too little for some phases.

    Attributes:
        short: number of each such phase, and the samples that it can be given.
    """

    def __init__(self, short: Sequence[tuple[int, float]]) -> None:
        self.short = tuple(short)
        super().__init__("; ".join(f"phase {number} can only have {samples:g} samples" for number, samples in short))


@dataclasses.dataclass
class _Phase:
    """A phase while it is filled.

    Attributes:
        number: number among all phases.
        samples: its length.
        wanted: share of each corpus without limits.
        sources: of each source, its share and those of its corpora that are wanted.
        shares: what each corpus has so far.
    """

    number: int
    samples: int
    wanted: Sequence[float]
    sources: Sequence[tuple[float, Sequence[int]]]
    shares: list[float]

    def reset(self) -> None:
        """Begin again with what is wanted."""
        self.shares = list(self.wanted)

    def pour(self, held: Sequence[bool]) -> None:
        """Give the corpora that are not held what those that are held leave."""
        if not any(held[corpus] for _, corpora in self.sources for corpus in corpora):
            return  # else its shares would change in their last bits
        shares, wanted = self.shares, self.wanted
        flowing, used = [], []
        for share, corpora in self.sources:
            free = [corpus for corpus in corpora if not held[corpus]]
            taken = math.fsum([shares[corpus] for corpus in corpora if held[corpus]])
            if free:
                flowing.append((share, taken, free))
            else:
                used.append(taken)
        left, whole = 1 - math.fsum(used), math.fsum(share for share, _, _ in flowing)
        for share, taken, free in flowing:
            budget = max(0.0, left * (share / whole) - taken)
            weight = math.fsum([wanted[corpus] for corpus in free])
            for corpus in free:
                shares[corpus] = budget * (wanted[corpus] / weight)


def limited_shares(
    wanted: Sequence[Sequence[float]], *, samples: Sequence[int], sources: Sequence[str], limits: Sequence[float]
) -> list[list[float]]:
    """Return every phase's shares with no corpus over its limit; those of a phase add up to 1.

    Nothing changes, not a bit, when no limit is exceeded. Phases of no samples stay as they are.

    Args:
        wanted: of each phase, the share of each corpus; they add up to 1.
        samples: length of each phase.
        sources: source of each corpus.
        limits: most samples of each corpus over all phases; ``math.inf`` where there is no limit.

    Raises:
        CapsError: the limits are too low for some phases.
    """
    phases = [
        _phase(number, length, shares, sources)
        for number, (length, shares) in enumerate(zip(samples, wanted, strict=True))
        if length > 0
    ]
    # A phase that few corpora serve is filled before the others, which then have what it leaves.
    first: list[_Phase] = []
    while True:
        if short := _fill(first, limits):
            raise CapsError([(phase.number, phase.samples * math.fsum(phase.shares)) for phase in short])
        rest = [phase for phase in phases if phase not in first]
        short = _fill(rest, _left(first, limits) if first else limits)
        if not short:
            filled = {phase.number: phase.shares for phase in phases}
            return [filled.get(number, list(shares)) for number, shares in enumerate(wanted)]
        first += short


def _phase(number: int, length: int, wanted: Sequence[float], sources: Sequence[str]) -> _Phase:
    of_source: dict[str, list[int]] = {}
    for corpus, (share, source) in enumerate(zip(wanted, sources, strict=True)):
        if share > 0:
            of_source.setdefault(source, []).append(corpus)
    parts = [(math.fsum(wanted[corpus] for corpus in corpora), corpora) for corpora in of_source.values()]
    return _Phase(number, length, wanted, parts, list(wanted))


def _fill(phases: Sequence[_Phase], limits: Sequence[float]) -> list[_Phase]:
    """Set the shares of some phases; return those that cannot be filled."""
    for phase in phases:
        phase.reset()
    held = [False] * len(limits)
    limited = [corpus for corpus, limit in enumerate(limits) if limit < math.inf]
    while True:
        demands = {corpus: _demand(phases, corpus) for corpus in limited if not held[corpus]}
        over = {corpus: demand for corpus, demand in demands.items() if demand > limits[corpus] * (1 + _SLACK)}
        if not over:
            break
        for corpus, demand in over.items():
            held[corpus] = True
            for phase in phases:
                phase.shares[corpus] *= limits[corpus] / demand
        for phase in phases:
            phase.pour(held)
    return [phase for phase in phases if any(held) and not _filled(phase)]


def _demand(phases: Sequence[_Phase], corpus: int) -> float:
    if len(phases) == 1:
        return phases[0].samples * phases[0].shares[corpus]
    return math.fsum([phase.samples * phase.shares[corpus] for phase in phases])


def _filled(phase: _Phase) -> bool:
    """Return whether the shares add up to 1; make it exact where only rounding is missing."""
    total = math.fsum(phase.shares)
    if total < 1 - _FULL:
        return False
    if abs(total - 1) > _SLACK:
        phase.shares = [share / total for share in phase.shares]
    return True


def _left(phases: Sequence[_Phase], limits: Sequence[float]) -> list[float]:
    """Return what some phases leave of the limits."""
    return [
        max(0.0, limit - _demand(phases, corpus)) if limit < math.inf else limit for corpus, limit in enumerate(limits)
    ]
