from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.monitor.record import MetricsError, MetricsWriter, current_events, read_all_events, read_metrics
from tests.disks import small_disk


def test_events_come_back_as_written_with_time(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path / "save" / "metrics.jsonl", clock=lambda: 12.5) as writer:
        writer.write("start", 0, resumed_from=None, device="cpu")
        writer.write("train", 1, loss=2.5, mfu=None)
    assert read_metrics(tmp_path / "save" / "metrics.jsonl") == [
        {"event": "start", "step": 0, "time": 12.5, "resumed_from": None, "device": "cpu"},
        {"event": "train", "step": 1, "time": 12.5, "loss": 2.5, "mfu": None},
    ]


def test_numbers_that_are_not_finite_survive_and_the_line_stays_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [{"corpus": "nan", "nats": math.nan}, {"corpus": "nan_Hans", "nats": -math.inf}]
    with MetricsWriter(path) as writer:
        writer.write("validation", 3, loss=math.inf, rows=rows, nan="NaN")
    line = orjson.loads(path.read_bytes())
    assert line["loss"] is None
    assert line["rows"][0]["nats"] is None
    (event,) = read_metrics(path)
    assert event["loss"] == math.inf
    assert math.isnan(event["rows"][0]["nats"])
    assert event["rows"][1] == {"corpus": "nan_Hans", "nats": -math.inf}
    assert event["nan"] == "NaN"
    assert "not_finite" not in event


def test_numpy_scalars_are_numbers(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    with MetricsWriter(tmp_path / "m.jsonl") as writer:
        writer.write("train", 1, loss=numpy.float32("nan"), tokens=numpy.int64(7))
    (event,) = read_metrics(tmp_path / "m.jsonl")
    assert math.isnan(event["loss"])
    assert event["tokens"] == 7


def test_what_is_no_number_is_refused_by_name_and_leaves_no_line(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path / "m.jsonl") as writer:
        with pytest.raises(MetricsError, match=r"tensor\.item"):
            writer.write("train", 1, loss=object())
        with pytest.raises(MetricsError, match="'time'"):
            writer.write("train", 1, time=3.0)
    assert read_metrics(tmp_path / "m.jsonl") == []


def test_a_torn_last_line_is_left_out_and_the_next_writer_starts_a_fresh_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "m.jsonl"
    with MetricsWriter(path) as writer:
        writer.write("train", 1, loss=1.0)
        writer.write("train", 2, loss=2.0)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert [event["step"] for event in read_metrics(path)] == [1]
    with MetricsWriter(path) as writer:
        writer.write("train", 2, loss=2.0)
    assert [event["step"] for event in read_metrics(path)] == [1, 2]
    assert "1 unreadable line(s)" in caplog.text
    with MetricsWriter(path):
        pass
    assert not path.read_bytes().endswith(b"\n\n")


def test_every_tear_keeps_all_lines_before_it(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    with MetricsWriter(path, clock=lambda: 1.0) as writer:
        for step in range(3):
            writer.write("train", step, loss=math.nan)
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        steps = [event["step"] for event in read_metrics(path)]
        ended = whole[:length].count(b"\n")
        # The newline alone may be missing: the event is whole then.
        assert steps in (list(range(ended)), list(range(ended + 1)))


def test_events_written_before_a_kill_are_there(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    code = (
        "import os, signal, sys; from pathlib import Path; from megatron.monitor.record import MetricsWriter\n"
        "writer = MetricsWriter(Path(sys.argv[1]))\n"
        "[writer.write('train', step, loss=1.0) for step in range(50)]\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=root, env=environment)
    assert done.returncode == -signal.SIGKILL
    assert len(read_metrics(path)) == 50


def test_lines_wait_while_the_disk_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", 64 << 10) as disk:
        with MetricsWriter(disk / "metrics.jsonl") as writer:
            writer.write("train", 1, text="x" * 1000)
            (disk / "ballast").write_bytes(bytes(52 << 10))
            for step in range(2, 30):
                writer.write("train", step, text="x" * 1000)
            assert "No space left on device" in caplog.text
            (disk / "ballast").unlink()
            writer.write("train", 30)
        assert [event["step"] for event in read_all_events(disk / "metrics.jsonl")] == list(range(1, 31))
        writer = MetricsWriter(disk / "metrics.jsonl")
        writer.write("train", 31, text="x" * 100_000)
        with pytest.raises(OSError, match="bytes are lost"):
            writer.close()


def test_listeners_get_every_event_and_are_closed(tmp_path: Path) -> None:
    class Listener(list):
        closed = False

        def __call__(self, event: dict) -> None:
            self.append(event)

        def close(self) -> None:
            self.closed = True

    listener, plain = Listener(), []
    with MetricsWriter(tmp_path / "m.jsonl", listeners=[listener, plain.append]) as writer:
        written = writer.write("train", 4, loss=1.0)
    assert listener == plain == [written]
    assert listener.closed


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MetricsError, match=r"nowhere\.jsonl does not exist"):
        read_metrics(tmp_path / "nowhere.jsonl")


def _event(kind: str, step: int, **fields: object) -> dict:
    return {"event": kind, "step": step, **fields}


def test_a_resume_supersedes_what_comes_after_its_checkpoint_only() -> None:
    events = [
        _event("start", 0, resumed_from=None),
        *[_event("train", step, attempt=1) for step in (1, 2, 3)],
        _event("validation", 2),
        _event("start", 2, resumed_from=2),
        _event("train", 3, attempt=2),
    ]
    kept = current_events(events)
    assert [(event["event"], event["step"]) for event in kept] == [
        ("start", 0), ("train", 1), ("train", 2), ("validation", 2), ("start", 2), ("train", 3),
    ]  # fmt: skip
    assert kept[-1]["attempt"] == 2


def test_a_fresh_start_supersedes_everything() -> None:
    events = [_event("start", 0, resumed_from=None), _event("train", 1), _event("start", 0, resumed_from=None)]
    assert current_events(events) == events[-1:]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 6)), max_size=8))
def test_the_curve_has_every_step_once_and_of_its_latest_attempt(attempts: list[tuple[int, int]]) -> None:
    events, latest, reached = [_event("start", 0, resumed_from=None)], {}, 0
    for number, (wanted, length) in enumerate(attempts):
        resumed_from = min(wanted, reached)
        events.append(_event("start", resumed_from, resumed_from=resumed_from))
        latest = {step: attempt for step, attempt in latest.items() if step <= resumed_from}
        for step in range(resumed_from + 1, resumed_from + 1 + length):
            events.append(_event("train", step, attempt=number))
            latest[step] = number
        reached = resumed_from + length
    curve = [(event["step"], event["attempt"]) for event in current_events(events) if event["event"] == "train"]
    assert curve == sorted(latest.items())


def test_read_all_events_keeps_superseded_ones(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path / "m.jsonl") as writer:
        writer.write("start", 0, resumed_from=None)
        writer.write("train", 1, loss=1.0)
        writer.write("start", 0, resumed_from=None)
    assert len(read_all_events(tmp_path / "m.jsonl")) == 3
    assert len(read_metrics(tmp_path / "m.jsonl")) == 1
