from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from megatron.config.load import config_from, write_resolved
from megatron.config.schema import Config
from megatron.monitor.record import MetricsError
from megatron.monitor.run_steps import PlannedSteps, RecordedSteps, open_steps

SEQ_LENGTH = 10


def config(**settings: Any) -> Config:
    values = {
        "num_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128,
        "max_position_embeddings": 128, "tokenizer_type": "SPMTokenizer", "vocab_file": "tokenizer.model",
        "data_manifest": "manifest.json", "seq_length": SEQ_LENGTH, "train_batch_size": 8,
        "lr": 1e-4, "train_iters": 10, **settings,
    }  # fmt: skip
    return config_from({key: value for key, value in values.items() if value is not None})


def record(folder: Path, events: list[dict[str, Any]]) -> Path:
    write_resolved(config(), folder / "configs" / "resolved-0123abcd.yml")
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"time": 0, **event}) + "\n" for event in events))
    return folder


def start(step: int, batch: int, resumed_from: int | None = None) -> dict[str, Any]:
    return {"event": "start", "step": step, "tokens_per_step": batch * SEQ_LENGTH, "resumed_from": resumed_from}


def trained(step: int, samples: int) -> dict[str, Any]:
    return {"event": "train", "step": step, "tokens": samples * SEQ_LENGTH}


def test_planned_steps_count_from_one() -> None:
    steps = PlannedSteps(config())
    assert [steps.step(number).samples for number in (1, 2, 5)] == [range(8), range(8, 16), range(32, 40)]
    with pytest.raises(ValueError, match="the first step of a run is 1"):
        steps.step(0)


def test_an_open_batch_needs_the_processes() -> None:
    section = config(train_batch_size=None, train_micro_batch_size_per_gpu=4, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="--processes"):
        PlannedSteps(section)
    assert PlannedSteps(section, processes=3).batch_size == 24
    with pytest.raises(ValueError, match="give a configuration, or --run"):
        open_steps(None, None)


def test_the_batch_changed_in_the_middle(tmp_path: Path) -> None:
    first = [start(0, 8), trained(1, 8), trained(2, 16), trained(3, 24)]
    # Resumed from step 2 with a batch of 5: the third step was trained anew, on other samples.
    steps = RecordedSteps(record(tmp_path, [*first, start(2, 5, 2), trained(3, 21), trained(4, 26)]))
    assert [steps.step(number).samples for number in (1, 2, 3, 4)] == [
        range(8), range(8, 16), range(16, 21), range(21, 26),
    ]  # fmt: skip
    assert steps.batch_size == 5
    ahead = steps.step(7)
    assert ahead.samples == range(36, 41)
    assert "not trained yet" in ahead.origin


def test_a_run_that_loaded_another_one(tmp_path: Path) -> None:
    steps = RecordedSteps(record(tmp_path, [start(100, 4), trained(101, 404), trained(102, 408)]))
    assert steps.step(101).samples == range(400, 404)
    with pytest.raises(MetricsError, match="does not tell of step 100"):
        steps.step(100)
    with pytest.raises(MetricsError, match="does not tell of step 101"):
        RecordedSteps(record(tmp_path, [start(100, 4)])).step(101)
    assert RecordedSteps(record(tmp_path, [start(0, 4)])).step(2).samples == range(4, 8)


def test_a_record_that_contradicts_itself_is_an_error(tmp_path: Path) -> None:
    steps = RecordedSteps(record(tmp_path, [start(0, 8), trained(1, 8), trained(2, 17)]))
    with pytest.raises(MetricsError, match="contradicts itself"):
        steps.step(2)
    event = {"event": "start", "step": 0, "tokens_per_step": 77, "resumed_from": None}
    with pytest.raises(MetricsError, match="no whole number of samples"):
        RecordedSteps(record(tmp_path, [event])).step(1)
    with pytest.raises(MetricsError, match="no start event"):
        RecordedSteps(record(tmp_path, [trained(1, 8)]))


def test_where_the_configuration_comes_from(tmp_path: Path) -> None:
    planned = {"event": "mixture", "step": 0, "kind": "planned", "rows": [{"corpus": "a"}]}
    folder = record(tmp_path, [start(0, 8), planned, trained(1, 8)])
    steps = open_steps(folder, None)
    assert steps.config == config()
    assert steps.planned == [{"corpus": "a"}]
    assert open_steps(folder, config(train_iters=7)).config.train.train_iters == 7
    (folder / "configs" / "resolved-0123abcd.yml").unlink()
    with pytest.raises(MetricsError, match="no checkpoint"):
        RecordedSteps(folder)
    write_resolved(config(train_iters=9), folder / "global_step1" / "config.yml")
    assert RecordedSteps(folder).config.train.train_iters == 9


def test_a_refused_start_does_not_change_what_a_run_is(tmp_path: Path) -> None:
    folder = record(tmp_path, [{**start(0, 8), "configuration": "resolved-0123abcd.yml"}, trained(1, 8)])
    write_resolved(config(seed=7), folder / "configs" / "resolved-ffffffff.yml")
    assert RecordedSteps(folder).config == config()
    (folder / "configs" / "resolved-0123abcd.yml").unlink()
    assert RecordedSteps(folder).config == config(seed=7)
