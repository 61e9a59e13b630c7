from __future__ import annotations

import types
from typing import Any

import pytest
from torch.distributed.pipelining.schedules import ScheduleInterleaved1F1B, ScheduleInterleavedZeroBubble

from megatron.config.layout import Layout
from megatron.simulate.pipeline import bubble, in_flight

_SCHEDULES: dict[str, Any] = {"interleaved": ScheduleInterleaved1F1B, "zero_bubble": ScheduleInterleavedZeroBubble}


def most_in_flight(schedule: str, *, pipeline: int, chunks: int, micro_batches: int, position: int) -> int:
    """Count along the actions that PyTorch's schedule gives to a process."""
    stages = [
        types.SimpleNamespace(
            num_stages=pipeline * chunks, group_size=pipeline, group_rank=position, group=None, has_backward=True,
            stage_index=position + chunk * pipeline, is_first=False, is_last=False, submod=None, device="cpu",
        )
        for chunk in range(chunks)
    ]  # fmt: skip
    made: Any = _SCHEDULES[schedule](stages, n_microbatches=micro_batches, loss_fn=lambda *_: None)
    now = most = 0
    for action in made.pipeline_order[position]:
        if action is not None:  # with zero bubbles what has been kept is needed until the weights' gradients, W
            now += {"F": 1, "B": -1, "W": -1}.get(action.computation_type.value, 0)
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


def test_one_forward_one_backward_holds_what_lies_behind() -> None:
    layout = Layout(pipeline=4)
    assert [in_flight(layout, micro_batches=8, position=position) for position in range(4)] == [4, 3, 2, 1]
    assert in_flight(layout, micro_batches=2, position=0) == 2


def test_bubbles_are_those_of_the_papers() -> None:
    assert bubble(Layout(pipeline=4), micro_batches=12) == pytest.approx(3 / 15)
    assert bubble(Layout(pipeline=4, chunks=2, schedule="interleaved"), micro_batches=12) == pytest.approx(1.5 / 13.5)
    assert bubble(Layout(pipeline=4, schedule="zero_bubble"), micro_batches=12) == pytest.approx(1 / 13)
    assert bubble(Layout(), micro_batches=12) == 0
