from __future__ import annotations

from pathlib import Path

import pytest

from megatron.config.load import load_sections
from megatron.config.problems import ConfigError
from megatron.config.schema import DataConfig, TrainConfig


def test_some_sections_are_read_without_the_keys_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "mix.yml").write_text("mixture: {alpha: 0.5}\nhidden_size: 7\n")
    sections = load_sections([tmp_path / "mix.yml"], ["seq_length=64", "train_iters=3"], ["data", "train"])
    assert sections.keys() == {"data", "train"}
    data, train = sections["data"], sections["train"]
    assert isinstance(data, DataConfig) and isinstance(train, TrainConfig)
    assert (data.seq_length, train.train_iters) == (64, 3)
    assert data.mixture is not None and data.mixture.alpha == 0.5


def test_their_own_problems_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "mix.yml").write_text("mixture: {alpha: 5}\nseq_lenght: 7\n")
    with pytest.raises(ConfigError) as caught:
        load_sections([tmp_path / "mix.yml"], ["train_iters=x"], ["data", "train"])
    assert {problem.key for problem in caught.value.problems} == {
        "mixture.alpha", "seq_lenght", "seq_length", "train_iters",
    }  # fmt: skip
