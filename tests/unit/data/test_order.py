from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.data.order import Interleaving, SampleOrder, permute

SHARES = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=60)


@given(size=st.integers(1, 2000), key=st.integers(0, 2**64 - 1))
def test_permutation_takes_every_place_once(size: int, key: int) -> None:
    assert sorted(permute(index, size=size, key=key) for index in range(size)) == list(range(size))


def test_permutation_depends_on_its_key() -> None:
    orders = {tuple(permute(index, size=50, key=key) for index in range(50)) for key in range(100)}
    assert len(orders) == 100


def test_permutation_spreads_evenly() -> None:
    # Where item 0 goes over 20,000 keys: each of 10 places 2,000 times, give or take five standard deviations.
    places = Counter(permute(0, size=10, key=key * 0x9E3779B97F4A7C15 & (2**64 - 1)) for key in range(20_000))
    assert all(abs(places[place] - 2000) < 5 * 42.4 for place in range(10))


@settings(deadline=None)
@given(shares=SHARES, samples=st.integers(0, 5000))
def test_counts_agree_with_locating_every_sample(shares: list[float], samples: int) -> None:
    interleaving = Interleaving(shares)
    seen = [0] * len(shares)
    for number in range(samples):
        corpus, ordinal = interleaving.locate(number)
        assert ordinal == seen[corpus]
        seen[corpus] += 1
    assert seen == interleaving.counts(samples)


@given(shares=SHARES, samples=st.integers(0, 10**8))
def test_every_prefix_has_the_exact_shares(shares: list[float], samples: int) -> None:
    interleaving = Interleaving(shares)
    counts = interleaving.counts(samples)
    assert sum(counts) == samples
    total = sum(shares)
    # Fractions are kept to 2**-32, which adds one sample in 2**32 for each level of the tree.
    rounding = samples * len(shares) / 2**32
    bound = interleaving.bound()
    assert bound < 2
    for share, count in zip(shares, counts, strict=True):
        assert abs(count - samples * share / total) <= bound + rounding


def test_546_corpora_stay_within_one_sample_of_the_plan() -> None:
    shares = [0.99**corpus for corpus in range(546)]
    interleaving = Interleaving(shares)
    assert interleaving.bound() < 1.5
    total = sum(shares)
    for samples in (1, 17, 4096, 1_000_003, 49_152_000):
        counts = interleaving.counts(samples)
        assert all(abs(n - round(samples * s / total)) <= 1 for n, s in zip(counts, shares, strict=True))


def order(**changes: object) -> SampleOrder:
    settings = {"seed": 1, "names": ["a", "b"], "tokens": [1000, 37], "shares": [3.0, 1.0], "seq_length": 10}
    return SampleOrder(**{**settings, **changes})


@given(tokens=st.integers(1, 500), seq_length=st.integers(1, 50), seed=st.integers(0, 5))
def test_every_window_of_an_epoch_comes_once(tokens: int, seq_length: int, seed: int) -> None:
    one = order(names=["a"], tokens=[tokens], shares=[1.0], seq_length=seq_length, seed=seed)
    windows = one.windows(0)
    for epoch in range(3):
        samples = [one.sample(epoch * windows + turn) for turn in range(windows)]
        assert {sample.epoch for sample in samples} == {epoch}
        assert sorted(sample.window for sample in samples) == list(range(windows))
        # Windows of one epoch share no token unless the corpus is shorter than one.
        covered = Counter((sample.start + i) % tokens for sample in samples for i in range(min(seq_length, tokens)))
        assert max(covered.values()) == 1


@pytest.mark.parametrize("tokens", [10_000, 10_003])
def test_epochs_differ_in_order_and_borders(tokens: int) -> None:
    one = order(names=["a"], tokens=[tokens], shares=[1.0])
    epochs = [[one.sample(epoch * 1000 + turn) for turn in range(1000)] for epoch in range(3)]
    assert len({tuple(sample.window for sample in epoch) for epoch in epochs}) == 3
    assert len({frozenset(sample.start for sample in epoch) for epoch in epochs}) == 3


@given(tokens=st.integers(1, 300), seq_length=st.integers(1, 60), samples=st.integers(1, 200))
def test_over_time_every_token_comes_equally_often(tokens: int, seq_length: int, samples: int) -> None:
    one = order(names=["a"], tokens=[tokens], shares=[1.0], seq_length=seq_length)
    windows = one.windows(0)
    whole = samples - samples % windows  # in the middle of an epoch some windows have yet to come
    counts = Counter(
        (sample.start + i) % tokens for sample in map(one.sample, range(whole)) for i in range(seq_length)
    )
    if whole and windows * seq_length % tokens:
        assert max(counts.values()) - min(counts[token] for token in range(tokens)) <= 1


def test_a_corpus_keeps_its_order_when_others_come_and_go() -> None:
    alone = order(names=["a"], tokens=[1000], shares=[1.0])
    both = order()
    of_a = [sample for sample in map(both.sample, range(400)) if sample.corpus == 0]
    assert [(s.epoch, s.window, s.start) for s in of_a] == [
        (s.epoch, s.window, s.start) for s in map(alone.sample, range(len(of_a)))
    ]


def test_the_seed_matters_and_nothing_else_does() -> None:
    first, again, other = order(), order(), order(seed=2)
    assert [first.sample(n) for n in (5, 3, 700)] == [again.sample(n) for n in (5, 3, 700)]
    assert [first.sample(n) for n in range(20)] != [other.sample(n) for n in range(20)]


def test_no_order_over_nothing() -> None:
    with pytest.raises(ValueError, match=r"no tokens.*b"):
        order(tokens=[10, 0])
    with pytest.raises(ValueError, match="positive"):
        Interleaving([1.0, 0.0])
