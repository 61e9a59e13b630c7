from __future__ import annotations

from pathlib import Path

import pytest

from megatron.config.compare import changed_settings, settings_side_by_side
from megatron.config.load import dump, load

DEMO = Path(__file__).resolve().parents[3] / "configs" / "demo.yml"


def test_settings_that_differ_are_named_with_both_values() -> None:
    before, now = load([DEMO]), load([DEMO], ["train_iters=77", "keep_every=10", "extra_save_iters=[5]"])
    assert changed_settings(dump(before), dump(before)) == []
    assert changed_settings(dump(before), dump(now)) == [
        "extra_save_iters: (not set) -> [5]",
        "keep_every: (not set) -> 10",
        f"train_iters: {before.train.train_iters} -> 77",
    ]


def test_long_values_are_cut() -> None:
    [line] = changed_settings(dump(load([DEMO])), dump(load([DEMO], [f"tensorboard_dir={'x' * 200}"])))
    assert len(line) < 200 and line.endswith("...")


@pytest.mark.parametrize("text", ["[1]", "a: [", ""])
def test_what_is_no_configuration_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="this is no configuration"):
        changed_settings(text, dump(load([DEMO])))


def test_settings_of_several_stand_side_by_side() -> None:
    texts = ["lr: 0.1\nmixture: {tiers: {low: {rate: 1}}}\nempty: {}\n", "lr: '0.1'\n", "{}"]
    assert settings_side_by_side(texts) == {
        "empty": ["{}", "(not set)", "(not set)"],
        "lr": ["0.1", "'0.1'", "(not set)"],
        "mixture.tiers.low.rate": ["1", "(not set)", "(not set)"],
    }
    assert settings_side_by_side([]) == {}
    with pytest.raises(ValueError, match="this is no configuration"):
        settings_side_by_side(["lr: 1", "3"])
