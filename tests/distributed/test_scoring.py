"""Every layout finds labels behind one context as likely as one process does that is asked for one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest
import scoring
import torch
from processes import spawn

from megatron.config.layout import Layout
from megatron.parallel.process import World

CASES = {
    "replicas": (Layout(replicas=4), False),
    "zero1": (Layout(1, shards=4), False),
    "zero3": (Layout(3, shards=4), False),
    "tensor4": (Layout(tensor=4), False),
    "tensor2-sequence": (Layout(tensor=2, sequence=True, replicas=2), False),
    "tensor2-sequence-zero3": (Layout(3, shards=2, tensor=2, sequence=True), False),
    "context2": (Layout(context=2, replicas=2), False),
    "pipeline2": (Layout(pipeline=2, replicas=2), False),
    "pipeline2-interleaved": (Layout(pipeline=2, chunks=2, schedule="interleaved", replicas=2), False),
    "pipeline2-tensor2-sequence": (Layout(pipeline=2, tensor=2, sequence=True), False),
    "pipeline2-zero1": (Layout(1, shards=2, pipeline=2), False),
    "zero3-compiled": (Layout(3, shards=4), True),
    "tensor2-compiled": (Layout(tensor=2, replicas=2), True),
}

pytestmark = pytest.mark.timeout(600)  # the first test waits until all layouts have answered


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scoring")
    spawn(scoring.work, (4, str(folder), CASES), nprocs=4)
    return folder


@pytest.fixture(scope="module")
def alone() -> list[tuple[float, bool]]:
    world = World(rank=0, size=1, device=scoring.device_of(0, 1))
    return scoring.likelihoods(Layout(), world, compiled=False, together=False)


@pytest.mark.parametrize("name", CASES)
def test_labels_are_as_likely_as_one_after_the_other(
    name: str, folder: Path, alone: list[tuple[float, bool]]
) -> None:
    for rank in range(4):
        found = torch.load(folder / f"{name}-{rank}.pt", weights_only=True)
        assert [nats for nats, _ in found] == pytest.approx([nats for nats, _ in alone], rel=1e-5)
        assert [greedy for _, greedy in found] == [greedy for _, greedy in alone]
