from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from megatron.monitor.record import MetricsError, MetricsWriter
from megatron.monitor.watch import Watcher


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    def append(*events: tuple[str, int, dict]) -> None:
        with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
            for name, step, fields in events:
                writer.write(name, step, **fields)

    return append


def _start(resumed_from: int | None = None) -> tuple[str, int, dict]:
    fields = {
        "parameters": 1000, "world_size": 1, "tokens_per_step": 10, "train_iters": 4, "device": "cpu",
        "precision": "fp32", "resumed_from": resumed_from,
    }  # fmt: skip
    return "start", resumed_from or 0, fields


def _train(step: int) -> tuple[str, int, dict]:
    fields = {"loss": 2.0, "learning_rate": 1e-4, "gradient_norm": 0.5, "tokens_per_second": 50.0, "seconds": 2.0}
    return "train", step, fields


def _console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=80, height=24, force_terminal=terminal, color_system=None)


def test_one_frame_shows_what_has_come_since_the_last(tmp_path: Path, write: Callable[..., None]) -> None:
    write(_start(), _train(1))
    watcher = Watcher(tmp_path, _console())
    assert "step 1 of 4" in watcher.lines()[0]
    write(_train(2), _train(3))
    assert "step 3 of 4" in watcher.lines()[0]
    write(_start(2))
    assert "step 2 of 4" in watcher.lines()[0]


def test_a_record_that_is_replaced_leaves_nothing_behind(tmp_path: Path, write: Callable[..., None]) -> None:
    write(_start(), _train(1), ("incident", 1, {"kind": "node_test", "problem": "node7 is slow"}))
    watcher = Watcher(tmp_path, _console())
    assert "node7 is slow" in "\n".join(watcher.lines())
    (tmp_path / "metrics.jsonl").rename(tmp_path / "old.jsonl")
    write(_start())
    text = "\n".join(watcher.lines())
    assert "node7" not in text and "step 0 of 4" in text


def test_following_ends_when_the_run_has_finished(
    tmp_path: Path, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(_start(), _train(1), ("end", 1, {"reason": "exit_interval"}))
    rest = iter([[_start(1), _train(2)], [_train(3)], [_train(4), ("end", 4, {"reason": "finished"})]])
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        write(*next(rest))

    monkeypatch.setattr(time, "sleep", sleep)
    console = _console(terminal=True)
    Watcher(tmp_path, console).follow(interval_seconds=0.25)
    assert slept == [0.25] * 3
    assert isinstance(console.file, io.StringIO)
    drawn = console.file.getvalue()
    for part in ("stopped", "step 2 of 4", "step 3 of 4", "finished"):
        assert part in drawn


def test_ctrl_c_ends_following_quietly(
    tmp_path: Path, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(_start())

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    Watcher(tmp_path, _console(terminal=True)).follow(interval_seconds=1.0)


@pytest.mark.parametrize("interval", [0.0, -1.0, float("nan"), float("inf")])
def test_an_interval_is_some_time(tmp_path: Path, write: Callable[..., None], interval: float) -> None:
    write(_start())
    with pytest.raises(ValueError, match="must be a number of seconds above 0"):
        Watcher(tmp_path, _console()).follow(interval_seconds=interval)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MetricsError, match="give the `save` folder"):
        Watcher(tmp_path, _console()).lines()
