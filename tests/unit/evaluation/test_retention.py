from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.evaluation.retention import Retention, exceeds, forgetting


def rows(**bits: float) -> list[dict[str, Any]]:
    """Return a validation of corpora with so many bits per byte; 0 stands for no held-out text."""
    return [
        {
            "corpus": name, "code": f"{name}_Latn", "tier": "high", "source": "code" if name == "pyt" else "mono",
            "nats": value * math.log(2) * 100, "bytes": 100 if value else 0, "tokens": 30,
        }
        for name, value in bits.items()
    ]  # fmt: skip


def test_losses_are_against_the_first_and_against_the_best() -> None:
    retention = Retention([rows(eng=1.0, swh=4.0), rows(eng=0.8, swh=3.0)])
    eng, swh, new = retention.add(rows(eng=1.1, swh=2.0, new=5.0, none=0.0))
    assert eng.percent == pytest.approx(10) and eng.forgotten_percent == pytest.approx(37.5)
    assert swh.percent == pytest.approx(-50) and swh.forgotten_percent == 0
    assert new.percent == new.forgotten_percent == 0
    told = forgetting([eng, swh, new], ["swh_Latn", "new"])
    assert told["worse"] == 1 and told["worst"] == {"eng": pytest.approx(10)}
    assert told["percent"] == pytest.approx(37.5 / 3) and told["pivots"] == {"swh": pytest.approx(-50), "new": 0}
    assert forgetting([eng], ["mono"])["pivots"] == {"eng": pytest.approx(10)}


def test_what_is_no_number_is_nothing_to_compare_with_and_always_too_much() -> None:
    retention = Retention([rows(eng=math.nan), rows(eng=1.0), rows(eng=0.8), rows(eng=math.nan)])
    [loss] = retention.add(rows(eng=1.2))
    assert loss.percent == pytest.approx(20) and loss.forgotten_percent == pytest.approx(50)
    assert exceeds(loss, 10) and not exceeds(loss, 30)
    [broken] = retention.add(rows(eng=math.nan))
    assert exceeds(broken, 1000)


@given(st.lists(st.lists(st.floats(0.1, 10), min_size=3, max_size=3), min_size=1, max_size=6))
def test_what_has_been_read_again_makes_no_difference(history: list[list[float]]) -> None:
    validations = [rows(aaa=a, bbb=b, pyt=c) for a, b, c in history]
    at_once = Retention()
    for each in validations[:-1]:
        at_once.add(each)
    losses = at_once.add(validations[-1])
    assert Retention(validations[:-1]).add(validations[-1]) == losses
    for loss, values in zip(losses, zip(*history, strict=True), strict=True):
        assert loss.baseline == pytest.approx(values[0]) and loss.best == pytest.approx(min(values))
        assert loss.forgotten_percent >= 0
