from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from megatron.corpus.engine.task import Outputs, Report, Task, fingerprint_of, finished, remove_others, run_task


@dataclass(frozen=True)
class Write:
    """Writes files, and may fail after them."""

    files: tuple[tuple[str, bytes], ...]
    fail: bool = False

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        for name, data in self.files:
            outputs.append(name, data)
            report(1, len(data))
        if self.fail:
            raise KeyboardInterrupt
        return {"files": len(self.files)}


def task(name: str, *files: tuple[str, bytes], fingerprint: str = "1", fail: bool = False) -> Task:
    return Task(name, fingerprint, 1, Write(files, fail))


def nothing(documents: int, size_bytes: float) -> None:
    return


def visible(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if not path.parts[0].startswith("."))


def test_files_and_record_appear_together(tmp_path: Path) -> None:
    one = task("a/b", ("a/x.txt", b"12"), ("a/x.txt", b"3"), ("y.txt", b""))
    assert finished(tmp_path, one) is None
    record = run_task(tmp_path, one, nothing)
    assert (tmp_path / "a/x.txt").read_bytes() == b"123"
    assert record.files["a/x.txt"][0] == 3
    assert len(record.files["a/x.txt"][1]) == 32
    assert record.result == {"files": 2 + 1}
    assert finished(tmp_path, one) == record
    assert list((tmp_path / ".scratch").iterdir()) == []


def test_another_fingerprint_or_a_changed_file_is_not_finished(tmp_path: Path) -> None:
    one = task("a", ("x", b"1"))
    run_task(tmp_path, one, nothing)
    assert finished(tmp_path, task("a", ("x", b"1"), fingerprint="2")) is None
    (tmp_path / "x").write_bytes(b"22")
    assert finished(tmp_path, one) is None
    (tmp_path / "x").unlink()
    assert finished(tmp_path, one) is None


def test_a_task_that_fails_leaves_nothing_and_an_old_result_goes_first(tmp_path: Path) -> None:
    run_task(tmp_path, task("a", ("x", b"old"), ("only-old", b"")), nothing)
    with pytest.raises(KeyboardInterrupt):
        run_task(tmp_path, task("a", ("x", b"new"), fingerprint="2", fail=True), nothing)
    assert visible(tmp_path) == []
    assert finished(tmp_path, task("a", fingerprint="2")) is None
    run_task(tmp_path, task("a", ("x", b"new"), fingerprint="2"), nothing)
    assert visible(tmp_path) == ["x"]


def test_what_a_killed_process_left_is_not_mixed_in(tmp_path: Path) -> None:
    Outputs(tmp_path, "a").append("x", b"left by a killed process")
    run_task(tmp_path, task("a", ("x", b"1")), nothing)
    assert (tmp_path / "x").read_bytes() == b"1"


def test_files_killed_between_their_moves_are_replaced(tmp_path: Path) -> None:
    # Killed while moving: one file is in place, the record is not.
    (tmp_path / "x").write_bytes(b"half")
    one = task("a", ("x", b"whole"))
    assert finished(tmp_path, one) is None
    run_task(tmp_path, one, nothing)
    assert (tmp_path / "x").read_bytes() == b"whole"


def test_a_task_killed_while_its_files_move_is_cleaned_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Outputs) -> None:
        (self.folder / "only-then").write_bytes(b"moved")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Outputs, "commit", killed)
        run_task(tmp_path, task("a", ("only-then", b"1"), ("x", b"1")), nothing)
    assert finished(tmp_path, task("a")) is None
    # With other settings the task has other files; those of before must not stay.
    run_task(tmp_path, task("a", ("x", b"2"), fingerprint="2"), nothing)
    assert visible(tmp_path) == ["x"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"fingerprint": "1"}', b'{"fingerprint": "1", "files": 3}'])
def test_a_damaged_record_is_no_record(tmp_path: Path, content: bytes) -> None:
    one = task("a", ("x", b"1"))
    run_task(tmp_path, one, nothing)
    (tmp_path / ".tasks" / "a.json").write_bytes(content)
    assert finished(tmp_path, one) is None
    assert run_task(tmp_path, one, nothing).files["x"][0] == 1


def test_a_record_cannot_name_files_outside(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    folder = tmp_path / "pass"
    run_task(folder, task("a", ("x", b"1")), nothing)
    for name in ("../victim", str(victim)):
        record = {"fingerprint": "1", "files": {name: [8, ""]}, "result": {}}
        (folder / ".tasks" / "a.json").write_text(json.dumps(record))
        assert finished(folder, task("a")) is None
        remove_others(folder, {})
        run_task(folder, task("a", ("x", b"1")), nothing)
        assert victim.read_bytes() == b"precious"


def test_results_of_tasks_that_are_gone_are_removed(tmp_path: Path) -> None:
    old, new = task("old", ("x", b"1"), ("y", b"2")), task("new", ("y", b"3"))
    run_task(tmp_path, old, nothing)
    run_task(tmp_path, new, nothing)
    assert remove_others(tmp_path, {"new": new}) == 1
    assert visible(tmp_path) == ["y"]
    assert finished(tmp_path, new) is not None
    assert remove_others(tmp_path, {"new": new}) == 0


def test_fingerprints_depend_on_every_part() -> None:
    parts = [("a",), ("a", ""), ("a", 1), ("a", "1"), (["a", 1],), ({"a": 1},), (None,)]
    assert len({fingerprint_of(*each) for each in parts}) == len(parts)
    assert fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
