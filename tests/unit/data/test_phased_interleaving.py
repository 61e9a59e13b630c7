from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.data import interleaving as tree_module
from megatron.data import phased_interleaving as module
from megatron.data.interleaving import Interleaving
from megatron.data.phased_interleaving import OrderPhase, PhasedInterleaving

HUGE = 2**40


@st.composite
def phases(draw: st.DrawFn, *, longest: int = 60, max_corpora: int = 8) -> list[OrderPhase]:
    """Return one to four phases, some of them without samples, some with a ramp, some corpora without a share."""
    corpora = draw(st.integers(1, max_corpora))
    shares = st.lists(st.one_of(st.floats(1e-6, 1.0), st.just(0.0)), min_size=corpora, max_size=corpora).filter(any)
    length = st.integers(0, longest)
    found = [OrderPhase(0, 0, tuple(draw(shares)))]
    for _ in range(draw(st.integers(0, 3))):
        first = found[-1].first + found[-1].ramp + draw(length)
        found.append(OrderPhase(first, draw(length), tuple(draw(shares))))
    return found


def end(of: list[OrderPhase]) -> int:
    """Return a sample number some way into the last phase."""
    return of[-1].first + of[-1].ramp + 40


def expected_one_by_one(of: list[OrderPhase], samples: int) -> list[float]:
    """Add up every sample's shares: those of its phase, within a ramp of two."""
    totals = [math.fsum(phase.shares) for phase in of]
    expected = [0.0] * len(of[0].shares)
    for sample in range(samples):
        number = max(n for n, phase in enumerate(of) if phase.first <= sample)
        turn, ramp = sample - of[number].first, of[number].ramp
        new = (turn + 0.5) / ramp if turn < ramp else 1.0
        for part, n in ((new, number), (1 - new, number - 1)):
            if part:
                expected = [e + part * s / totals[n] for e, s in zip(expected, of[n].shares, strict=True)]
    return expected


@settings(deadline=None)
@given(of=phases())
def test_counts_and_places_of_every_sample_agree(of: list[OrderPhase]) -> None:
    phased = PhasedInterleaving(of)
    seen = [0] * phased.num_corpora
    for sample in range(end(of)):
        assert phased.counts(sample) == seen
        assert [phased.count(corpus, sample) for corpus in range(phased.num_corpora)] == seen
        corpus, ordinal = phased.locate(sample)
        assert ordinal == seen[corpus]
        seen[corpus] += 1


@settings(deadline=None)
@given(of=phases())
def test_every_prefix_has_the_shares_of_its_phases(of: list[OrderPhase]) -> None:
    phased = PhasedInterleaving(of)
    bound = phased.bound()
    assert bound < 2.5 * len(of)
    for samples in range(end(of)):
        expected = phased.expected(samples)
        assert max(abs(n - e) for n, e in zip(phased.counts(samples), expected, strict=True)) <= bound + 1e-6


@settings(deadline=None)
@given(of=phases(longest=20), samples=st.integers(0, 150))
def test_what_is_expected_is_the_sum_of_every_samples_shares(of: list[OrderPhase], samples: int) -> None:
    assert PhasedInterleaving(of).expected(samples) == pytest.approx(expected_one_by_one(of, samples), abs=1e-9)


@settings(deadline=None)
@given(ramp=st.integers(1, 300), first=st.integers(0, 50))
def test_a_ramp_is_linear_to_within_half_a_sample(ramp: int, first: int) -> None:
    phased = PhasedInterleaving([OrderPhase(0, 0, (1.0, 0.0)), OrderPhase(first, ramp, (0.0, 1.0))])
    for turn in range(ramp + 1):
        assert abs(phased.count(1, first + turn) - Fraction(turn * turn, 2 * ramp)) <= Fraction(1, 2)
    assert phased.count(0, first + ramp) == phased.count(0, first + ramp + 100)
    assert phased.bound() == 0.5
    # It starts with the old phase and ends with the new one, unless it is too short for both.
    assert ramp < 2 or [phased.locate(n)[0] for n in (first, first + ramp - 1, first + ramp)] == [0, 1, 1]


@settings(deadline=None)
@given(of=phases(), start=st.integers(0, 300), samples=st.integers(0, 300), piece=st.integers(1, 50))
def test_many_are_assigned_as_one_is_located(of: list[OrderPhase], start: int, samples: int, piece: int) -> None:
    phased = PhasedInterleaving(of)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PIECE", piece)
        patch.setattr(tree_module, "_PIECE", piece)
        assigned = phased.assign(start, start + samples)
    assert assigned.tolist() == [phased.locate(start + i)[0] for i in range(samples)]


@settings(deadline=None)
@given(
    of=phases(longest=HUGE, max_corpora=4), at=st.integers(0, 3), back=st.integers(0, 200), ahead=st.integers(0, HUGE)
)
def test_large_numbers_are_exact(of: list[OrderPhase], at: int, back: int, ahead: int) -> None:
    phased = PhasedInterleaving(of)
    phase = of[at % len(of)]
    for border in (phase.first, phase.first + phase.ramp, phase.first + phase.ramp // 2, ahead):
        start = max(0, border - back)
        located = [phased.locate(start + i) for i in range(200)]
        assert phased.assign(start, start + 200).tolist() == [corpus for corpus, _ in located]
        seen = phased.counts(start)
        assert sum(seen) == start
        for corpus, ordinal in located:
            assert ordinal == seen[corpus]
            seen[corpus] += 1
        assert phased.counts(start + 200) == seen


def test_the_longest_ramp_is_exact_a_whole_piece_long() -> None:
    phased = PhasedInterleaving([OrderPhase(0, 0, (1.0, 0.0)), OrderPhase(0, HUGE, (0.0, 1.0))])
    for start in (HUGE // 3, HUGE - 2**19):
        assigned = phased.assign(start, start + 2**19)
        assert assigned.sum() == phased.count(1, start + 2**19) - phased.count(1, start)
        assert assigned[-50:].tolist() == [phased.locate(start + 2**19 - 50 + i)[0] for i in range(50)]


@settings(deadline=None)
@given(of=phases())
def test_a_later_phase_changes_nothing_before_it(of: list[OrderPhase]) -> None:
    whole, start = PhasedInterleaving(of), of[-1].first
    if len(of) > 1:
        shorter = PhasedInterleaving(of[:-1])
        assert [whole.locate(n) for n in range(start)] == [shorter.locate(n) for n in range(start)]
        assert whole.assign(0, start).tolist() == shorter.assign(0, start).tolist()
        assert whole.counts(start) == shorter.counts(start)


@given(of=phases(), sample=st.integers(0, HUGE))
def test_one_phase_is_one_interleaving(of: list[OrderPhase], sample: int) -> None:
    phased, alone = PhasedInterleaving(of[:1]), Interleaving(of[0].shares)
    assert phased.locate(sample) == alone.locate(sample)
    assert phased.counts(sample) == alone.counts(sample)
    assert phased.bound() == alone.bound()


def test_a_corpus_may_pause() -> None:
    phased = PhasedInterleaving(
        [OrderPhase(0, 0, (1.0, 1.0)), OrderPhase(10, 0, (0.0, 1.0)), OrderPhase(20, 0, (1.0, 0.0))]
    )
    assert [phased.count(0, samples) for samples in (10, 15, 20, 25)] == [5, 5, 5, 10]
    assert phased.locate(20) == (0, 5)


def test_the_order_is_the_same_for_ever() -> None:
    # A run that is resumed with a later version must go on with the same samples.
    phased = PhasedInterleaving([OrderPhase(0, 0, (3.0, 2.0, 0.0)), OrderPhase(5, 10, (1.0, 0.0, 2.0))])
    assert phased.assign(0, 24).tolist() == [0, 1, 0, 1, 0, 0, 1, 0, 2, 1, 0, 0, 2, 2, 0, 2, 2, 0, 2, 2, 0, 2, 2, 0]


def test_all_problems_of_phases_are_told_at_once() -> None:
    wrong = [
        OrderPhase(1, 0, (1.0, 1.0)),
        OrderPhase(10, 20, (1.0,)),
        OrderPhase(29, -1, (1.0, 0.0)),
        OrderPhase(40, HUGE + 1, (1.0, 0.0)),
    ]
    with pytest.raises(ValueError, match="phase 0 must start") as caught:
        PhasedInterleaving(wrong)
    for problem in (
        "phase 0 must start at sample 0 without a ramp, not at 1 with 0",
        "phase 1 has 1 shares, phase 0 has 2",
        "phase 2 starts at sample 29, but phase 1 has taken over only at 30",
        "phase 2 has a ramp of -1 samples",
        f"phase 3 has a ramp of {HUGE + 1} samples",
    ):
        assert problem in str(caught.value)
    with pytest.raises(ValueError, match="at least one phase"):
        PhasedInterleaving([])


def test_numbers_below_zero_are_refused() -> None:
    phased = PhasedInterleaving([OrderPhase(0, 0, (1.0,))])
    for ask in (phased.locate, phased.counts, lambda n: phased.count(0, n), lambda n: phased.assign(n, 3)):
        with pytest.raises(ValueError, match="-1"):
            ask(-1)
