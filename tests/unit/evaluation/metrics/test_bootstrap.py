from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.evaluation.metrics import bootstrap
from megatron.evaluation.metrics.bootstrap import mean_interval

VALUE = st.floats(-1e6, 1e6)


def test_the_interval_of_a_mean_is_what_theory_says() -> None:
    values = np.random.default_rng(1).normal(5, 2, size=2000)
    found = mean_interval(values, resamples=2000)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    narrow = mean_interval(values, resamples=2000, level=0.5)
    assert narrow.high - narrow.low == pytest.approx(2 * 0.6745 / 1.96 * half, rel=0.1)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for trial in range(200):
        found = mean_interval(rng.gamma(20, 0.05, size=80), seed=trial, resamples=400)
        held += found.low <= 1 <= found.high
    assert 178 <= held <= 199  # 95% of 200, give or take


@settings(max_examples=25, deadline=None)
@given(st.lists(VALUE, min_size=2, max_size=40), st.integers(1, 100))
def test_drawing_in_pieces_changes_nothing(values: list[float], size: int) -> None:
    whole = mean_interval(values, seed=3, resamples=50)
    assert whole.low <= whole.high
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "_DRAWN_ITEMS", size)
        assert mean_interval(values, seed=3, resamples=50) == whole
    assert mean_interval(values, seed=4, resamples=50).value == whole.value


def test_memory_does_not_grow_with_the_number_of_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_DRAWN_ITEMS", 10_000)
    values = np.random.default_rng(0).random(5_000)
    tracemalloc.start()
    mean_interval(values, resamples=2_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # all indices at once are 80 MB


def test_one_item_says_nothing_about_others() -> None:
    found = mean_interval([2.0])
    assert found.value == 2 and math.isnan(found.low) and math.isnan(found.high)
    assert all(map(math.isnan, mean_interval([])))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([1.0, math.nan]), "finite"),
        (lambda: mean_interval([[1.0]]), "one value for each item"),
        (lambda: mean_interval([1.0], level=1.0), "level between 0 and 1"),
        (lambda: mean_interval([1.0], resamples=0), "resamples must be at least 1"),
    ],
)
def test_what_cannot_be_resampled_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
