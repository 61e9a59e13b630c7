from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.config.architecture import Architecture
from megatron.evaluation.rows import Batch, Row, Window, shared_rows
from megatron.evaluation.windows import cut, longest_first, score_windows
from megatron.model.llama import Llama
from megatron.model.loss import IGNORE
from megatron.parallel.engine import Engine

FIRST, VOCABULARY = 1, 64


@pytest.fixture(scope="module")
def engine() -> Engine:
    model = Llama(Architecture(VOCABULARY, 16, 32, 2, 4, 2, 4, 64, initializer_range=0.3))
    model.init_weights(seed=0)
    return Engine.alone(model)


def windows_of(texts: list[tuple[list[int], list[int]]]) -> list[Window]:
    """Of contexts and continuations, each its own group."""
    return [
        window
        for group, (context, continuation) in enumerate(texts)
        for window in cut(
            np.array([*context, *continuation]), group=group, first_id=FIRST, length=30, start=len(context)
        )
    ]


# Few ids, so that texts begin alike by themselves, are the same, or are the beginning of others.
ids = st.lists(st.integers(3, 5), max_size=12)
texts = st.lists(st.tuples(st.one_of(ids, st.just([9] * 20)), ids.filter(bool)), min_size=1, max_size=12)


@settings(deadline=None, max_examples=60)
@given(texts=texts, batch_tokens=st.integers(1, 120), multiple=st.integers(1, 4))
def test_every_window_sees_its_own_tokens_alone(
    texts: list[tuple[list[int], list[int]]], batch_tokens: int, multiple: int
) -> None:
    windows = windows_of(texts)
    rows = shared_rows(windows, batch_tokens=batch_tokens)
    lengths = [row.num_tokens for row in rows]
    assert lengths == sorted(lengths, reverse=True)
    assert all(row.num_tokens <= batch_tokens or len(row.pieces) == 1 for row in rows)
    batch = Batch.of(rows, multiple=multiple, device=torch.device("cpu"))
    assert batch.inputs.shape[1] % multiple == 0
    found = []
    for number, row in enumerate(rows):
        for piece, path in zip(row.pieces, row.paths(), strict=True):
            found.append(id(piece.window))
            assert batch.inputs[number, path].tolist() == piece.window.inputs.tolist()
            wanted = piece.window.targets != IGNORE
            assert batch.targets[number, path[wanted]].tolist() == piece.window.targets[wanted].tolist()
            if batch.mask is None:
                assert path.tolist() == list(range(len(path))) and batch.positions is None
                continue
            assert batch.positions is not None
            assert batch.positions[number, path].tolist() == list(range(len(path)))
            for at, place in enumerate(path):
                assert batch.mask.visible[number, place].nonzero().flatten().tolist() == sorted(path[: at + 1])
    assert sorted(found) == sorted(map(id, windows)), "every window is in one row"
    scored = sorted((window.group, target) for window in windows for target in window.targets if target != IGNORE)
    told = batch.targets.flatten()[batch.places]
    assert sorted(zip(batch.groups.tolist(), told.tolist(), strict=True)) == scored


@settings(deadline=None, max_examples=30)
@given(texts=texts, batch_tokens=st.integers(1, 120))
def test_scores_are_those_of_windows_alone(
    engine: Engine, texts: list[tuple[list[int], list[int]]], batch_tokens: int
) -> None:
    windows = longest_first(iter(windows_of(texts)))
    shared, alone = (
        score_windows(
            engine, windows, num_groups=len(texts), batch_tokens=batch_tokens, description="test", share=share
        )
        for share in (True, False)
    )
    np.testing.assert_allclose(shared, alone, rtol=1e-5)


def test_labels_cost_their_own_tokens() -> None:
    contexts = [[*range(10 * item, 10 * item + 25)] for item in range(3)]
    labels = [[1], [2, 3], [2, 4, 5]]
    windows = windows_of([(context, label) for context in contexts for label in labels])
    rows = shared_rows(windows, batch_tokens=1000)
    # The id that begins a text and 24 of the context; its last one for the first label, again for the others, which
    # have the 2 twice and the 4 once.
    assert [(len(row.pieces), row.num_tokens) for row in rows] == [(3, 25 + 1 + 2 + 2)] * 3
    assert len(shared_rows(windows, batch_tokens=29)) > 3, "no row of several windows is longer than a batch"


def test_what_begins_alike_by_chance_is_not_shared() -> None:
    windows = windows_of([([7, *range(20, 30)], [8]), ([7, *range(40, 50)], [8]), ([], [5]), ([], [6])])
    assert [len(row.pieces) for row in shared_rows(windows, batch_tokens=1000)] == [1, 1, 1, 1]
    row = Row.of(windows[0])
    assert not row.take(windows[1], most_tokens=1000) and row.num_tokens == len(windows[0].inputs)
