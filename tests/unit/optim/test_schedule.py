from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.schema import NewTokensConfig
from megatron.optim.schedule import NewTokenRates, Schedule, new_token_rates


def cosine(**changes: object) -> Schedule:
    usual = {"peak": 1e-4, "style": "cosine", "decay_steps": 100, "warmup_steps": 10.0, "min_lr": 1e-5}
    return Schedule(**{**usual, **changes})


def test_neox_values() -> None:
    # n = 0 and n = 1 share a rate; the peak comes at the end of the warm-up; halfway down the cosine is the mean.
    schedule = cosine()
    assert schedule(0) == schedule(1) == pytest.approx(1e-5)
    assert schedule(10) == pytest.approx(1e-4)
    assert schedule(55) == pytest.approx((1e-4 + 1e-5) / 2)
    assert schedule(100) == pytest.approx(1e-5)


@pytest.mark.parametrize("style", ["cosine", "linear"])
def test_held_at_min_lr_past_the_end(style: str) -> None:
    # GPT-NeoX's cosine is back at the peak at 190.
    schedule = cosine(style=style)
    assert [schedule(step) for step in (100, 120, 190, 10_000)] == pytest.approx([1e-5] * 4)


def test_short_warmup_does_not_exceed_the_peak() -> None:
    # GPT-NeoX's first step runs at twice the peak here.
    assert cosine(warmup_steps=0.5)(0) == pytest.approx(1e-4)


def test_linear_goes_to_zero_and_is_floored() -> None:
    schedule = cosine(style="linear", warmup_steps=0.0)
    assert schedule(50) == pytest.approx(5e-5)
    assert schedule(95) == pytest.approx(1e-5)


def test_exponential_halves_and_stays() -> None:
    schedule = cosine(style="exponential", warmup_steps=0.0)
    assert schedule(100) == pytest.approx(5e-5)
    assert schedule(500) == pytest.approx(5e-5)


@given(
    style=st.sampled_from(["constant", "linear", "cosine", "exponential"]),
    decay_steps=st.integers(1, 1000),
    warmup=st.floats(0, 1),
    step=st.integers(0, 3000),
)
def test_never_above_peak_nor_below_floor(style: str, decay_steps: int, warmup: float, step: int) -> None:
    schedule = cosine(style=style, decay_steps=decay_steps, warmup_steps=warmup * decay_steps)
    rate = schedule(step)
    assert math.isfinite(rate)
    assert rate <= 1e-4 * (1 + 1e-12)
    if step > warmup * decay_steps:
        assert rate >= 1e-5


def test_new_tokens_alone_then_everything_with_a_warmup_of_its_own() -> None:
    rates = NewTokenRates(cosine(), only_steps=40, factor=5.0)
    whole = cosine()
    assert [rates(step)[0] for step in (0, 20, 39)] == [0.0] * 3
    assert [rates(step)[1] for step in (0, 39, 40, 99)] == [5 * whole(step) for step in (0, 39, 40, 99)]
    assert rates(40)[0] == pytest.approx(whole(40) / 10)
    assert rates(45)[0] == pytest.approx(whole(45) / 2)
    assert [rates(step)[0] for step in (50, 80, 200)] == [whole(step) for step in (50, 80, 200)]


def test_a_rate_of_their_own_without_steps_alone_changes_nothing_else() -> None:
    rates = NewTokenRates(cosine(), only_steps=0, factor=0.5)
    assert all(rates(step) == (cosine()(step), cosine()(step) / 2) for step in range(120))


def test_no_warmup_means_none_after_the_steps_alone() -> None:
    rates = NewTokenRates(cosine(warmup_steps=0.0), only_steps=4, factor=1.0)
    assert [rates(3)[0], rates(4)[0]] == [0.0, cosine(warmup_steps=0.0)(4)]


def test_rates_of_new_tokens_follow_the_configuration() -> None:
    assert new_token_rates(NewTokensConfig(), cosine()) is None
    rates = new_token_rates(NewTokensConfig(new_tokens_from=7, new_tokens_lr=3e-4), cosine())
    assert rates is not None
    assert (rates.only_steps, rates(10)[1]) == (0, pytest.approx(3e-4))
    rates = new_token_rates(NewTokensConfig(vocab_extension="x", new_tokens_only_steps=3), cosine())
    assert rates is not None and (rates.only_steps, rates.factor) == (3, 1.0)
