from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.corpus.document import CorpusError
from megatron.corpus.engine.assign import largest_first, shares
from megatron.corpus.engine.backend import Backend, Here, Pool
from megatron.corpus.engine.run import Runner, Share, UnfinishedError
from megatron.corpus.engine.task import Outputs, Report, Task


@dataclass(frozen=True)
class Echo:
    """Writes its text; fails or kills its process where asked to."""

    text: str
    how: str = ""

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        report(1, 1.0)
        if self.how == "user":
            raise CorpusError(f"{self.text}: is wrong")
        if self.how == "disk":
            raise OSError(28, "No space left on device")
        if self.how == "bug":
            raise RuntimeError("a bug")
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        outputs.append(f"{self.text}.txt", self.text.encode())
        return {"text": self.text}


def tasks(*names: str, **how: str) -> list[Task]:
    return [Task(name, name, 1, Echo(name, how.get(name, ""))) for name in names]


def run(folder: Path, todo: list[Task], backend: Backend | None = None, share: Share | None = None) -> list[str]:
    with backend or Here() as each:
        runner = Runner(each, share or Share(), show_progress=False)
        return [record.result["text"] for record in runner.run("echo", folder, todo)]


@pytest.mark.parametrize("workers", [1, 2])
def test_records_come_in_the_order_of_the_tasks(tmp_path: Path, workers: int) -> None:
    backend = Here() if workers == 1 else Pool(workers)
    assert run(tmp_path, tasks("c", "a", "b"), backend) == ["c", "a", "b"]
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["a.txt", "b.txt", "c.txt"]


def test_only_what_is_not_finished_is_done(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, tasks("a", "b"))
    times = (tmp_path / "a.txt").stat().st_mtime_ns
    (tmp_path / "b.txt").unlink()
    with caplog.at_level(logging.INFO, logger="megatron"):
        run(tmp_path, tasks("a", "b", "c"))
    assert "1 of 3 tasks are finished already" in caplog.text
    assert (tmp_path / "a.txt").stat().st_mtime_ns == times
    run(tmp_path, tasks("c"))
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["c.txt"]


@pytest.mark.parametrize("workers", [1, 2])
def test_failures_are_listed_and_stop_nobody(tmp_path: Path, workers: int) -> None:
    backend = Here() if workers == 1 else Pool(workers)
    with pytest.raises(UnfinishedError) as error:
        run(tmp_path, tasks("a", "b", "c", "d", a="user", c="disk"), backend)
    assert "2 tasks are not finished" in str(error.value)
    assert "a: is wrong" in str(error.value)
    assert "No space left on device" in str(error.value)
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["b.txt", "d.txt"]
    assert run(tmp_path, tasks("a", "b", "c", "d")) == ["a", "b", "c", "d"]


def test_bugs_are_not_taken_for_mistakes_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        run(tmp_path, tasks("a", a="bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        run(tmp_path, tasks("a", a="bug"), Pool(2))


def test_a_worker_that_dies_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UnfinishedError, match="a worker process died"):
        run(tmp_path, tasks("a", "b", a="kill"), Pool(2))
    assert run(tmp_path, tasks("a", "b"), Pool(2)) == ["a", "b"]


def test_jobs_that_share_the_work(tmp_path: Path) -> None:
    names = [f"t{number}" for number in range(7)]
    for index in range(2):
        with pytest.raises(UnfinishedError, match="run this pass in all of them"):
            run(tmp_path, tasks(*names), share=Share(index, 3))
    assert run(tmp_path, tasks(*names), share=Share(2, 3)) == names


@pytest.mark.parametrize("text", ["", "1", "3/3", "-1/2", "a/b", "0/0", "1/2/3"])
def test_shares_must_make_sense(text: str) -> None:
    with pytest.raises(CorpusError, match="--shard-range"):
        Share.parse(text)


@given(sizes=st.lists(st.integers(0, 1000), max_size=40), count=st.integers(1, 8))
def test_every_task_is_dealt_to_one_process(sizes: list[int], count: int) -> None:
    todo = [Task(f"t{number}", "", size, Echo("")) for number, size in enumerate(sizes)]
    dealt = shares(todo, count)
    assert len(dealt) == count
    assert sorted(task.name for part in dealt for task in part) == sorted(task.name for task in todo)
    loads = [sum(max(1, task.size_bytes) for task in part) for part in dealt]
    # Graham's bound for the largest first: 4/3 of the best, which is at least the average and the largest task.
    best = max([sum(loads) / count, *(max(1, size) for size in sizes), 1])
    assert max(loads) <= 4 / 3 * best + max([max(1, size) for size in sizes], default=0)
    assert shares(todo[::-1], count) == dealt
    assert [task.size_bytes for task in largest_first(todo)] == sorted(sizes, reverse=True)
