"""When one process of several fails, all are told, and none waits for it."""

from __future__ import annotations

import checkpoints
import pytest
import torch
from processes import spawn

SIZE = 2


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("checkpoints")
    spawn(checkpoints.work, (SIZE, str(folder)), nprocs=SIZE)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(SIZE)]


@pytest.mark.parametrize("in_background", [False, True])
@pytest.mark.parametrize("failing", range(SIZE))
def test_a_process_that_cannot_write(found: list[dict[str, str]], failing: int, in_background: bool) -> None:
    for of_one in found:
        told = of_one[f"write {failing} {in_background}"]
        assert told == (
            "SaveError: the checkpoint of step 1 was not written: "
            f"process {failing}: OSError: [Errno 28] No space left on device"
        )
        assert of_one[f"write - {in_background}"] == ""


@pytest.mark.parametrize("in_background", [False, True])
@pytest.mark.parametrize("failing", range(SIZE))
def test_a_process_that_reads_something_else(found: list[dict[str, str]], failing: int, in_background: bool) -> None:
    for of_one in found:
        assert of_one[f"read {failing} {in_background}"].startswith("DamagedError: ")
        assert of_one[f"read - {in_background}"] == ""


def test_processes_that_see_different_checkpoints(found: list[dict[str, str]]) -> None:
    for of_one in found:
        assert "is not the same for all processes" in of_one["two"]
