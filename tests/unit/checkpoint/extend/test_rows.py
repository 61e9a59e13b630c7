from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.checkpoint import shards
from megatron.checkpoint.extend import rows as rows_module
from megatron.checkpoint.extend.rows import METHODS, NewRows

OLD, PADDING, WIDTH = 40, 5, 6


def matrix(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(OLD + PADDING, WIDTH, generator=generator).to(dtype)


def new_rows(method: str, spellings: Sequence[Sequence[int]], seed: Sequence[int] = (0, 0)) -> NewRows:
    old = matrix()

    def read(first: int, stop: int) -> torch.Tensor:
        assert 0 <= first < stop <= OLD, "padding is not looked at"
        return old[first:stop]

    return NewRows(
        read, width=WIDTH, itemsize=4, spellings=spellings, old_size=OLD, method=method, seed=seed
    )


def by_hand(method: str, spelling: Sequence[int]) -> np.ndarray:
    old = matrix().double().numpy()[:OLD]
    chosen = {"mean": spelling, "first": spelling[:1], "last": spelling[-1:], "average": range(OLD)}[method]
    return np.mean([old[token] for token in chosen], axis=0)


SPELLINGS = st.lists(st.lists(st.integers(0, OLD - 1), min_size=1, max_size=7), min_size=1, max_size=20)


@settings(deadline=None, max_examples=60)
@given(
    spellings=SPELLINGS, method=st.sampled_from(["mean", "first", "last", "average"]), cut=st.integers(0, 20),
    group_rows=st.integers(1, OLD + 1), chunk_rows=st.integers(1, 5),
)  # fmt: skip
def test_rows_are_what_they_are_by_hand_however_they_are_read(
    spellings: list[list[int]], method: str, cut: int, group_rows: int, chunk_rows: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_ROWS_BYTES", group_rows * WIDTH * 4)
        patch.setattr(rows_module, "_CHUNK_BYTES", chunk_rows * WIDTH * 8)
        made = new_rows(method, spellings)
        cut = min(cut, len(spellings))
        found = torch.cat([made.rows(0, cut), made.rows(cut, len(spellings))])
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), [by_hand(method, each) for each in spellings], rtol=1e-13, atol=1e-15)


def test_a_token_that_spells_twice_counts_twice() -> None:
    old = matrix().double()
    assert torch.allclose(new_rows("mean", [[3, 3, 9]]).rows(0, 1)[0], (2 * old[3] + old[9]) / 3)


def test_random_rows_have_the_moments_of_the_old_ones() -> None:
    found = new_rows("normal", [[0]] * 20_000).rows(0, 20_000).numpy()
    old = matrix().double().numpy()[:OLD]
    np.testing.assert_allclose(found.mean(0), old.mean(0), atol=4 * old.std() / 20_000**0.5)
    np.testing.assert_allclose(found.std(0), old.std(0), rtol=0.03)
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.04


def test_a_random_row_depends_on_its_seed_and_its_place_alone() -> None:
    spellings = [[0]] * 9
    whole = new_rows("normal", spellings).rows(0, 9)
    assert torch.equal(whole[4:7], new_rows("normal", spellings).rows(4, 7))
    assert not torch.equal(whole, new_rows("normal", spellings, seed=(1, 0)).rows(0, 9))
    assert not torch.equal(whole, new_rows("normal", spellings, seed=(0, 1)).rows(0, 9))
    assert len({tuple(row) for row in whole.tolist()}) == 9


@pytest.mark.parametrize("method", [method for method in METHODS if method != "normal"])
def test_no_new_token_is_likelier_than_every_old_one(method: str) -> None:
    states = torch.randn(50, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    new = new_rows(method, [[1, 2, 3], [7], [9, 30]]).rows(0, 3)
    assert ((states @ new.T).amax(1) <= (states @ matrix()[:OLD].double().T).amax(1) + 1e-12).all()


def test_an_average_row_takes_at_most_one_part_in_the_number_of_tokens() -> None:
    states = 5 * torch.randn(50, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits = states @ torch.cat([matrix()[:OLD].double(), new_rows("average", [[0]]).rows(0, 1)]).T
    assert (logits.softmax(-1)[:, -1] <= 1 / OLD).all()


def test_an_unknown_method() -> None:
    with pytest.raises(ValueError, match="'zeros' makes no rows; take one of mean, first, last, average, normal"):
        new_rows("zeros", [[0]])
