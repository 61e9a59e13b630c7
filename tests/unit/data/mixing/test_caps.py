from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.data.mixing.caps import CapsError, limited_shares


def normalised(values: Sequence[float]) -> list[float]:
    return [value / math.fsum(values) for value in values]


def one_phase(wanted: Sequence[float], sources: str, limits: Sequence[float]) -> list[float]:
    """One phase of one sample: limits are shares."""
    return limited_shares([wanted], samples=[1], sources=list(sources), limits=limits)[0]


def solve(total: float, wanted: Sequence[float], limits: Sequence[float]) -> list[float]:
    """Return ``min(level * wanted, limit)`` with the level that makes them add up to ``total``, by bisection."""
    low, high = 0.0, 1e18
    for _ in range(150):
        level = (low + high) / 2
        if math.fsum(min(level * value, limit) for value, limit in zip(wanted, limits, strict=True)) < total:
            low = level
        else:
            high = level
    return [min(high * value, limit) for value, limit in zip(wanted, limits, strict=True)]


def reference(wanted: Sequence[float], sources: Sequence[str], limits: Sequence[float]) -> list[float]:
    """Fill the sources up to what their corpora can take, and then each source's corpora."""
    members = {source: [i for i, name in enumerate(sources) if name == source and wanted[i]] for source in sources}
    members = {source: corpora for source, corpora in members.items() if corpora}
    budgets = solve(
        1.0,
        [math.fsum(wanted[i] for i in corpora) for corpora in members.values()],
        [math.fsum(limits[i] for i in corpora) for corpora in members.values()],
    )
    shares = [0.0] * len(wanted)
    for budget, corpora in zip(budgets, members.values(), strict=True):
        given_out = solve(budget, [wanted[i] for i in corpora], [limits[i] for i in corpora])
        for i, share in zip(corpora, given_out, strict=True):
            shares[i] = share
    return shares


def test_nothing_changes_when_no_limit_is_exceeded() -> None:
    wanted = [0.1, 0.2, 0.7]
    assert one_phase(wanted, "aab", [0.1, math.inf, 0.7]) == wanted


def test_the_surplus_stays_within_the_source() -> None:
    # 0.3 of the first is too much by 0.2; the source's other two want 1 and 2 parts of it.
    assert one_phase([0.3, 0.1, 0.2, 0.4], "aaab", [0.1, 1, 1, 1]) == pytest.approx([0.1, 0.5 / 3, 1 / 3, 0.4])


def test_what_a_used_up_source_leaves_goes_to_the_others_by_their_shares() -> None:
    assert one_phase([0.5, 0.3, 0.2], "abc", [0.1, 1, 1]) == pytest.approx([0.1, 0.54, 0.36])


def test_a_corpus_that_only_the_surplus_takes_over_its_limit_is_limited_too() -> None:
    assert one_phase([0.6, 0.2, 0.2], "aaa", [0.1, 0.3, 1]) == pytest.approx([0.1, 0.3, 0.6])


def test_a_source_that_fills_up_with_surplus_passes_the_rest_on() -> None:
    # Of the 0.5 that a leaves, half would go to b, but b can only take 0.1 more.
    assert one_phase([0.6, 0.2, 0.2], "abc", [0.1, 0.3, 1]) == pytest.approx([0.1, 0.3, 0.6])


def test_limits_that_add_up_to_the_run_are_enough() -> None:
    assert one_phase([0.5, 0.3, 0.2], "aab", [0.2, 0.3, 0.5]) == pytest.approx([0.2, 0.3, 0.5])


def test_limits_below_the_run_are_refused_with_what_they_allow() -> None:
    with pytest.raises(CapsError) as caught:
        limited_shares([[0.5, 0.5]], samples=[100], sources=["a", "a"], limits=[30, 40])
    assert caught.value.short == ((0, pytest.approx(70)),)


def test_limits_count_over_all_phases() -> None:
    wanted = [[0.5, 0.5], [0.25, 0.75]]
    first, second = limited_shares(wanted, samples=[100, 100], sources=["a", "a"], limits=[60, math.inf])
    # 50 + 25 samples are too much: both phases give up a fifth.
    assert first == pytest.approx([0.4, 0.6])
    assert second == pytest.approx([0.2, 0.8])


def test_a_phase_with_few_corpora_is_filled_first() -> None:
    # Only corpus 0 serves the second phase. Cut in proportion, it would leave that phase short; the first can spare it.
    wanted = [[0.5, 0.5], [1.0, 0.0]]
    first, second = limited_shares(wanted, samples=[100, 50], sources=["a", "b"], limits=[60, math.inf])
    assert second == [1.0, 0.0]
    assert first == pytest.approx([0.1, 0.9])


def test_a_phase_of_no_samples_stays_as_it_is() -> None:
    wanted = [[0.5, 0.5], [1.0, 0.0]]
    first, second = limited_shares(wanted, samples=[100, 0], sources=["a", "a"], limits=[10, math.inf])
    assert first == pytest.approx([0.1, 0.9])
    assert second == [1.0, 0.0]


def test_a_phase_without_a_corpus_at_its_limit_stays_as_it_is_to_the_last_bit() -> None:
    first = normalised([1.0, 2.0, 3.0, 7.0, 0.0])
    shares = limited_shares(
        [first, [0.0, 0.0, 0.25, 0.25, 0.5]], samples=[100, 100], sources=list("aabbb"), limits=[math.inf] * 4 + [10.0]
    )
    assert shares[0] == first
    assert shares[1][4] == pytest.approx(0.1)


amounts = st.one_of(st.just(0.0), st.floats(1e-6, 1e6))


@settings(max_examples=50)
@given(st.data())
def test_filling_equals_bisection(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    wanted = normalised(data.draw(st.lists(amounts, min_size=count, max_size=count).filter(any)))
    sources = data.draw(st.lists(st.sampled_from("abc"), min_size=count, max_size=count))
    limits = data.draw(st.lists(st.floats(1e-4, 2), min_size=count, max_size=count))
    most = math.fsum(limit for limit, value in zip(limits, wanted, strict=True) if value)
    if most < 1 + 1e-6:
        limits = [limit / most * 1.01 for limit in limits]
    shares = one_phase(wanted, "".join(sources), limits)
    assert math.fsum(shares) == pytest.approx(1, abs=1e-9)
    assert all(share <= limit * (1 + 1e-9) for share, limit in zip(shares, limits, strict=True))
    assert shares == pytest.approx(reference(wanted, sources, limits), abs=1e-8)


@given(st.data())
def test_phases_are_filled_and_no_limit_is_exceeded(data: st.DataObject) -> None:
    count, phases = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 3))
    some = st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0, 5.0]), min_size=count, max_size=count).filter(any)
    wanted = [normalised(data.draw(some)) for _ in range(phases)]
    samples = data.draw(st.lists(st.integers(0, 1000), min_size=phases, max_size=phases))
    sources = data.draw(st.lists(st.sampled_from("ab"), min_size=count, max_size=count))
    limits = data.draw(st.lists(st.sampled_from([10.0, 100.0, 400.0, math.inf]), min_size=count, max_size=count))

    def taken(shares: Sequence[Sequence[float]], corpus: int) -> float:
        return math.fsum(length * phase[corpus] for length, phase in zip(samples, shares, strict=True))

    try:
        shares = limited_shares(wanted, samples=samples, sources=sources, limits=limits)
    except CapsError as error:
        assert all(room < samples[number] for number, room in error.short)
        # One phase is refused only if all its corpora together may not give enough.
        for number, length in enumerate(samples) if phases == 1 else ():
            assert math.fsum(limits[i] for i in range(count) if wanted[number][i]) < length
        return
    for phase, asked in zip(shares, wanted, strict=True):
        assert math.fsum(phase) == pytest.approx(1, abs=1e-9)
        assert all(asked[i] > 0 or phase[i] == 0 for i in range(count))
    for i in range(count):
        assert taken(shares, i) <= limits[i] * (1 + 1e-9)
        if taken(shares, i) < limits[i] * (1 - 1e-9):  # nobody loses but those at their limit
            assert taken(shares, i) >= taken(wanted, i) * (1 - 1e-9)
    assert shares == limited_shares(wanted, samples=samples, sources=sources, limits=limits)
