from __future__ import annotations

from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.evaluation.metrics.pass_at_k import pass_at_k


@settings(deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_is_one_minus_the_chance_that_all_are_wrong(numbers: tuple[int, int, int]) -> None:
    samples, correct, k = numbers
    assert pass_at_k(*numbers) == pytest.approx(1 - comb(samples - correct, k) / comb(samples, k), abs=1e-12)


def test_many_samples_do_not_overflow() -> None:
    assert pass_at_k(100_000, 1, 50_000) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("numbers", "name"), [((5, 6, 1), "num_correct"), ((5, -1, 1), "num_correct"), ((5, 1, 6), "k"), ((5, 1, 0), "k")]
)
def test_numbers_that_contradict_each_other_are_refused(numbers: tuple[int, int, int], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be from"):
        pass_at_k(*numbers)
