"""A smallest valid configuration, and ways to load it with changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron.config.load import config_from
from megatron.config.problems import ConfigError, Problem

MINIMAL: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 48,
    "num_attention_heads": 6,
    "intermediate_size": 128,
    "max_position_embeddings": 128,
    "seq_length": 64,
    "lr": 1e-3,
    "train_iters": 100,
    "train_batch_size": 8,
    "tokenizer_type": "SPMTokenizer",
    "vocab_file": "tokenizer.model",
}


@pytest.fixture
def minimal() -> dict[str, Any]:
    return dict(MINIMAL)


@pytest.fixture
def problems_with(minimal: dict[str, Any]) -> Callable[..., list[Problem]]:
    """Return the problems of the smallest configuration with some keys changed; a key set to None is left out."""

    def problems(**changes: Any) -> list[Problem]:
        try:
            config_from({**minimal, **changes})
        except ConfigError as error:
            return list(error.problems)
        return []

    return problems


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write values, or a text, to a YAML file."""

    def write_file(name: str, content: dict[str, Any] | str) -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return path

    return write_file
