from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.data.order import ORDER_VERSION, Sample, SampleOrder, key_of, permute
from megatron.data.phased_interleaving import OrderPhase


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


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_small_permutations_come_equally_often(size: int) -> None:
    keys = [key_of("test", number) for number in range(24_000)]
    orders = Counter(tuple(permute(index, size=size, key=key) for index in range(size)) for key in keys)
    expected = len(keys) / math.factorial(size)
    assert len(orders) == math.factorial(size)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in orders.values())


def test_the_order_of_this_version_does_not_change() -> None:
    """Runs depend on it: who changes these numbers must raise ORDER_VERSION."""
    assert ORDER_VERSION == 3
    assert [permute(index, size=7, key=12345) for index in range(7)] == [0, 4, 1, 5, 3, 2, 6]
    assert [permute(index, size=1000, key=99) for index in range(5)] == [314, 851, 175, 554, 91]
    assert [tuple(order().sample(number)) for number in (0, 1, 2, 500, 10**9)] == [
        (0, 0, 16, 784), (1, 0, 2, 13), (0, 0, 23, 854), (0, 3, 58, 836), (0, 7500000, 75, 977),
    ]  # fmt: skip


def order(**changes: object) -> SampleOrder:
    """Return an order of two corpora; ``shares`` instead of ``phases`` make a single phase."""
    settings = {"seed": 1, "names": ["a", "b"], "tokens": [1000, 37], "shares": (3.0, 1.0), "seq_length": 10, **changes}
    shares = settings.pop("shares")
    return SampleOrder(**{"phases": [OrderPhase(0, 0, shares)], **settings})


# Corpus "c" comes with the second phase, "b" goes with the third.
PHASES = (
    OrderPhase(0, 0, (3.0, 1.0, 0.0)),
    OrderPhase(150, 100, (1.0, 1.0, 2.0)),
    OrderPhase(300, 0, (2.0, 0.0, 1.0)),
)


def phased_order(**changes: object) -> SampleOrder:
    return order(**{"names": ["a", "b", "c"], "tokens": [1000, 137, 203], "phases": PHASES, **changes})


@given(tokens=st.integers(1, 500), seq_length=st.integers(1, 50), seed=st.integers(0, 5))
def test_every_window_of_an_epoch_comes_once(tokens: int, seq_length: int, seed: int) -> None:
    one = order(names=["a"], tokens=[tokens], shares=(1.0,), seq_length=seq_length, seed=seed)
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
    one = order(names=["a"], tokens=[tokens], shares=(1.0,))
    epochs = [[one.sample(epoch * 1000 + turn) for turn in range(1000)] for epoch in range(3)]
    assert len({tuple(sample.window for sample in epoch) for epoch in epochs}) == 3
    assert len({frozenset(sample.start for sample in epoch) for epoch in epochs}) == 3


@given(tokens=st.integers(1, 300), seq_length=st.integers(1, 60), samples=st.integers(1, 200))
def test_over_time_every_token_comes_equally_often(tokens: int, seq_length: int, samples: int) -> None:
    one = order(names=["a"], tokens=[tokens], shares=(1.0,), seq_length=seq_length)
    windows = one.windows(0)
    whole = samples - samples % windows  # in the middle of an epoch some windows have yet to come
    counts = Counter((sample.start + i) % tokens for sample in map(one.sample, range(whole)) for i in range(seq_length))
    if whole and windows * seq_length % tokens:
        assert max(counts.values()) - min(counts[token] for token in range(tokens)) <= 1


def test_a_corpus_keeps_its_order_when_others_come_and_go() -> None:
    alone = order(names=["a"], tokens=[1000], shares=(1.0,))
    both = order()
    of_a = [sample for sample in map(both.sample, range(400)) if sample.corpus == 0]
    assert [(s.epoch, s.window, s.start) for s in of_a] == [
        (s.epoch, s.window, s.start) for s in map(alone.sample, range(len(of_a)))
    ]


def test_the_seed_matters_and_nothing_else_does() -> None:
    first, again, other = order(), order(), order(seed=2)
    assert [first.sample(n) for n in (5, 3, 700)] == [again.sample(n) for n in (5, 3, 700)]
    assert [first.sample(n) for n in range(20)] != [other.sample(n) for n in range(20)]


def samples_of_a_run(steps: int, *, batch: int, ranks: int, micro_batch: int) -> list[Sample]:
    """Return what a run trains on in order of sample numbers; every rank draws its own part, with its own order."""
    drawn: dict[int, Sample] = {}
    for rank in range(ranks):
        mine = phased_order()
        for step in range(steps):
            first = step * batch + rank * (batch // ranks)
            for micro in range(first, first + batch // ranks, micro_batch):
                drawn.update((number, mine.sample(number)) for number in range(micro, micro + micro_batch))
    assert sorted(drawn) == list(range(steps * batch))
    return [drawn[number] for number in range(steps * batch)]


def test_longer_runs_and_other_batches_and_layouts_only_append() -> None:
    longest = samples_of_a_run(60, batch=8, ranks=1, micro_batch=8)
    layouts = ((30, 8, 1, 8), (60, 8, 4, 1), (30, 16, 2, 4), (45, 10, 5, 2), (96, 5, 1, 1))
    for steps, batch, ranks, micro_batch in layouts:
        run = samples_of_a_run(steps, batch=batch, ranks=ranks, micro_batch=micro_batch)
        assert run == longest[: len(run)]


@settings(deadline=None)
@given(
    tokens=st.tuples(*[st.integers(1, 600)] * 3),
    first=st.integers(0, 150),
    ramp=st.integers(0, 150),
    seed=st.integers(0, 5),
)
def test_every_window_of_an_epoch_comes_once_across_phases(
    tokens: tuple[int, int, int], first: int, ramp: int, seed: int
) -> None:
    phases = (PHASES[0], OrderPhase(first, ramp, PHASES[1].shares), OrderPhase(300, 0, PHASES[2].shares))
    one = phased_order(tokens=tokens, phases=phases, seed=seed)
    drawn: dict[int, list[tuple[int, int]]] = {0: [], 1: [], 2: []}
    for sample in map(one.sample, range(400)):
        drawn[sample.corpus].append((sample.epoch, sample.window))
    assert sum(map(len, drawn.values())) == 400
    for corpus, taken in drawn.items():
        windows = one.windows(corpus)
        for epoch in range(-(-len(taken) // windows)):
            part = taken[epoch * windows : (epoch + 1) * windows]
            assert {number for number, _ in part} == {epoch}
            assert len({window for _, window in part}) == len(part)
            assert all(0 <= window < windows for _, window in part)


@settings(deadline=None)
@given(tokens=st.tuples(*[st.integers(10, 3000)] * 3), limit=st.integers(0, 500))
def test_the_first_repeat_is_the_first_sample_of_the_second_epoch(tokens: tuple[int, int, int], limit: int) -> None:
    one = phased_order(tokens=tokens)
    samples = [one.sample(number) for number in range(limit)]
    for corpus in range(3):
        repeats = [number for number, sample in enumerate(samples) if sample.corpus == corpus and sample.epoch >= 1]
        assert one.first_repeat(corpus, limit=limit) == (repeats[0] if repeats else None)


def test_the_first_repeat_of_a_corpus_alone_comes_right_after_its_windows() -> None:
    assert order(names=["a"], tokens=[105], shares=(1.0,)).first_repeat(0, limit=11) == 10


def test_a_corpus_shorter_than_a_sample_repeats_in_its_first_one() -> None:
    assert order(names=["a"], tokens=[9], shares=(1.0,)).first_repeat(0, limit=1) == 0
    assert order(names=["a"], tokens=[10], shares=(1.0,)).first_repeat(0, limit=2) == 1
    assert order(names=["a"], tokens=[9], shares=(1.0,)).first_repeat(0, limit=0) is None


def test_a_first_repeat_is_found_far_away() -> None:
    far = order(tokens=[10 * 2**38, 37])
    repeat = far.first_repeat(0, limit=2**40)
    assert repeat is not None
    assert (far.sample(repeat).corpus, far.sample(repeat).epoch) == (0, 1)
    assert far.interleaving.count(0, repeat) == far.windows(0) == 2**38


def test_no_order_over_nothing() -> None:
    with pytest.raises(ValueError, match=r"no tokens.*b"):
        order(tokens=[10, 0])
    with pytest.raises(ValueError, match="1 shares for 2 corpora"):
        order(shares=(1.0,))
