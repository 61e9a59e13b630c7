from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from megatron.evaluation.report.data import load_run
from megatron.evaluation.report.drawing import Mark, mark_labels
from megatron.evaluation.report.incidents import happenings, incidents_of, loss_marks
from megatron.evaluation.report.write import write_report
from megatron.monitor.record import MetricsWriter
from tests.unit.evaluation.report.test_write import Page

START = {"parameters": 10, "world_size": 1, "tokens_per_step": 8, "train_iters": 9, "device": "cpu",
         "precision": "fp32"}  # fmt: skip
BAD: dict[str, Any] = {
    "gradient_norm": 2.0, "samples": [[8, 15]], "corpora": {"swh_Latn": 8}, "action": "skipped",
}  # fmt: skip


def train(writer: MetricsWriter, first: int, last: int) -> None:
    for step in range(first, last + 1):
        writer.write("train", step, loss=1.0 / step, learning_rate=1e-4, gradient_norm=1.0, tokens=8 * step,
                     tokens_per_second=100.0, seconds=1.0, mfu=None)  # fmt: skip


def write_bad(folder: Path) -> Path:
    """Write a run in which everything goes wrong that a record knows of."""
    with MetricsWriter(folder / "metrics.jsonl") as writer:
        writer.write("start", 0, **START, resumed_from=None)
        writer.write("end", 0, reason="an earlier run")
        writer.write("incident", 0, kind="node_test", problem="node3: memory is slow")
        writer.write("start", 0, **START, resumed_from=None)
        train(writer, 1, 5)
        writer.write("incident", 5, kind="not_finite", loss=math.nan, **BAD)
        writer.write("checkpoint_failed", 5, reason="No space left on device")
        writer.write("end", 5, reason="stopped: SIGTERM")
        writer.write("incident", 5, kind="hang", processes=2, stacks=["stacks/rank0"])
        writer.write("start", 3, **START, resumed_from=3)
        train(writer, 4, 7)
        writer.write("incident", 7, kind="spike", loss=9.0, limit=2.5, **{**BAD, "action": "went back"})
        writer.write("start", 6, **START, resumed_from=6)
        train(writer, 7, 9)
        writer.write("incident", 9, kind="sunspot")
        writer.write("end", 9, reason="finished")
    return folder


def test_everything_that_happened_is_told_in_order(tmp_path: Path) -> None:
    found = happenings(load_run(write_bad(tmp_path)))
    assert [(entry.kind, entry.step, entry.wrong) for entry in found] == [
        ("machine test", 0, True), ("not a number", 5, True), ("checkpoint failed", 5, True), ("end", 5, False),
        ("hang", 5, True), ("resumed", 3, False), ("spike", 7, True), ("went back", 6, False), ("sunspot", 9, True),
        ("end", 9, False),
    ]  # fmt: skip
    texts = [entry.text for entry in found]
    assert texts[0] == "node3: memory is slow"
    assert "loss nan" in texts[1] and "samples 8 to 15 of swh_Latn" in texts[1]
    assert texts[3] == "stopped: SIGTERM"
    assert "spike above 2.5" in texts[6]
    assert texts[7] == "to step 6"
    assert texts[8] == "the record does not say more"


def test_incidents_are_on_the_page_and_on_the_curve(tmp_path: Path) -> None:
    page = Page(write_report(write_bad(tmp_path), samples=None, output=tmp_path / "r.html"))
    for words in ("machine test", "No space left on device", "stopped: SIGTERM", "from step 3"):
        assert words in page.words
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert html.count('<path class="mark wrong"') == 3  # at steps 5, 7 and 9; step 0 is before the curve
    assert len(loss_marks(load_run(tmp_path))) == 7


def test_a_run_without_incidents_says_so(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        writer.write("start", 0, **START, resumed_from=None)
    assert "has not ended" in incidents_of(load_run(tmp_path))
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        writer.write("end", 9, reason="<finished>")
    text = incidents_of(load_run(tmp_path))
    assert "No incident" in text and "It ended: &lt;finished&gt;." in text
    assert loss_marks(load_run(tmp_path)) == []


def test_many_incidents_are_counted_not_all_listed(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        writer.write("start", 0, **START, resumed_from=None)
        for step in range(1, 500):
            writer.write("checkpoint_failed", step, reason="full")
    text = incidents_of(load_run(tmp_path))
    assert "The first 300 of 499." in text
    assert text.count("<tr>") == 301


def test_labels_of_marks_have_room() -> None:
    marks = [Mark(place, "spike", "wrong") for place in range(101)]
    labels = mark_labels(marks, (0.0, 100.0))
    assert labels.count("<span") == 12
    assert labels.count("tight") == 9
    assert "before" in labels
