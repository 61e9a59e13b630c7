from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from megatron.data.documents import document_lengths, mask_targets, positions

EOD, IGNORE = 2, -100


def naive_pieces(row: list[int]) -> list[list[int]]:
    pieces: list[list[int]] = [[]]
    for place, token in enumerate(row):
        pieces[-1].append(token)
        if token == EOD and place < len(row) - 1:
            pieces.append([])
    return pieces


@st.composite
def batches(draw: st.DrawFn) -> NDArray[np.int64]:
    rows, length = draw(st.integers(0, 4)), draw(st.integers(1, 12))
    ids = draw(st.lists(st.sampled_from([EOD, 5, 6]), min_size=rows * length, max_size=rows * length))
    return np.array(ids, dtype=np.int64).reshape(rows, length)


@given(inputs=batches())
def test_pieces_are_those_of_a_plain_loop(inputs: NDArray[np.int64]) -> None:
    pieces = [piece for row in inputs.tolist() for piece in naive_pieces(row)]
    lengths = document_lengths(inputs, EOD)
    assert lengths.dtype == np.int32
    assert lengths.tolist() == [len(piece) for piece in pieces]
    places = positions(lengths, *inputs.shape)
    assert places.dtype == np.int64
    assert places.shape == inputs.shape
    assert places.ravel().tolist() == [place for piece in pieces for place in range(len(piece))]


@given(tokens=batches())
def test_only_what_follows_an_end_is_ignored(tokens: NDArray[np.int64]) -> None:
    kept = tokens.copy()
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    masked = mask_targets(targets, inputs, EOD, IGNORE)
    assert masked.dtype == np.int64
    for row, before in zip(masked.tolist(), kept.tolist(), strict=True):
        assert row == [IGNORE if token == EOD else target for token, target in itertools.pairwise(before)]
    assert np.array_equal(tokens, kept)


def test_lengths_of_another_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to 5, but the batch has 2 x 3"):
        positions(np.array([2, 3], dtype=np.int32), 2, 3)
