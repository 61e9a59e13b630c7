"""How processes divide a model: what is possible, and what is refused before a run starts."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from megatron.config.layout import Layout
from megatron.config.load import config_from
from megatron.config.schema import ParallelConfig


def layout(stage: int, shard_size: int | None, processes: int) -> Layout:
    settings: dict[str, Any] = {"zero_optimization": {"stage": stage}, "data_parallel_shard_size": shard_size}
    return Layout.of(ParallelConfig.model_validate(settings), processes=processes)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((0, None, 8), Layout(0, 1, 8)),
        ((1, None, 8), Layout(1, 8, 1)),
        ((3, 4, 256), Layout(3, 4, 64)),
        ((2, 1, 1), Layout(0, 1, 1)),
        ((3, None, 1), Layout(0, 1, 1)),
    ],
)
def test_layouts(given: tuple[int, int | None, int], expected: Layout) -> None:
    assert layout(*given) == expected


@pytest.mark.parametrize(("shard_size", "processes"), [(3, 8), (16, 8), (5, 7)])
def test_sizes_that_do_not_divide(shard_size: int, processes: int) -> None:
    with pytest.raises(ValueError, match=f"data_parallel_shard_size = {shard_size} does not divide the {processes}"):
        layout(3, shard_size, processes)


def test_the_sizes_that_do_are_named() -> None:
    with pytest.raises(ValueError, match=r"Set it to one of 2, 3, 4, 6, 12, or"):
        layout(1, 5, 12)


@pytest.mark.parametrize("stage", [4, -1, "three", 1.5, None, True])
def test_stages_that_are_none(stage: object, problems_with: Any) -> None:
    [problem] = problems_with(zero_optimization={"stage": stage})
    assert problem.key == "zero_optimization.stage"


def test_a_shard_size_needs_a_stage(problems_with: Any) -> None:
    [problem] = problems_with(data_parallel_shard_size=2)
    assert problem.key == "data_parallel_shard_size" and "stage" in problem.fix


def test_sizes_of_deepspeeds_messages_are_left_out_with_a_word(minimal: Any, caplog: Any) -> None:
    buckets = {"overlap_comm": True, "reduce_bucket_size": 5e8}
    config = config_from({**minimal, "zero_optimization": {"stage": 1, **buckets}})
    assert config.parallel.zero_optimization.stage == 1
    assert "overlap_comm, reduce_bucket_size are ignored" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "{stage: 0, allgather_partitions: true, cpu_offload: false}",
        "{enabled: false}",
        "{stage: 0, offload_optimizer: {device: none}}",
        "{}",
    ],
)
def test_entries_that_ask_for_nothing_pass_in_silence(text: str, minimal: Any, caplog: Any) -> None:
    config = config_from({**minimal, "zero_optimization": yaml.safe_load(text)})
    assert config.parallel.zero_optimization.stage == 0 and not caplog.records


def test_pythias_entry_passes(minimal: Any) -> None:
    text = (
        "{stage: 1, allgather_partitions: True, allgather_bucket_size: 500000000, overlap_comm: True, "
        "reduce_scatter: True, reduce_bucket_size: 500000000, contiguous_gradients: True, cpu_offload: False}"
    )
    config = config_from({**minimal, "zero_optimization": yaml.safe_load(text)})
    assert config.parallel.zero_optimization.stage == 1


def test_a_size_that_divides_nothing() -> None:
    with pytest.raises(ValueError, match="data_parallel_shard_size = 1 divides nothing"):
        layout(3, 1, 4)


def test_offloading_is_refused(problems_with: Any) -> None:
    [problem] = problems_with(zero_optimization={"stage": 3, "offload_optimizer": {"device": "cpu"}})
    assert problem.key == "zero_optimization" and "offload_optimizer: not supported yet" in problem.rule
