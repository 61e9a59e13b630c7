from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator
from typing import Any

import pytest
from torch.distributed.pipelining.schedules import ScheduleInterleaved1F1B, ScheduleInterleavedZeroBubble

from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from megatron.simulate.activations import block_kept
from megatron.simulate.budget import modes_within
from megatron.simulate.hardware import GIB
from megatron.simulate.memory import kept_bytes
from megatron.simulate.pipeline import bubble, in_flight
from megatron.simulate.run import Run

_SCHEDULES: dict[str, Any] = {"interleaved": ScheduleInterleaved1F1B, "zero_bubble": ScheduleInterleavedZeroBubble}


def actions(
    schedule: str, *, pipeline: int, chunks: int, micro_batches: int, position: int
) -> Iterator[tuple[str, int]]:
    """Yield the kind and the stage of the process for each action that PyTorch's schedule gives to a process."""
    stages = [
        types.SimpleNamespace(
            num_stages=pipeline * chunks, group_size=pipeline, group_rank=position, group=None, has_backward=True,
            stage_index=position + chunk * pipeline, is_first=False, is_last=False, submod=None, device="cpu",
        )
        for chunk in range(chunks)
    ]  # fmt: skip
    made: Any = _SCHEDULES[schedule](stages, n_microbatches=micro_batches, loss_fn=lambda *_: None)
    for action in made.pipeline_order[position]:
        if action is not None:
            yield action.computation_type.value, action.stage_index // pipeline


def most_in_flight(schedule: str, **sizes: int) -> int:
    """Count along the actions of a process."""
    now = most = 0
    for kind, _ in actions(schedule, **sizes):
        # With zero bubbles what has been kept is needed until the weights' gradients, W.
        now += {"F": 1, "B": -1, "W": -1}.get(kind, 0)
        most = max(most, now)
    return most


@pytest.mark.parametrize(
    ("schedule", "chunks"), [("interleaved", 2), ("interleaved", 4), ("zero_bubble", 1), ("zero_bubble", 2)]
)
@pytest.mark.parametrize(("pipeline", "micro_batches"), [(2, 2), (2, 8), (4, 4), (4, 16), (8, 8), (8, 32)])
def test_in_flight_is_what_pytorch_holds(schedule: str, chunks: int, pipeline: int, micro_batches: int) -> None:
    layout = Layout(pipeline=pipeline, chunks=chunks, schedule=schedule)
    for position in range(pipeline):
        expected = most_in_flight(
            schedule, pipeline=pipeline, chunks=chunks, micro_batches=micro_batches, position=position
        )
        assert in_flight(layout, micro_batches=micro_batches, position=position) == expected, position


@pytest.mark.parametrize(("schedule", "chunks"), [("interleaved", 2), ("interleaved", 4), ("zero_bubble", 2)])
@pytest.mark.parametrize(("pipeline", "micro_batches"), [(2, 2), (2, 8), (4, 4), (4, 16)])
@pytest.mark.parametrize("share", [0.15, 0.4, 0.6, 0.85])
def test_stages_that_recompute_differently_hold_no_more_than_is_told(
    schedule: str, chunks: int, pipeline: int, micro_batches: int, share: float
) -> None:
    layout = Layout(pipeline=pipeline, chunks=chunks, schedule=schedule)
    # Attention over a long sequence outweighs the output matrix, so that all stages have three blocks.
    shape = Architecture(8, 64, 160, 3 * pipeline * chunks, 4, 2, 16, 4096)
    run = Run(shape, layout, 4096, 1, micro_batches, 1)
    ends = [
        max(kept_bytes(dataclasses.replace(run, recompute=mode), position) for position in range(pipeline))
        for mode in ("full", None)
    ]
    budget = (ends[0] + share * (ends[1] - ends[0])) / GIB
    run = dataclasses.replace(run, recompute=modes_within(run, budget_gib=budget))
    for position in range(pipeline):
        assert set(run.blocks(position)) == {3}
        of_stage = [sum(block_kept(run, mode) for mode in modes) for modes in run.modes(position)]
        now = most = 0.0
        for kind, chunk in actions(
            schedule, pipeline=pipeline, chunks=chunks, micro_batches=micro_batches, position=position
        ):
            now += {"F": 1, "B": -1, "W": -1}.get(kind, 0) * of_stage[chunk]
            most = max(most, now)
        flying = in_flight(layout, micro_batches=micro_batches, position=position)
        told = flying * sum(of_stage) / chunks
        assert 0.75 * told <= most <= 1.0001 * told


def test_one_forward_one_backward_holds_what_lies_behind() -> None:
    layout = Layout(pipeline=4)
    assert [in_flight(layout, micro_batches=8, position=position) for position in range(4)] == [4, 3, 2, 1]
    assert in_flight(layout, micro_batches=2, position=0) == 2


def test_bubbles_are_those_of_the_papers() -> None:
    assert bubble(Layout(pipeline=4), micro_batches=12) == pytest.approx(3 / 15)
    assert bubble(Layout(pipeline=4, chunks=2, schedule="interleaved"), micro_batches=12) == pytest.approx(1.5 / 13.5)
    assert bubble(Layout(pipeline=4, schedule="zero_bubble"), micro_batches=12) == pytest.approx(1 / 13)
    assert bubble(Layout(), micro_batches=12) == 0
