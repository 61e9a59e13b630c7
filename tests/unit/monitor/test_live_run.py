from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.monitor.live_run import LiveRun
from megatron.monitor.record import Event, current_events


def event(name: str, step: int, **fields: Any) -> Event:
    return {"event": name, "step": step, "time": 1000.0 + step, **fields}


def start(resumed_from: int | None = None, **fields: Any) -> Event:
    known = {"resumed_from": resumed_from, "train_iters": 100, "world_size": 4}
    return event("start", resumed_from or 0, **{**known, **fields})


def train(step: int, **fields: Any) -> Event:
    numbers = {
        "loss": 2.0, "learning_rate": 1e-4, "gradient_norm": 0.5, "tokens_per_second": 50.0, "seconds": 2.0,
        "mfu": None,
    }  # fmt: skip
    return event("train", step, **{**numbers, **fields})


def validation(step: int, scale: float) -> Event:
    rows = [
        {"corpus": code, "code": code, "tier": tier, "source": "monolingual", "nats": scale * math.log(2) * 100,
         "bytes": 100, "tokens": 30}
        for code, tier in (("eng_Latn", "high"), ("hau_Latn", "low"))
    ]  # fmt: skip
    return event("validation", step, rows=rows, seconds=3.0)


def run_of(*events: Event) -> LiveRun:
    run = LiveRun()
    for one in events:
        run.take(one)
    return run


def test_nothing_is_known_of_no_events() -> None:
    run = LiveRun()
    assert run.step == 0
    assert run.silent_seconds(1e9) is None
    assert run.seconds_left() is run.tokens_per_second() is run.data_share() is run.mean("loss") is None
    assert run.checkpoint is run.validation is run.first_validated_step is None


def test_means_are_over_the_steps_that_have_the_field() -> None:
    run = run_of(
        start(), train(1, loss=math.inf, mfu=0.4), train(2, sources={"code": 1.0, "monolingual": math.nan}),
        train(3, loss=4.0, sources={"code": 3.0}, seconds=6.0, data_seconds=3.0),
    )  # fmt: skip
    assert run.mean("loss") == 3.0
    assert run.mean("mfu") == 0.4
    assert run.mean("tflops_per_process") is None
    assert run.means("sources") == {"code": 2.0}
    assert run.means("tiers") == {}
    assert run.tokens_per_second() == 50.0
    assert run.data_share() == 0.5


def test_what_is_left_counts_validations_and_checkpoints_between_the_steps() -> None:
    assert run_of(start()).seconds_left() is None
    assert run_of(start(), train(1)).seconds_left() == 99 * 2.0
    slow = [{**train(step), "time": 1000.0 + 10 * step} for step in (1, 2, 3)]
    assert run_of(start(), *slow).seconds_left() == 97 * 10.0
    # The hours before a restart count for nothing.
    resumed = [{**event, "time": event["time"] + 5000} for event in (start(2), train(3), train(4))]
    assert run_of(start(), *slow, *resumed).seconds_left() == 96 * 1.0


def test_silence_depends_on_the_pace() -> None:
    run = run_of(start())
    assert run.silent_seconds(1000 + 599) is None
    assert run.silent_seconds(1000 + 601) == 601.0
    assert run_of(start(), train(1)).silent_seconds(1001 + 121) == 121.0
    assert run_of(start(), train(1, seconds=60.0)).silent_seconds(1001 + 599) is None


def test_a_restart_supersedes_what_came_after_its_step() -> None:
    run = run_of(
        start(), validation(0, 4.0), train(1), train(2), event("checkpoint", 2), validation(2, 3.0), train(3),
        event("checkpoint", 3), event("incident", 3), event("checkpoint_failed", 3), event("end", 3, reason="x"),
        start(2),
    )  # fmt: skip
    assert run.step == 2
    assert run.end is None
    assert run.checkpoint is not None and run.checkpoint["step"] == 2
    assert run.validation is not None and run.validation.step == 2
    assert [point.last_step for point in run.curve.points] == [1, 2]
    assert len(run.incidents) == 1
    assert run.checkpoint_failed is not None
    run.take(start())
    assert run.step == 0
    assert run.checkpoint is run.validation is run.first_validated_step is None


def test_validations_stand_beside_the_first_in_the_order_of_the_mixture() -> None:
    plan = [{"tier": tier, "source": "monolingual", "tokens": tokens} for tier, tokens in (("low", 1), ("high", 9))]
    run = run_of(start(), event("mixture", 0, kind="planned", rows=plan), validation(0, 4.0), validation(5, 1.0))
    assert run.first_validated_step == 0
    assert run.validation is not None
    assert [(line.name, line.before, line.after) for line in run.validation.tiers] == [
        ("high", 4.0, pytest.approx(1.0)), ("low", 4.0, pytest.approx(1.0)), ("all", 4.0, pytest.approx(1.0)),
    ]  # fmt: skip


def test_a_long_run_needs_little_memory() -> None:
    run = LiveRun()
    for step in range(1, 20_001):
        run.take(train(step))
    assert len(run.recent) <= 100
    assert len(run.curve.points) <= 4000


_EVENTS = st.one_of(
    st.builds(start, st.one_of(st.none(), st.integers(0, 9))),
    st.builds(validation, st.integers(0, 9), st.floats(1.0, 4.0)),
    st.builds(lambda name, step: event(name, step), st.sampled_from(["checkpoint", "incident"]), st.integers(0, 9)),
)


@given(parts=st.lists(st.tuples(_EVENTS, st.integers(0, 4)), max_size=8))
@settings(max_examples=100, deadline=None)
def test_events_one_by_one_tell_the_same_as_those_that_count_in_the_end(parts: list[tuple[Event, int]]) -> None:
    """A run as it is written: steps that rise between restarts."""
    events, step = [start()], 0
    for one, steps in parts:
        step = min(one["resumed_from"] or 0, step) if one["event"] == "start" else step
        resumed = {"resumed_from": step} if one.get("resumed_from") is not None else {}
        events.append({**one, "step": step, **resumed})
        for _ in range(steps):
            step += 1
            events.append(train(step))
    live, whole = run_of(*events), run_of(*current_events(events))
    assert live.step == whole.step
    assert live.checkpoint == whole.checkpoint
    assert live.validation == whole.validation
    assert live.recent == whole.recent
    assert live.curve.points == whole.curve.points
    assert live.incidents == whole.incidents
    assert live.seconds_left() == whole.seconds_left()
