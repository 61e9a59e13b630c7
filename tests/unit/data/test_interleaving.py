from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.data import interleaving as module
from megatron.data.interleaving import Interleaving

# Corpora with and without a share, at least one of them with.
SHARES = st.lists(st.one_of(st.floats(1e-6, 1.0), st.just(0.0)), min_size=1, max_size=60).filter(any)
HUGE = 2**40


@settings(deadline=None)
@given(shares=SHARES, samples=st.integers(0, 3000))
def test_counts_agree_with_locating_every_sample(shares: list[float], samples: int) -> None:
    interleaving = Interleaving(shares)
    seen = [0] * len(shares)
    for number in range(samples):
        corpus, ordinal = interleaving.locate(number)
        assert ordinal == seen[corpus]
        seen[corpus] += 1
    assert seen == interleaving.counts(samples)
    assert seen == [interleaving.count(corpus, samples) for corpus in range(len(shares))]


@given(shares=SHARES, samples=st.integers(0, 10**8) | st.integers(0, HUGE))
def test_every_prefix_has_the_exact_shares(shares: list[float], samples: int) -> None:
    interleaving = Interleaving(shares)
    counts = interleaving.counts(samples)
    assert sum(counts) == samples
    total = math.fsum(shares)
    bounds = interleaving.bounds()
    assert interleaving.bound() == max(bounds) < 2
    for share, count, bound in zip(shares, counts, bounds, strict=True):
        assert abs(count - samples * (share / total)) <= bound + samples / 2**30


def test_546_corpora_stay_within_one_sample_of_the_plan() -> None:
    shares = [0.99**corpus for corpus in range(546)]
    interleaving = Interleaving(shares)
    assert interleaving.bound() < 1.5
    total = sum(shares)
    for samples in (1, 17, 4096, 1_000_003, 49_152_000):
        counts = interleaving.counts(samples)
        assert all(abs(n - round(samples * s / total)) <= 1 for n, s in zip(counts, shares, strict=True))


@settings(deadline=None)
@given(shares=SHARES, start=st.integers(0, 10**6) | st.integers(0, HUGE), samples=st.integers(0, 400))
def test_many_are_assigned_as_one_is_located(shares: list[float], start: int, samples: int) -> None:
    interleaving = Interleaving(shares)
    assigned = interleaving.assign(start, start + samples)
    assert assigned.tolist() == [interleaving.locate(start + i)[0] for i in range(samples)]
    assert assigned.dtype == "int32"


def test_pieces_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    interleaving = Interleaving([5.0, 3.0, 0.0, 2.0, 1.0])
    whole = interleaving.assign(HUGE, HUGE + 1000).tolist()
    monkeypatch.setattr(module, "_PIECE", 7)
    assert interleaving.assign(HUGE, HUGE + 1000).tolist() == whole


@given(shares=SHARES, samples=st.integers(0, 10**6))
def test_corpora_without_a_share_change_nothing(shares: list[float], samples: int) -> None:
    without = [corpus for corpus, share in enumerate(shares) if share > 0]
    some, few = Interleaving(shares), Interleaving([shares[corpus] for corpus in without])
    corpus, ordinal = few.locate(samples)
    assert some.locate(samples) == (without[corpus], ordinal)
    assert [count for count, share in zip(some.counts(samples), shares, strict=True) if share == 0] == [0] * (
        len(shares) - len(without)
    )


def test_the_order_is_the_same_for_ever() -> None:
    # A run that is resumed with a later version must go on with the same samples.
    interleaving = Interleaving([5.0, 3.0, 2.0, 1.0, 0.0])
    assert interleaving.assign(0, 22).tolist() == [1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2]
    assert interleaving.locate(10**12) == (1, 272727272706)


@pytest.mark.parametrize(
    ("shares", "problem"),
    [
        ([1.0, -1.0, math.nan], "corpus 1 has -1.0, corpus 2 has nan"),
        ([1.0, math.inf], "corpus 1 has inf"),
        ([0.0, 0.0], r"positive number; it is 0.0 \(2 shares\)"),
        ([], r"positive number; it is 0 \(0 shares\)"),
        ([1e308, 1e308], "positive number; it is inf"),
    ],
)
def test_shares_that_are_none(shares: list[float], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Interleaving(shares)


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4)])
def test_a_range_of_no_samples(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="range of sample numbers"):
        Interleaving([1.0]).assign(start, stop)
