"""What a layout asks of a model, of its sequences and of the batch; and how a pipeline is cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.architecture import Architecture
from megatron.config.check import check_run
from megatron.config.layout import Layout, block_flops, pipeline_problems, shape_problems, stage_layers
from megatron.config.load import config_from
from megatron.config.schema import ParallelConfig

LLAMA3_8B = Architecture(
    vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=8, head_dim=128, max_position_embeddings=8192,
)  # fmt: skip


def section(**settings: Any) -> ParallelConfig:
    return ParallelConfig.model_validate(settings)


def problems(seq_length: int = 4096, **settings: Any) -> list[str]:
    return list(shape_problems(section(**settings), LLAMA3_8B, seq_length=seq_length))


def test_axes_multiply_to_the_processes() -> None:
    sizes = {"model_parallel_size": 2, "pipe_parallel_size": 4, "context_parallel_size": 2}
    layout = Layout.of(section(**sizes, zero_optimization={"stage": 1}, data_parallel_shard_size=4), processes=256)
    assert layout == Layout(stage=1, shards=4, replicas=4, context=2, tensor=2, pipeline=4)
    assert layout.processes == 256 and layout.data == 16


def test_processes_that_the_axes_do_not_divide() -> None:
    with pytest.raises(ValueError, match=r"pipe_parallel_size = 2 x model_parallel_size = 4 = 8 does not divide"):
        Layout.of(section(model_parallel_size=4, pipe_parallel_size=2), processes=12)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_nothing_is_divided_where_nobody_shares(stage: int) -> None:
    assert Layout.of(section(zero_optimization={"stage": stage}, model_parallel_size=4), processes=4).stage == 0


def test_no_pipeline_has_two_spellings() -> None:
    assert Layout.of(section(pipe_parallel_size=0), processes=2) == Layout.of(section(), processes=2)


def test_every_size_that_does_not_divide_is_named_at_once() -> None:
    found = problems(model_parallel_size=3, sequence_parallel=True, context_parallel_size=3, pipe_parallel_size=40)
    named = ("num_attention_heads = 32", "num_kv_heads = 8", "intermediate_size = 14336", "seq_length", "num_layers")
    assert all(any(name in text for text in found) for name in named)
    assert not any("vocab_size" in text for text in found)  # 128,256 = 3 x 42,752


def test_key_heads_limit_the_processes() -> None:
    assert problems(model_parallel_size=8) == []
    [text] = problems(model_parallel_size=16)
    assert "num_kv_heads = 8" in text and "4, 8" in text


def test_a_part_of_a_sequence_is_divided_by_sequence_parallelism() -> None:
    assert problems(seq_length=4096, context_parallel_size=2, model_parallel_size=8, sequence_parallel=True) == []
    [text] = problems(seq_length=12, context_parallel_size=2, model_parallel_size=4, sequence_parallel=True)
    assert "6 tokens" in text


def test_a_pipeline_needs_micro_batches() -> None:
    plain, woven = section(pipe_parallel_size=4), section(
        pipe_parallel_size=4, pipe_schedule="interleaved", pipe_chunks=2
    )
    assert [len(list(pipeline_problems(plain, accumulation_steps=steps))) for steps in (3, 4, 6)] == [1, 0, 0]
    assert [len(list(pipeline_problems(woven, accumulation_steps=steps))) for steps in (3, 4, 6)] == [1, 0, 1]


def test_a_pipeline_goes_with_the_first_stage_of_zero_alone() -> None:
    for stage in range(4):
        both = section(pipe_parallel_size=2, zero_optimization={"stage": stage})
        assert len(list(pipeline_problems(both, accumulation_steps=None))) == (stage > 1)


def test_every_problem_of_a_layout_comes_in_one_message(minimal: dict[str, Any]) -> None:
    sizes = {"model": 7, "pipe": 99, "context": 5}
    settings: dict[str, Any] = {f"{axis}_parallel_size": size for axis, size in sizes.items()}
    settings |= {"sequence_parallel": True, "vocab_size": 64, "zero_optimization": {"stage": 3}}
    found = "\n".join(check_run(config_from({**minimal, **settings}), processes=8))
    keys = ("num_attention_heads", "vocab_size", "num_layers", "seq_length", "zero_optimization.stage = 3")
    assert "does not divide the 8 processes" in found and all(key in found for key in keys)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"sequence_parallel": True}, "sequence_parallel"),
        ({"pipe_chunks": 2}, "pipe_chunks"),
        ({"pipe_schedule": "interleaved"}, "pipe_schedule"),
        ({"pipe_parallel_size": 2, "pipe_chunks": 2}, "pipe_chunks"),
        ({"pipe_parallel_size": 2, "pipe_schedule": "interleaved"}, "pipe_schedule"),
        ({"pipe_parallel_size": 2, "pipe_schedule": "zero_bubble", "compile": True}, "compile"),
        (
            {
                "pipe_parallel_size": 2,
                "pipe_schedule": "zero_bubble",
                "checkpoint_activations": True,
                "checkpoint_mode": "selective",
            },
            "checkpoint_mode",
        ),
        ({"checkpoint_mode": "full"}, "checkpoint_mode"),
        ({"activation_memory_gib": 4}, "activation_memory_gib"),
        ({"checkpoint_activations": True, "activation_memory_gib": 4}, "activation_memory_gib"),
        ({"checkpoint_activations": True, "checkpoint_mode": "budget"}, "checkpoint_mode"),
        (
            {"checkpoint_activations": True, "checkpoint_mode": "budget", "activation_memory_gib": 0},
            "activation_memory_gib",
        ),
    ],
)
def test_keys_that_do_not_go_together(settings: dict[str, Any], key: str, problems_with: Any) -> None:
    [problem] = problems_with(**settings)
    assert problem.key == key


def test_a_budget_goes_with_every_schedule(problems_with: Any) -> None:
    budget = {"checkpoint_activations": True, "checkpoint_mode": "budget", "activation_memory_gib": "2.5"}
    assert problems_with(**budget) == []
    assert problems_with(**budget, pipe_parallel_size=2, pipe_schedule="zero_bubble") == []


def test_the_output_matrix_counts_as_blocks_in_a_pipeline() -> None:
    layers = stage_layers(LLAMA3_8B, stages=4, seq_length=4096)
    assert [len(part) for part in layers] == [8, 9, 9, 6]


def test_more_stages_than_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="33 stages are more than the 32 blocks"):
        stage_layers(LLAMA3_8B, stages=33, seq_length=4096)


@given(layers=st.integers(1, 40), stages=st.integers(1, 16), vocabulary=st.integers(8, 400_000))
def test_stages_are_contiguous_and_no_other_cut_is_better(layers: int, stages: int, vocabulary: int) -> None:
    stages = min(stages, layers)
    shape = Architecture(
        vocab_size=vocabulary, hidden_size=512, intermediate_size=1024, num_hidden_layers=layers, num_attention_heads=8,
        num_key_value_heads=8, head_dim=64, max_position_embeddings=64,
    )  # fmt: skip
    parts = stage_layers(shape, stages=stages, seq_length=64)
    assert [layer for part in parts for layer in part] == list(range(layers)) and all(parts)
    block, head = block_flops(shape, seq_length=64), 2.0 * vocabulary * 512

    def cost(counts: list[int]) -> float:
        costs = [count * block for count in counts]
        costs[0], costs[-1] = costs[0] + 512, costs[-1] + head
        return max(costs)

    best = cost([len(part) for part in parts])
    for giver in range(stages):
        for taker in range(stages):
            counts = [len(part) for part in parts]
            counts[giver], counts[taker] = counts[giver] - 1, counts[taker] + 1
            assert counts[giver] < 1 or giver == taker or cost(counts) >= best
