"""Every layout computes what one process computes: losses, gradient norms, weights and moments after ten steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import layouts
import pytest
import torch
import torch.multiprocessing
from layouts import SHAPE, Case
from test_kill import finish, losses, num_starts

from megatron.config.layout import Layout
from megatron.parallel.process import World

CASES = {
    "replicas": Case(Layout(0, 1, 4)),
    **{f"zero{stage}": Case(Layout(stage, 4, 1)) for stage in (1, 2, 3)},
    **{f"zero{stage}-hybrid": Case(Layout(stage, 2, 2)) for stage in (1, 2, 3)},
    "replicas-packed-tied": Case(Layout(0, 1, 4), tied=True, documents=True),
    **{f"zero{stage}-packed-tied": Case(Layout(stage, 4, 1), tied=True, documents=True) for stage in (1, 2, 3)},
    **{
        f"zero{stage}-{mode}": Case(Layout(stage, 4, 1), recomputation=mode, documents=mode == "full")
        for stage in (1, 3) for mode in ("full", "selective")
    },
    "replicas-full": Case(Layout(0, 1, 4), recomputation="full"),
    "replicas-bfloat16": Case(Layout(0, 1, 4), precision=torch.bfloat16),
    **{f"zero{stage}-bfloat16": Case(Layout(stage, 4, 1), precision=torch.bfloat16) for stage in (1, 2, 3)},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("layouts")
    torch.multiprocessing.spawn(layouts.work, (4, str(folder), CASES), nprocs=4)
    return {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_a_layout_computes_what_one_process_computes(name: str, results: dict[str, dict[str, Any]]) -> None:
    case, result = CASES[name], results[name]
    alone = layouts.trained(case.alone(), World(rank=0, size=1, device=torch.device("cpu")))
    tolerance = 1e-5 if case.precision == torch.float32 else 5e-2
    torch.testing.assert_close(result["losses"], alone["losses"], rtol=tolerance, atol=0)
    torch.testing.assert_close(result["nats"], alone["nats"], rtol=tolerance, atol=0)
    torch.testing.assert_close(result["norms"], alone["norms"], rtol=tolerance, atol=0)
    if case.precision == torch.float32:
        for key, weight in alone["weights"].items():
            error = (result["weights"][key] - weight).norm() / weight.norm()
            assert error < tolerance, f"{key}: {error}"
        for mine, other in zip(result["moments"], alone["moments"], strict=True):
            assert (mine - other).norm() < 1e-4 * other.norm()
    assert alone["losses"][-1] < 0.8 * alone["losses"][0]


@pytest.mark.parametrize("name", CASES)
def test_a_process_holds_its_part_of_the_weights(name: str, results: dict[str, dict[str, Any]]) -> None:
    elements = sum(weight.numel() for weight in results[name]["weights"].values())
    shards = CASES[name].layout.shards
    assert elements / shards <= results[name]["held_elements"] <= elements / shards + 3 * sum(SHAPE.values())


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].layout.stage])
def test_messages_of_a_step(name: str, results: dict[str, dict[str, Any]]) -> None:
    stage, replicas, got = CASES[name].layout.stage, CASES[name].layout.replicas, results[name]["messages"]
    micro_batches, blocks = 2, SHAPE["num_layers"]
    groups = blocks + 1  # the embeddings and the last norm are gathered together
    assert got["_allgather_base_"] == (groups if stage < 3 else micro_batches * (2 * blocks + 1))
    assert got["_reduce_scatter_base_"] == (groups if stage == 1 else micro_batches * groups)
    assert results[name]["reduced"] == ["torch.float32"]
    assert got["allreduce_"] == 1 + (groups if replicas > 1 else 0)  # the sum of the losses, and gradients of copies


def test_a_run_goes_on_with_another_stage(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run()
    finish(run, 1)
    whole = losses(run.save)
    shutil.rmtree(run.save)
    for processes, stage, stop in ((2, 3, 4), (2, 1, 8), (1, 0, 100)):
        settings = (f"zero_optimization={{stage: {stage}}}", f"exit_interval={stop}", "checkpoint_activations=true")
        finish(run, processes, *settings)
    assert num_starts(run.save) == 3
    assert losses(run.save) == pytest.approx(whole, rel=1e-5)
