from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from megatron.parallel.process import Peers, World
from megatron.train import nodes
from megatron.train.nodes import Measured, NodeError, check_nodes

ALONE = World(rank=0, size=1, device=torch.device("cpu"))
ROOT = Path(__file__).resolve().parents[3]


def test_a_machine_that_is_fit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert check_nodes(ALONE, Peers(), tmp_path) == []
    assert "memory GB/s" in caplog.text and "CPU" in caplog.text
    assert not list(tmp_path.iterdir()), "the file is gone"


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NodeError, match=r"process 0: .*file cannot be written to: Not a directory\nLeave .* out"):
        check_nodes(ALONE, Peers(), tmp_path / "file")


def test_a_product_that_is_wrong_in_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.Tensor.__matmul__

    def broken(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        product = real(left, right)
        product[17, 5] += 1
        return product

    monkeypatch.setattr(torch.Tensor, "__matmul__", broken)
    with pytest.raises(NodeError, match="matrix products come out wrong"):
        check_nodes(ALONE, Peers(), tmp_path)


def test_memory_that_forgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.Tensor.copy_

    def forgetful(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        real(self, other)
        self[99] ^= 1 << 40
        return self

    monkeypatch.setattr(torch.Tensor, "copy_", forgetful)
    with pytest.raises(NodeError, match="memory does not give back"):
        check_nodes(ALONE, Peers(), tmp_path)


def test_the_slow_one_is_named() -> None:
    found = [Measured(f"n{at // 2}", "GPU", 600.0, 3000.0, 900.0, 40.0, "") for at in range(8)]
    assert nodes._slow(found, "matmul") == []
    found[5] = found[5]._replace(matmul=250.0)
    assert nodes._slow(found, "matmul") == ["n2, process 5: matmul 250, the median of all is 600"]
    assert nodes._slow(found[4:6], "matmul") == [], "of two nobody knows"
    assert nodes._slow([one._replace(messages=None) for one in found], "messages") == []


def test_several_processes_are_one_table(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run(train_iters=1, checkpoint_factor=1, eval_interval=0)
    command = [sys.executable, "deepy.py", "train.py", str(run.config), "num_gpus=2", "node_test=true"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "2 processes on 1 machine\n" in done.stderr
    row = next(line for line in done.stderr.splitlines() if " CPU " in line)
    assert row.split()[1] == "2" and float(row.split()[-1]) > 0, "messages were measured"
