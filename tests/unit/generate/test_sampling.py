from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megatron.generate.sampling import Sampling, choose

LOGITS = torch.tensor([[1.0, 3.0, 2.0, 0.0]])


def drawn(sampling: Sampling, draws: int = 300) -> set[int]:
    generator = torch.Generator().manual_seed(0)
    return {int(choose(LOGITS, sampling, generator=generator)) for _ in range(draws)}


def test_greedy_is_the_default() -> None:
    assert drawn(Sampling()) == {1}


def test_top_k_keeps_the_most_likely() -> None:
    assert drawn(Sampling(temperature=5.0, top_k=2)) == {1, 2}


def test_top_p_keeps_the_fewest_that_hold_it() -> None:
    # Probabilities 0.64, 0.24, 0.09, 0.03: two hold 0.7, one holds 0.6.
    assert drawn(Sampling(temperature=1.0, top_p=0.7)) == {1, 2}
    assert drawn(Sampling(temperature=1.0, top_p=0.6)) == {1}


def test_without_limits_everything_can_come() -> None:
    assert drawn(Sampling(temperature=3.0)) == {0, 1, 2, 3}


def test_frequencies_follow_the_softmax() -> None:
    generator = torch.Generator().manual_seed(1)
    many = choose(LOGITS.expand(20_000, 4), Sampling(temperature=2.0), generator=generator)
    seen = torch.bincount(many, minlength=4) / 20_000
    torch.testing.assert_close(seen, (LOGITS[0] / 2.0).softmax(0), atol=0.015, rtol=0)


@given(top_p=st.floats(0.01, 0.99), seed=st.integers(0, 50))
def test_top_p_never_takes_a_token_outside_the_nucleus(top_p: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 30, generator=generator) * 3
    probabilities = logits.softmax(-1)[0]
    token = int(choose(logits, Sampling(temperature=1.0, top_p=top_p), generator=generator))
    better = probabilities[probabilities > probabilities[token]].sum().item()
    assert better < top_p + 1e-5


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 1.5}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Sampling(**wrong)
