from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megatron.generate.sampling import Sampling, choose

LOGITS = torch.tensor([[1.0, 3.0, 2.0, 0.0]])


def drawn(sampling: Sampling, draws: int = 300) -> set[int]:
    uniform = torch.arange(draws, dtype=torch.float64) / draws
    return set(choose(LOGITS.expand(draws, 4), sampling, uniform=uniform).tolist())


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
    uniform = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    many = choose(LOGITS.expand(20_000, 4), Sampling(temperature=2.0), uniform=uniform)
    seen = torch.bincount(many, minlength=4) / 20_000
    torch.testing.assert_close(seen, (LOGITS[0] / 2.0).softmax(0), atol=0.015, rtol=0)


@given(top_p=st.floats(0.01, 0.99), seed=st.integers(0, 50))
def test_top_p_never_takes_a_token_outside_the_nucleus(top_p: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 30, generator=generator) * 3
    probabilities = logits.softmax(-1)[0]
    uniform = torch.rand(1, dtype=torch.float64, generator=generator)
    token = int(choose(logits, Sampling(temperature=1.0, top_p=top_p), uniform=uniform))
    better = probabilities[probabilities > probabilities[token]].sum().item()
    assert better < top_p + 1e-5


@given(seed=st.integers(0, 200), temperature=st.sampled_from([0.3, 1.0, 8.0, 50.0]), top_p=st.floats(0.05, 0.999))
def test_top_p_takes_what_a_search_through_all_tokens_takes(seed: int, temperature: float, top_p: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3000, generator=generator) * 3  # flat ones need more than the first thousand
    uniform = torch.rand(2, dtype=torch.float64, generator=generator)
    chosen = choose(logits, Sampling(temperature, top_p=top_p), uniform=uniform)
    for row, share, token in zip(logits, uniform.tolist(), chosen.tolist(), strict=True):
        ordered, tokens = (row / temperature).softmax(-1).double().sort(descending=True)
        sums = ordered.cumsum(0)
        kept = int((sums - ordered < top_p).sum())
        place = tokens.tolist().index(token)
        # Sums in single precision may end a step earlier or later.
        before = sums[place - 1] if place else 0.0
        assert before / sums[kept - 1] <= share + 1e-3 and share - 1e-3 <= sums[place] / sums[kept - 1]
        assert sums[place] - ordered[place] < top_p + 1e-5


def test_a_choice_depends_on_its_row_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 2000, generator=generator)
    uniform = torch.rand(9, dtype=torch.float64, generator=generator)
    for sampling in (Sampling(), Sampling(1.0), Sampling(0.7, top_k=40), Sampling(1.5, top_p=0.8)):
        together = choose(logits, sampling, uniform=uniform)
        alone = [choose(logits[row : row + 1], sampling, uniform=uniform[row : row + 1]) for row in range(9)]
        assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("share", [0.0, 1 - 2**-53])
def test_what_has_no_probability_is_never_drawn(share: float) -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]])
    uniform = torch.tensor([share], dtype=torch.float64)
    assert choose(logits, Sampling(1.0), uniform=uniform).item() == (1 if share == 0 else 2)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 1.5}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Sampling(**wrong)
