"""What ``fp8`` does not go with, told before anything starts."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

from megatron.config.check import check_run
from megatron.config.float8_rules import side_problems
from megatron.config.load import config_from
from megatron.config.problems import Problem

ABLE = {"precision": "bfloat16", "hidden_size": 96, "num_attention_heads": 6, "fp8": "rowwise"}
PIPELINE = {"pipe_parallel_size": 2, "pipe_schedule": "zero_bubble"}


def test_what_it_goes_with(problems_with: Callable[..., list[Problem]]) -> None:
    more = {"compile": True, "checkpoint_activations": True, "pipe_parallel_size": 2, "context_parallel_size": 2}
    for recipe in ("tensorwise", "rowwise", "rowwise_with_gw_hp", "RowWise", None):
        assert problems_with(**{**ABLE, **more, "fp8": recipe}) == []
    assert problems_with(precision="fp32", seq_length=33, **{**PIPELINE, "model_parallel_size": 2}) == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"precision": "fp32"}, "does not go with precision = fp32"),
        ({"precision": None}, "does not go with precision = fp32"),  # the default
        ({"seq_length": 24}, "a multiple of 16, and it is 24"),
        ({"seq_length": 48, "context_parallel_size": 2}, "a multiple of 32, and it is 48"),
        (PIPELINE, "does not go with pipe_schedule: zero_bubble"),
        ({"model_parallel_size": 2}, "does not go with model_parallel_size = 2"),
        ({"fp8": "e4m3"}, "is not one of"),
        ({"fp8": True}, "is not one of"),
    ],
)
def test_what_it_does_not_go_with(
    changes: dict[str, Any], rule: str, problems_with: Callable[..., list[Problem]]
) -> None:
    [problem] = problems_with(**{**ABLE, **changes})
    assert problem.key == "fp8" and rule in problem.rule and problem.fix


def of_float8(settings: dict[str, Any]) -> list[str]:
    return [problem for problem in check_run(config_from(settings), processes=1) if problem.startswith("fp8")]


def test_matrices_with_other_sides_are_listed(minimal: dict[str, Any]) -> None:
    config = config_from({**minimal, **ABLE})
    able = [problem for problem in of_float8({**minimal, **ABLE}) if "sides" in problem]
    assert able == [] and config.train.fp8 == "rowwise"
    odd = {**minimal, **ABLE, "hidden_size": 72, "num_attention_heads": 9, "num_kv_heads": 3, "intermediate_size": 100}
    [problem] = [problem for problem in of_float8(odd) if "sides" in problem]
    for size in ("hidden_size = 72", "num_attention_heads x head_dim = 72", "x head_dim = 24", "_size = 100 (gate"):
        assert size in problem
    assert not any("sides" in problem for problem in of_float8({**odd, "fp8": None}))


def test_without_the_package_the_install_line_is_named(
    minimal: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchao" else found(name))
    assert of_float8({**minimal, **ABLE}) == [
        "fp8 needs torchao, which is not installed: pip install torchao==0.18.0"
    ]
    assert of_float8({**minimal, **ABLE, "fp8": None}) == []


def test_transformer_engines_keys_name_it(problems_with: Callable[..., list[Problem]]) -> None:
    [problem] = problems_with(te_fp8_mha=True)
    assert "fp8: rowwise" in problem.rule + problem.fix


def test_shipped_shapes_fit() -> None:
    from megatron.config.architecture import Architecture

    for shape in (  # Llama 2 7B, 13B and 70B, Llama 3.1 8B, Llama 3.2 1B
        Architecture(32_000, 4096, 11_008, 32, 32, 32, 128, 4096),
        Architecture(32_000, 5120, 13_824, 40, 40, 40, 128, 4096),
        Architecture(32_000, 8192, 28_672, 80, 64, 8, 128, 4096),
        Architecture(128_256, 4096, 14_336, 32, 32, 8, 128, 8192),
        Architecture(128_256, 2048, 8192, 16, 32, 8, 64, 8192),
    ):
        assert list(side_problems(shape)) == []
