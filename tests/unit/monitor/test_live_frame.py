from __future__ import annotations

import io
import math
from typing import Any

import pytest
from rich.console import Console

from megatron.monitor.live_frame import frame
from megatron.monitor.live_run import LiveRun
from megatron.monitor.record import Event

TIERS = ("high", "medium-high", "medium", "medium-low", "low")
NOW = 1_700_000_000.0


def _event(name: str, step: int, **fields: Any) -> Event:
    return {"event": name, "step": step, "time": NOW - 1000 + step, **fields}


def _start(**fields: Any) -> Event:
    known = {
        "parameters": 6_738_415_616, "world_size": 8, "tokens_per_step": 4096, "train_iters": 2000, "device": "cuda",
        "precision": "bf16", "resumed_from": None,
    }  # fmt: skip
    return _event("start", 0, **{**known, **fields})


def _train(step: int, **fields: Any) -> Event:
    known = {
        "loss": 2.0 + 100.0 / step, "learning_rate": 2e-4, "gradient_norm": 0.5, "tokens": step * 4096,
        "tokens_per_second": 80_000.0, "seconds": 1.25, "mfu": None,
    }  # fmt: skip
    return _event("train", step, **{**known, **fields})


def _validation(step: int, scale: float) -> Event:
    rows = [
        {"corpus": f"{tier}_{number}", "code": "eng_Latn", "tier": tier, "source": "monolingual",
         "nats": scale * math.log(2) * 100, "bytes": 100, "tokens": 30}
        for tier in TIERS
        for number in range(20)
    ]  # fmt: skip
    return _event("validation", step, rows=rows, seconds=30.0)


def _full_run() -> LiveRun:
    run = LiveRun()
    run.take(_start())
    run.take(_validation(0, 2.0))
    for step in range(600, 605):
        run.take(
            _event("incident", step, kind="spike", loss=9.0, gradient_norm=30.0, limit=3.4, action="skipped",
                   samples=[[1, 2]], corpora={"swh_Latn": 2})
        )  # fmt: skip
    run.take(_event("checkpoint_failed", 880, reason="global_step880:\nno space left on device"))
    run.take(_event("checkpoint", 900, path="run/global_step900", bytes=1, seconds=41.2, waited_seconds=1.3))
    for step in range(1, 996):
        run.take(
            _train(
                step, data_seconds=0.01, mfu=0.413, tflops_per_process=408.25,
                sources={"monolingual": 2.125, "code": 1.0}, tiers=dict.fromkeys(TIERS, 2.5),
                stragglers=[{"rank": 3, "host": "node[7]", "seconds": 1.9, "median": 0.004}] if step == 990 else [],
            )
        )  # fmt: skip
    run.take(_validation(950, 1.5) | {"time": NOW - 4})
    return run


def _draw(
    run: LiveRun, *, name: str = "runs/walk", now: float = NOW, width: int = 80, height: int | None = None,
    **options: Any,
) -> list[str]:  # fmt: skip
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(frame(run, name=name, now=now, width=width, height=height, **options))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_frame_tells_everything() -> None:
    text = "\n".join(_draw(_full_run(), width=120))
    for part in (
        "runs/walk  running", "step 995 of 2,000", "49.8%, 16 min 45 s left, until", "8 x cuda",
        "loss, steps 1 to 995", "last 50 steps", "2.1005", "0.500", "2.00e-04", "80,000", "10,000", "408.2, 41.3%",
        "1.25 s, 0.8% for data", "step 900, 1 min 40 s ago, took 41.2 s, training waited 1.3 s",
        "step 880: global_step880: no space left on device", "monolingual 2.1250  code 1.0000",
        "step 990: rank 3 on node[7] 1.9 s (median 4 ms)", "step 604: skipped: spike above 3.4000",
        "bits per byte, step 0 and step 950", "-25.0%",
    ):  # fmt: skip
        assert part in text, part
    assert "step 601" not in text  # the last three
    row = next(line for line in text.splitlines() if "medium-low" in line)
    assert row.split()[1:-1] == ["medium-low", "20", "2.0000", "1.5000", "-25.0%", "20", "0", "2.5000"]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 25), (100, 30), (200, 60), (80, 32)])
def test_a_frame_fits(width: int, height: int) -> None:
    lines = _draw(_full_run(), width=width, height=height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert any(" all " in line for line in lines)
    assert lines[-1].startswith("╰")


@pytest.mark.parametrize("width", [1, 5, 20, 45, 57, 58])
@pytest.mark.parametrize("height", [1, 10, None])
def test_a_narrow_or_low_terminal_does_not_break_it(width: int, height: int | None) -> None:
    assert max(map(len, _draw(_full_run(), width=width, height=height))) <= width


def test_more_lines_give_a_higher_chart() -> None:
    def chart_lines(height: int) -> int:
        return sum(any("\u2800" < letter <= "\u28ff" for letter in line) for line in _draw(_full_run(), height=height))

    assert chart_lines(24) == 8
    assert chart_lines(35) > 8


def test_old_records_without_new_fields_are_shown_without_them() -> None:
    run = LiveRun()
    for event in (_start(world_size=1), _train(1), _event("checkpoint", 1, path="x", seconds=0.5)):
        run.take(event)
    text = "\n".join(_draw(run))
    for part in ("TFLOP/s", "MFU", "a process", "for data", "by source", "slow", "waited", "bits per byte", "tier"):
        assert part not in text
    assert "took 0.5 s" in text


def test_the_first_validation_stands_alone() -> None:
    run = LiveRun()
    for event in (_start(), _validation(0, 2.0)):
        run.take(event)
    text = "\n".join(_draw(run))
    assert "bits per byte, step 0 " in text
    assert "%" not in text.split("bits per byte")[1]
    assert "no step has finished yet" in text


def test_tiers_without_a_validation_come_in_the_order_of_the_mixture() -> None:
    run = LiveRun()
    plan = [{"tier": tier, "source": "monolingual", "tokens": 10 - i} for i, tier in enumerate(TIERS)]
    run.take(_event("mixture", 0, kind="planned", rows=plan))
    run.take(_train(1, tiers={"low": 3.0, "other": 2.0, "high": 1.0}))
    lines = [line.split() for line in _draw(run)]
    assert [line[1] for line in lines if len(line) == 4 and line[1] in ("other", "high", "low")] == [
        "other", "high", "low",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("events", "after_seconds", "state"),
    [
        ([], 0.0, "not started"),
        ([_start()], 1.0, "running"),
        ([_start(), _train(5)], 3600.0, "silent for 1 h"),
        ([_start(), _train(5), _event("end", 5, reason="exit_interval")], 3600.0, "stopped "),
        ([_start(), _train(5), _event("end", 5, reason="stopped: SIGTERM")], 3600.0, ": SIGTERM"),
        ([_start(), _train(2000), _event("end", 2000, reason="finished")], 3600.0, "finished "),
        ([_start(), _event("end", 5, reason="exit_interval"), _start(resumed_from=5)], 9.0, "running"),
    ],
)
def test_states(events: list[Event], after_seconds: float, state: str) -> None:
    run = LiveRun()
    for event in events:
        run.take(event)
    last = run.last_time or NOW
    assert state in _draw(run, now=last + after_seconds)[0]


def test_of_a_long_name_the_end_is_shown() -> None:
    line = _draw(_full_run(), name="/scratch/project_123456789/somebody/a-folder-of-runs/emma-500")[0]
    assert line.startswith("…") and "/a-folder-of-runs/emma-500  running" in line and "step 995 of 2,000" in line
    run = LiveRun()
    run.take(_start())
    run.take(_event("end", 5, reason="stopped: " + "very " * 30 + "long"))
    line = _draw(run, name="/scratch/a-folder-of-runs/emma-500")[0]
    assert line.startswith("…f-runs/emma-500  stopped") and line.endswith("…  step 0 of 2,000")


def test_when_it_will_be_done_is_said_only_of_a_run_that_goes_on() -> None:
    run = LiveRun()
    for event in (_start(), _train(5), _train(6)):
        run.take(event)
    assert "33 min 14 s left, until" in _draw(run, now=NOW - 990)[1]
    assert _draw(run, now=NOW + 9999)[1].endswith("33 min 14 s left")


def test_a_loss_that_is_no_number_is_shown() -> None:
    run = LiveRun()
    for event in (_start(), _train(1), _train(2, loss=math.nan, gradient_norm=math.inf)):
        run.take(event)
    text = "\n".join(_draw(run))
    assert "nan" in text and "inf" in text and "102.0000" in text


def test_texts_of_a_run_are_no_markup() -> None:
    run = LiveRun()
    for event in (_start(), _event("end", 5, reason="stopped: [red]x[/blue]")):
        run.take(event)
    assert "[red]x[/blue]" in _draw(run)[0]


def test_unreadable_lines_are_counted_where_there_is_room() -> None:
    assert "2 unreadable line(s)" in "\n".join(_draw(_full_run(), unreadable_lines=2))
    assert "unreadable" not in "\n".join(_draw(_full_run(), unreadable_lines=2, height=24))
