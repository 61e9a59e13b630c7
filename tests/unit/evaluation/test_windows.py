from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.architecture import Architecture
from megatron.evaluation.rows import Window
from megatron.evaluation.windows import cut, longest_first, score_windows
from megatron.model.llama import Llama
from megatron.model.loss import IGNORE
from megatron.parallel.engine import Engine

FIRST = 1


@given(
    tokens=st.integers(0, 60),
    length=st.integers(1, 20),
    start=st.integers(0, 60),
)
def test_every_id_is_scored_once_after_as_many_others_as_fit(
    tokens: int, length: int, start: int
) -> None:
    ids = np.arange(100, 100 + tokens)
    windows = list(cut(ids, group=7, first_id=FIRST, length=length, start=start))
    scored = [target for window in windows for target in window.targets if target != IGNORE]
    assert scored == list(ids[start:])
    for window in windows:
        assert window.group == 7 and len(window.inputs) == len(window.targets) <= length
        assert window.inputs[0] == FIRST
        known = window.targets[window.targets != IGNORE]
        assert (window.targets[-len(known) :] == known).all(), "what is only read comes first"
        read_before = window.inputs[1 : len(window.inputs) - len(known) + 1]
        before = min(int(known[0]) - 100, length - len(known))
        assert list(read_before) == list(range(int(known[0]) - before, int(known[0])))


def test_a_window_that_fits_is_the_whole_text() -> None:
    [window] = cut(np.array([5, 6, 7]), group=0, first_id=FIRST, length=3)
    assert window.inputs.tolist() == [1, 5, 6] and window.targets.tolist() == [5, 6, 7]


def model() -> Llama:
    made = Llama(Architecture(64, 16, 32, 2, 2, 1, 8, 64, initializer_range=0.3))
    made.init_weights(seed=0)
    return made


def test_sums_are_those_of_the_plain_logits() -> None:
    llama = model()
    random = np.random.default_rng(0)
    texts = [random.integers(3, 64, length) for length in (150, 1, 170, 90, 6)]
    windows = longest_first(
        window for group, ids in enumerate(texts) for window in cut(ids, group=group % 4, first_id=FIRST, length=6)
    )
    found = score_windows(Engine.alone(llama), windows, num_groups=5, batch_tokens=20, description="test")
    expected = np.zeros((5, 3))
    for window in windows:
        with torch.no_grad():
            logits = llama(torch.from_numpy(window.inputs)[None])[0].double()
        for position, target in enumerate(window.targets):
            if target != IGNORE:
                nats = -torch.log_softmax(logits[position], 0)[target].item()
                expected[window.group] += (nats, 1, logits[position].argmax().item() == target)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert expected[:, 2].sum() > 0 and found[4].tolist() == [0, 0, 0], "some are the likeliest; nothing is of group 4"


def test_the_likeliest_continuation_is_known_as_such() -> None:
    llama = model()
    ids = [9, 4]
    for _ in range(6):
        with torch.no_grad():
            ids.append(int(llama(torch.tensor([[FIRST, *ids]]))[0, -1].argmax()))
    windows = list(cut(np.array(ids), group=0, first_id=FIRST, length=20, start=2))
    [[nats, scored, likeliest]] = score_windows(
        Engine.alone(llama), windows, num_groups=1, batch_tokens=100, description="test"
    )
    assert scored == likeliest == 6 and 0 < nats < 6 * math.log(64)


def test_nothing_to_score() -> None:
    assert score_windows(Engine.alone(model()), [], num_groups=2, batch_tokens=9, description="test").tolist() == [
        [0, 0, 0],
        [0, 0, 0],
    ]
    with pytest.raises(AttributeError):
        Window(0, np.array([1]), np.array([2])).group = 1  # type: ignore[misc]
