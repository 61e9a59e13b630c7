from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.evaluation.metrics import bootstrap
from megatron.evaluation.metrics.bootstrap import (
    bits_per_byte_interval,
    log_ratio_interval,
    macro_log_ratio_interval,
    mean_interval,
    ratio_interval,
)

POSITIVE = st.floats(0.01, 1e6)


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
        num_bytes = rng.integers(50, 2000, size=80)
        nats = num_bytes * rng.gamma(20, 0.05, size=80)
        found = bits_per_byte_interval(nats, num_bytes, seed=trial, resamples=400)
        held += found.low <= 1 / math.log(2) <= found.high
    assert 178 <= held <= 199  # 95% of 200, give or take


def test_values_are_ratios_of_sums() -> None:
    assert ratio_interval([1, 2], [4, 4], scale=10).value == pytest.approx(10 * 3 / 8)
    assert bits_per_byte_interval([8 * math.log(2)] * 3, [2, 3, 3]).value == pytest.approx(3.0)
    found = log_ratio_interval([1.0, 3.0], [2.0, 6.0])
    assert found == pytest.approx((math.log(0.5),) * 3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=2, max_size=40), st.integers(1, 100))
def test_drawing_in_pieces_changes_nothing(pairs: list[tuple[float, float]], size: int) -> None:
    ours, base = zip(*pairs, strict=True)
    whole = log_ratio_interval(ours, base, seed=3, resamples=50)
    assert whole.low <= whole.high
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "_DRAWN_ITEMS", size)
        assert log_ratio_interval(ours, base, seed=3, resamples=50) == whole
    assert log_ratio_interval(ours, base, seed=4, resamples=50).value == whole.value


def test_memory_does_not_grow_with_the_number_of_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_DRAWN_ITEMS", 10_000)
    values = np.random.default_rng(0).random(5_000)
    tracemalloc.start()
    mean_interval(values, resamples=2_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # all indices at once are 80 MB


def documents(languages: int, items: int, effect: float, spread: float) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(5)
    made = []
    for _ in range(languages):
        base = rng.gamma(2, 100, size=items)
        made.append((base * np.exp(effect + spread * rng.normal() + 0.05 * rng.normal(size=items)), base))
    return made


def test_paired_documents_tell_models_apart_that_means_do_not() -> None:
    [(ours, base)] = documents(1, 200, -0.02, 0.0)
    paired = log_ratio_interval(ours, base)
    assert paired.high < 0
    alone = [mean_interval(nats) for nats in (ours, base)]
    assert alone[0].high > alone[1].low  # the two intervals overlap widely


def test_what_is_drawn_again_decides_how_wide_the_macro_mean_is() -> None:
    many = documents(40, 20, -0.3, 0.2)
    found = {over: macro_log_ratio_interval(many, over=over) for over in ("languages", "documents", "both")}
    value = np.mean([math.log(ours.sum() / base.sum()) for ours, base in many])
    assert all(interval.value == pytest.approx(value) for interval in found.values())
    width = {over: interval.high - interval.low for over, interval in found.items()}
    assert width["documents"] < 0.2 * width["languages"] < width["both"]
    # Languages differ by 0.2: the standard error of the mean of 40 is 0.032.
    assert width["languages"] == pytest.approx(2 * 1.96 * 0.2 / math.sqrt(40), rel=0.3)
    assert found["languages"] == mean_interval([math.log(ours.sum() / base.sum()) for ours, base in many])
    assert macro_log_ratio_interval(many) == found["both"] != macro_log_ratio_interval(many, seed=1)


def test_draws_of_documents_and_languages_are_independent() -> None:
    rng = np.random.default_rng(6)
    noisy = [(rng.gamma(1, 1, size=4), rng.gamma(1, 1, size=4)) for _ in range(30)]
    found = [macro_log_ratio_interval(noisy, seed=seed) for seed in range(8)]
    middles = [(interval.low + interval.high) / 2 for interval in found]
    # Were the same draws of documents used in every resample, middles would lie as far apart as the bounds do.
    assert np.std(middles) < 0.05 * (found[0].high - found[0].low)


def test_one_item_says_nothing_about_others() -> None:
    for found in (mean_interval([2.0]), macro_log_ratio_interval([([2.0], [1.0])]),
                  macro_log_ratio_interval([([2.0], [1.0])] * 2, over="documents"),
                  macro_log_ratio_interval([([2.0, 1.0], [1.0, 1.0])], over="languages")):  # fmt: skip
        assert math.isfinite(found.value) and math.isnan(found.low) and math.isnan(found.high)
    assert all(map(math.isnan, mean_interval([])))
    assert all(map(math.isnan, macro_log_ratio_interval([])))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([1.0, math.nan]), "finite"),
        (lambda: mean_interval([[1.0]]), "one value for each item"),
        (lambda: ratio_interval([1.0], [1.0, 2.0]), "one value for each item"),
        (lambda: ratio_interval([1.0, 1.0], [1.0, 0.0]), "denominators must be above 0"),
        (lambda: log_ratio_interval([1.0, 0.0], [1.0, 1.0]), "ours must be above 0"),
        (lambda: macro_log_ratio_interval([([1.0], [1.0]), ([], [])]), "languages without documents: 1"),
        (lambda: macro_log_ratio_interval([], over="tiers"), "over must be"),
        (lambda: mean_interval([1.0], level=1.0), "level between 0 and 1"),
        (lambda: mean_interval([1.0], resamples=0), "resamples must be at least 1"),
    ],
)
def test_what_cannot_be_resampled_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
