"""The benchmark of layouts runs, and what it counts is what the simulator says."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    names = ("common", "messages", "scaling_steps", "scaling")
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module("scaling")
    for name in names:
        sys.modules.pop(name, None)


def test_two_processes_send_what_the_simulator_says() -> None:
    layouts = ("zero 3", "tensor, sequence")
    command = [sys.executable, str(BENCHMARKS / "scaling.py"), "--quick", "--json", "--layouts", *layouts]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    results = json.loads(run.stdout.splitlines()[-1])
    assert list(results) == ["no messages x 2", "zero 3 x 2", "zero 3 x 2, fully_shard", "tensor, sequence x 2"]
    for layout in layouts:
        line = results[f"{layout} x 2"]
        assert line["/ simulated"] == pytest.approx(1, abs=0.02) and 0 < line["in messages"] < 1
        assert line["ratio"] == pytest.approx(line["ours"] / line["peer"])
        if sys.platform == "linux":  # reduce-scatter of gloo sends up to twice the bytes of a ring
            assert 0.5 < line["/ kernel"] < 1.05


def test_another_number_of_bytes_is_told(scaling: ModuleType) -> None:
    right = scaling.Measured(bytes=99.5e6, simulated_bytes=100e6)
    assert scaling.disagreement("zero 3", [right, right]) is None
    for wrong in (97e6, 103e6, 0.0):
        ranks = [right, dataclasses.replace(right, bytes=wrong)]
        message = f"zero 3 x 2: bytes sent / simulated = {wrong / 100e6:.3f}"
        assert scaling.disagreement("zero 3", ranks) == message


def test_bytes_of_collectives_are_those_of_a_ring(scaling: ModuleType) -> None:
    tensor, part = torch.zeros(400), torch.zeros(100)
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    try:
        counted = []
        for collective in (
            lambda: dist.all_reduce(tensor),
            lambda: dist.all_gather_into_tensor(tensor, part),
            lambda: dist.reduce_scatter_tensor(part, tensor),
            lambda: dist.send(part, dst=1),
        ):
            with scaling.Messages() as messages:
                collective()
            counted.append((messages.bytes, messages.count))
        with scaling.Messages() as messages, pytest.raises(ValueError, match="add it to SENT"):
            dist.broadcast(tensor, src=0)
    finally:
        dist.destroy_process_group()
    assert counted == [(2 * 1_200, 1), (1_200, 1), (1_200, 1), (400, 1)]
    assert "wait" in str(dist.Work.wait) and "Messages" not in str(dist.Work.wait)
