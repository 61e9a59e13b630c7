from __future__ import annotations

import logging
import math

import pytest

from megatron.monitor.console import Console, format_duration, new_tokens_text, train_line, validation_table


def _train(step: int, **changes: object) -> dict:
    event = {
        "event": "train", "step": step, "loss": 2.0, "learning_rate": 1e-4, "gradient_norm": 0.5, "tokens": step * 100,
        "tokens_per_second": 50.0, "seconds": 2.0, "mfu": None,
    }  # fmt: skip
    return {**event, **changes}


def _rows(scale: float) -> list[dict]:
    return [
        {"corpus": code, "code": code, "tier": tier, "source": "monolingual", "nats": scale * math.log(2) * 100,
         "bytes": 100, "tokens": 30}
        for code, tier in (("eng_Latn", "high"), ("hau_Latn", "low"))
    ]  # fmt: skip


def _lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_line_at_the_first_step_every_interval_and_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="megatron")
    console = Console(train_iters=25, log_interval=10)
    for step in range(1, 26):
        console(_train(step))
    assert [line.split("/")[0].split()[-1] for line in _lines(caplog)] == ["1", "10", "20", "25"]


def test_the_line_stands_for_all_steps_since_the_line_before() -> None:
    events = [
        _train(11, loss=1.0, seconds=1.0, tokens_per_second=100.0, gradient_norm=9.0),
        _train(12, loss=3.0, seconds=3.0, tokens_per_second=20.0, mfu=0.4),
    ]
    line = train_line(events, train_iters=1200)
    assert "step    12/1,200    1.0%" in line
    assert "loss 2.0000" in line
    assert "lr 1.00e-04" in line
    assert "grad norm 9.000" in line
    assert "40 tokens/s" in line  # 160 tokens in 4 seconds, not the mean of 100 and 20
    assert "MFU 40.0%" in line
    assert "remaining 39 min 36 s" in line  # 1188 steps of 2 seconds


def test_unknown_mfu_is_not_shown_and_a_broken_loss_is() -> None:
    line = train_line([_train(1, loss=math.nan)], train_iters=10)
    assert "MFU" not in line
    assert "loss nan" in line


def test_validation_shows_values_first_and_the_change_from_then_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="megatron")
    console = Console(train_iters=10, log_interval=5)
    console({"event": "validation", "step": 0, "rows": _rows(2.0), "seconds": 1.0})
    console({"event": "validation", "step": 5, "rows": _rows(1.0), "seconds": 1.0})
    first, second = _lines(caplog)
    assert "2.0000" in first
    assert "%" not in first
    assert "-50.0%" in second


def test_a_resumed_run_compares_with_the_validation_it_is_given(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="megatron")
    Console(train_iters=10, log_interval=5, first_validation=_rows(4.0))(
        {"event": "validation", "step": 5, "rows": _rows(1.0), "seconds": 1.0}
    )
    assert "-75.0%" in _lines(caplog)[0]


def test_own_tiers_come_in_the_order_of_the_mixtures_sizes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="megatron")
    console = Console(train_iters=10, log_interval=5)
    tiers = {"high": "little", "low": "vast"}
    console({"event": "mixture", "step": 0, "kind": "planned",
             "rows": [{"tier": tier, "source": "monolingual", "tokens": tokens}
                      for tier, tokens in (("little", 10), ("vast", 99))]})  # fmt: skip
    for step in (0, 5):
        rows = [{**row, "tier": tiers[row["tier"]]} for row in _rows(2.0)]
        console({"event": "validation", "step": step, "rows": rows, "seconds": 1.0})
    first, second = (line.split("\n")[3:] for line in _lines(caplog))
    assert [line.split()[0] for line in first] == ["vast", "little"]
    assert [line.split()[0] for line in second] == ["vast", "little", "all"]


def test_validation_of_nothing_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="megatron")
    Console(train_iters=10, log_interval=5)({"event": "validation", "step": 0, "rows": [], "seconds": 0.0})
    assert "no held-out text" in _lines(caplog)[0]


def test_corpora_without_held_out_text_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="megatron")
    rows = [*_rows(1.0), {**_rows(1.0)[0], "corpus": "empty", "bytes": 0}]
    Console(train_iters=10, log_interval=5)({"event": "validation", "step": 0, "rows": rows, "seconds": 0.0})
    assert "1 corpora have no held-out text" in _lines(caplog)[0]
    assert "1.0000" in _lines(caplog)[1]


def test_validations_without_a_common_corpus_show_the_values() -> None:
    other = [{**row, "corpus": row["corpus"] + "_2"} for row in _rows(3.0)]
    assert "3.0000" in validation_table(_rows(1.0), other)


def test_start_checkpoint_and_end_have_their_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="megatron")
    console = Console(train_iters=10, log_interval=5)
    start = {"event": "start", "step": 5, "parameters": 1234567, "world_size": 2, "tokens_per_step": 4096,
             "train_iters": 10, "device": "cpu", "precision": "fp32", "resumed_from": 5}  # fmt: skip
    console(start)
    console({"event": "checkpoint", "step": 10, "path": "out/global_step10", "seconds": 0.25})
    console({"event": "end", "step": 10, "reason": "finished"})
    console({"event": "mixture", "step": 0, "rows": []})
    lines = _lines(caplog)
    assert len(lines) == 3
    assert "1,234,567 parameters" in lines[0]
    assert "resumed from step 5" in lines[0]
    assert "out/global_step10" in lines[1]
    assert "finished" in lines[2]


def test_interval_must_be_positive() -> None:
    with pytest.raises(ValueError, match="log_interval = 0"):
        Console(train_iters=1, log_interval=0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.6, "1 h 00 min"), (7500, "2 h 05 min"),
     (90000, "1 d 01 h"), (math.nan, "unknown"), (math.inf, "unknown")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_what_is_trained_of_a_larger_vocabulary(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="megatron")
    event = {"event": "new_tokens", "step": 0, "first": 32000, "tokens": 1500, "until": 900, "factor": 2.5}
    alone = "the rows of the 1,500 new tokens from 32,000 on are trained alone until step 900"
    assert new_tokens_text(event) == f"{alone}; everything else stays as it is"
    later = {**event, "step": 900, "until": None}
    told = "everything is trained, the rows of the 1,500 new tokens from 32,000 on at 2.5 times the learning rate"
    assert new_tokens_text(later) == told
    Console(train_iters=1000, log_interval=10)(event)
    assert len(_lines(caplog)) == 1
    Console(train_iters=900, log_interval=10)(event)
    assert "the run ends before it trains anything else" in _lines(caplog)[-1]
    slow = Console(train_iters=1000, log_interval=10)
    slow({**event, "factor": 0.5})
    slow({**later, "factor": 0.5})
    assert sum("new_tokens_lr is below lr" in line for line in _lines(caplog)) == 1
    Console(train_iters=1000, log_interval=10)({**event, "factor": 1.0})
    assert "is below lr" not in _lines(caplog)[-1]
    line = train_line([_train(7, learning_rate=0.0, new_tokens_learning_rate=2e-4)], train_iters=9)
    assert "lr 0.00e+00 (new tokens 2.00e-04)" in line
