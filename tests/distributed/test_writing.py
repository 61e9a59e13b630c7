"""Every layout that can write texts writes those of one process, and goes on training as if it had written none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import writing
from processes import spawn
from writing import Case

from megatron.config.layout import Layout
from megatron.parallel.process import World

CASES = {
    "replicas": Case(Layout(replicas=4)),
    **{f"zero{stage}": Case(Layout(stage, shards=4)) for stage in (1, 2, 3)},
    "zero3-hybrid": Case(Layout(3, shards=2, replicas=2)),
    "tensor4": Case(Layout(tensor=4)),
    "tensor2": Case(Layout(tensor=2, replicas=2)),
    "tensor2-sequence": Case(Layout(tensor=2, sequence=True, replicas=2)),
    "tensor4-sequence": Case(Layout(tensor=4, sequence=True)),
    "tensor2-sequence-zero3": Case(Layout(3, shards=2, tensor=2, sequence=True)),
    "tensor2-zero1": Case(Layout(1, shards=2, tensor=2)),
    "tensor2-bfloat16": Case(Layout(tensor=2, replicas=2), torch.bfloat16),
    "zero3-compiled": Case(Layout(3, shards=4), compiled=True),
}
REFUSED = [Layout(pipeline=2, replicas=2), Layout(context=2, replicas=2)]

pytestmark = pytest.mark.timeout(600)  # the first test waits until all layouts have written


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writing")
    spawn(writing.work, (4, str(folder), CASES, REFUSED), nprocs=4)
    return folder


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    world = World(rank=0, size=1, device=writing.device_of(0, 1))
    return writing.written(writing.engine_of(Layout(), world, dtype=torch.float32, compiled=False))


@pytest.mark.parametrize("name", CASES)
def test_every_process_returns_the_texts_of_one_process(name: str, folder: Path, alone: dict[str, Any]) -> None:
    results = [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in range(4)]
    assert all(result == results[0] for result in results)
    losses = results[0].pop("losses")
    if CASES[name].dtype == torch.float32:
        assert losses == pytest.approx(alone["losses"], rel=1e-5)
        assert results[0] == {key: texts for key, texts in alone.items() if key != "losses"}
    else:
        assert losses == pytest.approx(alone["losses"], rel=2e-2)


def test_texts_are_of_many_kinds(alone: dict[str, Any]) -> None:
    lengths = {len(text) for text in alone["greedy"]}
    assert writing.MAXIMUM_TOKENS in lengths and len(lengths) > 1  # some end by themselves
    assert alone["random"] != alone["greedy"]


@pytest.mark.parametrize("layout", REFUSED)
def test_layouts_that_do_not_write_are_refused_with_all_problems(layout: Layout, folder: Path) -> None:
    for rank in range(4):
        message = (folder / f"refused-{layout.pipeline}-{layout.context}-{rank}").read_text()
        wrong = "pipe_parallel_size = 2" if layout.pipeline > 1 else "context_parallel_size = 2"
        assert wrong in message and "batch_size = 0" in message
