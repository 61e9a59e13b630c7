"""What vLLM is asked for, and how its answers are read; it does not run here."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from megatron.generate.options import GenerationOptions, Written
from megatron.generate.sampling import Sampling
from megatron.generate.vllm import VLLMWriter, sampling_settings, written_by


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_the_command_that_installs_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pip install vllm==\d+\.\d+\.\d+$"):
        VLLMWriter(tmp_path, first_id=1, end_ids=[2])


def test_greedy_settings_name_no_seed() -> None:
    settings = sampling_settings(GenerationOptions(64, stop=("\n", "Q:"), seed=9), 3, end_ids=[2, 7])
    assert settings["temperature"] == 0 and settings["max_tokens"] == 64
    assert settings["stop"] == ["\n", "Q:"] and settings["stop_token_ids"] == [2, 7] and settings["ignore_eos"]
    assert not {"seed", "top_p", "top_k"} & set(settings)


@pytest.mark.parametrize(("top_p", "wanted"), [(0.0, 1.0), (0.9, 0.9), (1.0, 1.0)])
def test_each_random_text_has_its_seed(top_p: float, wanted: float) -> None:
    options = GenerationOptions(8, sampling=Sampling(0.6, top_k=40, top_p=top_p), seed=9)
    settings = [sampling_settings(options, index, end_ids=[2]) for index in range(3)]
    assert [each["seed"] for each in settings] == [9, 10, 11]
    assert all(each["top_p"] == wanted and each["top_k"] == 40 and each["temperature"] == 0.6 for each in settings)


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        ({"finish_reason": "length", "stop_reason": None}, Written("text", 3, "length")),
        ({"finish_reason": "stop", "stop_reason": "\n"}, Written("text", 3, "stop")),
        ({"finish_reason": "stop", "stop_reason": 2, "token_ids": (5, 6, 2)}, Written("text", 2, "end")),
        ({"finish_reason": "stop", "stop_reason": 2, "token_ids": (5, 6)}, Written("text", 2, "end")),
    ],
)
def test_answers_are_read(answer: dict[str, Any], written: Written) -> None:
    output = SimpleNamespace(**({"text": "text", "token_ids": (5, 6, 7)} | answer))
    assert written_by(output, end_ids=[2]) == written
