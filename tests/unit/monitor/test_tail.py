from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megatron.monitor.record import MetricsError, MetricsWriter, current_events, read_metrics
from megatron.monitor.tail import MetricsTail


def _line(step: int, event: str = "train", **fields: object) -> bytes:
    return orjson.dumps({"event": event, "step": step, **fields}, option=orjson.OPT_APPEND_NEWLINE)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _steps(tail: MetricsTail) -> list[int]:
    return [event["step"] for event in tail.new_events()]


def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        writer.write("train", 1, loss=float("nan"))
        tail = MetricsTail(path)
        (event,) = tail.new_events()
        assert str(event["loss"]) == "nan"
        assert _steps(tail) == []
        writer.write("train", 2)
        writer.write("train", 3)
        assert _steps(tail) == [2, 3]


def test_a_line_that_is_being_written_waits_for_its_rest(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    line = _line(2, host="Zürich")
    _append(path, _line(1) + line[:-6])  # in the middle of a letter
    tail = MetricsTail(path)
    assert _steps(tail) == [1]
    _append(path, line[-6:-1])
    assert _steps(tail) == [2]
    _append(path, line[-1:] + _line(3))
    assert _steps(tail) == [3]
    assert tail.unreadable_lines == 0


def test_a_torn_line_is_counted_once_a_new_writer_has_ended_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(_line(1) + _line(2)[:-4])
    tail = MetricsTail(path)
    assert _steps(tail) == [1]
    with MetricsWriter(path) as writer:
        writer.write("start", 1, resumed_from=1)
    assert _steps(tail) == [1]
    assert tail.unreadable_lines == 1


def test_another_file_or_a_shorter_one_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(_line(1) + _line(2))
    tail = MetricsTail(path)
    assert not tail.begins_anew()
    assert _steps(tail) == [1, 2]
    assert not tail.begins_anew()
    (tmp_path / "other").write_bytes(_line(7) + _line(8) + _line(9))
    (tmp_path / "other").replace(path)
    assert tail.begins_anew()
    assert _steps(tail) == [7, 8, 9]
    path.write_bytes(_line(4))
    assert tail.begins_anew()
    assert _steps(tail) == [4]


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(MetricsError, match="give the `save` folder of a run that has started"):
        MetricsTail(tmp_path / "metrics.jsonl").begins_anew()


_EVENTS = st.one_of(
    st.builds(_line, st.integers(0, 9), st.sampled_from(["train", "checkpoint", "incident", "end"])),
    st.builds(lambda step, name: _line(step, "train", name=name), st.integers(0, 9), st.text(max_size=4)),
    st.builds(lambda step: _line(step, "start", resumed_from=step), st.integers(0, 9)),
    st.builds(lambda: _line(0, "start", resumed_from=None)),
    st.builds(lambda cut: _line(3)[:cut] + b"\n", st.integers(0, 20)),  # a torn line, ended by the next writer
)


@given(
    lines=st.lists(_EVENTS, max_size=12), last=st.integers(0, 22), cuts=st.lists(st.integers(0, 600), max_size=8),
    chunk_bytes=st.integers(1, 64),
)  # fmt: skip
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_pieces_of_any_size_amount_to_the_whole(
    tmp_path: Path, lines: list[bytes], last: int, cuts: list[int], chunk_bytes: int
) -> None:
    whole = b"".join(lines) + _line(5)[:last]
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"")
    tail, events = MetricsTail(path, chunk_bytes=chunk_bytes), []
    before = 0
    for cut in [*sorted(min(cut, len(whole)) for cut in cuts), len(whole)]:
        _append(path, whole[before:cut])
        before = cut
        assert not tail.begins_anew()
        events += list(tail.new_events())
    assert current_events(events) == read_metrics(path)
