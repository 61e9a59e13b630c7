from __future__ import annotations

import builtins
import math
import sys
import time
from pathlib import Path

import pytest

from megatron.monitor.tensorboard import TensorBoardWriter


def _train(step: int, loss: float) -> dict:
    return {"event": "train", "step": step, "time": time.time(), "loss": loss, "learning_rate": 1e-4,
            "gradient_norm": 1.0, "tokens": 10, "tokens_per_second": 5.0, "seconds": 2.0, "mfu": None}  # fmt: skip


def _read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(s.step, s.value) for s in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def _start(resumed_from: int | None) -> dict:
    return {"event": "start", "step": resumed_from or 0, "time": time.time(), "resumed_from": resumed_from}


def test_train_and_validation_become_curves(tmp_path: Path) -> None:
    writer = TensorBoardWriter(tmp_path / "board")
    writer(_start(None))
    writer(_train(1, 3.0))
    writer(_train(2, math.nan))
    rows = [
        {"corpus": "a", "code": "eng_Latn", "tier": "high", "source": "monolingual", "nats": math.log(2) * 100,
         "bytes": 100, "tokens": 1},
        {"corpus": "b", "code": "eng_Latn", "tier": "low", "source": "books", "nats": math.log(2) * 300, "bytes": 100,
         "tokens": 1},
    ]  # fmt: skip
    writer({"event": "validation", "step": 2, "time": time.time(), "rows": rows, "seconds": 1.0})
    writer({"event": "validation", "step": 2, "time": time.time(), "rows": [], "seconds": 1.0})
    writer({"event": "end", "step": 2, "time": time.time(), "reason": "finished"})
    writer.close()
    curves = _read(tmp_path / "board")
    assert curves["train/loss"][0] == (1, 3.0)
    assert math.isnan(curves["train/loss"][1][1])
    assert "train/mfu" not in curves
    assert curves["validation/bits_per_byte"] == [(2, 2.0)]
    assert curves["validation_tier/high"] == [(2, 1.0)]
    assert curves["validation_tier/low"] == [(2, 3.0)]
    assert curves["validation_source/books"] == [(2, 3.0)]
    assert curves["validation_language/eng_Latn"] == [(2, 2.0)]


def test_a_resumed_run_replaces_the_points_it_draws_again(tmp_path: Path) -> None:
    first = TensorBoardWriter(tmp_path)
    first(_start(None))
    for step in range(1, 6):
        first(_train(step, 1.0))
    first.close()
    time.sleep(1.1)  # event files sort by the second in their names
    second = TensorBoardWriter(tmp_path)
    second(_start(3))
    second(_train(4, 2.0))
    second.close()
    assert _read(tmp_path)["train/loss"] == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def blocked(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("tensorboard"):
            raise ImportError("blocked")
        return real(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.startswith("tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        TensorBoardWriter(tmp_path)
