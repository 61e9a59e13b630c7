"""Every layout computes what one process computes: losses, gradient norms, weights and moments after ten steps."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import pytest
import torch
from layouts import ROWS, SHAPE, Case
from processes import spawn, train
from test_kill import losses, num_starts

from megatron.checkpoint.hf import save_model
from megatron.config.derive import architecture_of
from megatron.config.float8_rules import TORCHAO
from megatron.config.layout import Layout
from megatron.config.schema import ModelConfig
from megatron.model.llama import Llama
from megatron.parallel.process import World

FIRST_NEW = 41
"""In the middle of a process's rows, whatever the layout; every other process has only old rows or only new ones."""

MIXED = ("full", "selective", None)
"""A mode of recomputation for each layer."""

DATA_CASES = {
    "replicas": Case(Layout(replicas=4)),
    **{f"zero{stage}": Case(Layout(stage, shards=4)) for stage in (1, 2, 3)},
    **{f"zero{stage}-hybrid": Case(Layout(stage, shards=2, replicas=2)) for stage in (1, 2, 3)},
    "replicas-packed-tied": Case(Layout(replicas=4), tied=True, documents=True),
    **{f"zero{stage}-packed-tied": Case(Layout(stage, shards=4), tied=True, documents=True) for stage in (1, 2, 3)},
    **{
        f"zero{stage}-{mode}": Case(Layout(stage, shards=4), recomputation=mode, documents=mode == "full")
        for stage in (1, 3) for mode in ("full", "selective")
    },
    "replicas-full": Case(Layout(replicas=4), recomputation="full"),
    "replicas-bfloat16": Case(Layout(replicas=4), precision=torch.bfloat16),
    **{
        f"replicas-bfloat16-{mode}": Case(Layout(replicas=4), precision=torch.bfloat16, recomputation=mode)
        for mode in ("full", "selective")
    },
    **{f"zero{stage}-bfloat16": Case(Layout(stage, shards=4), precision=torch.bfloat16) for stage in (1, 2, 3)},
    "zero3-mixed": Case(Layout(3, shards=4), recomputation=MIXED),
    "zero3-bfloat16-mixed": Case(Layout(3, shards=4), precision=torch.bfloat16, recomputation=MIXED),
    "zero3-hybrid-new-tokens": Case(Layout(3, shards=2, replicas=2), new_tokens=FIRST_NEW, recomputation="full"),
    "zero3-new-tokens-bfloat16": Case(Layout(3, shards=4), new_tokens=FIRST_NEW, precision=torch.bfloat16),
}  # fmt: skip


def even(layout: Layout, **options: Any) -> Case:
    return Case(layout, even=True, **options)


def in_two(cases: dict[str, Case]) -> dict[str, Case]:
    """Make two micro-batches of the rows of a process: every operation on divided matrices takes long here."""
    return {name: dataclasses.replace(case, micro=ROWS // (2 * case.layout.data)) for name, case in cases.items()}


TENSOR_CASES = in_two({
    "tensor4-grouped-heads": even(Layout(tensor=4)),
    "tensor4-sequence": even(Layout(tensor=4, sequence=True)),
    "tensor2": even(Layout(tensor=2, replicas=2)),
    "tensor2-sequence": even(Layout(tensor=2, sequence=True, replicas=2), documents=True),
    "tensor2-sequence-tied": even(Layout(tensor=2, sequence=True, replicas=2), tied=True, recomputation="full"),
    **{f"tensor2-zero{stage}": even(Layout(stage, shards=2, tensor=2), documents=True) for stage in (1, 2, 3)},
    "tensor2-sequence-zero3-tied": even(Layout(3, shards=2, tensor=2, sequence=True), tied=True),
    "tensor2-sequence-zero1-selective": even(Layout(1, shards=2, tensor=2, sequence=True), recomputation="selective"),
    "tensor2-bfloat16": even(Layout(replicas=2, tensor=2), precision=torch.bfloat16),
    "tensor2-sequence-zero3-bfloat16": even(
        Layout(3, shards=2, tensor=2, sequence=True), precision=torch.bfloat16
    ),
    "tensor2-zero3-new-tokens": even(Layout(3, shards=2, tensor=2), new_tokens=FIRST_NEW, tied=True),
})  # fmt: skip
CONTEXT_CASES = in_two({
    "context2": even(Layout(context=2, replicas=2)),
    "context2-packed": even(Layout(context=2, replicas=2), documents=True),
    "context2-zero3": even(Layout(3, shards=2, context=2), documents=True),
    "context4-zero1-tied": even(Layout(1, context=4), tied=True, recomputation="full"),
    "context2-tensor2-sequence": even(Layout(context=2, tensor=2, sequence=True), documents=True),
})  # fmt: skip
PIPELINE_CASES = {
    "pipeline2": even(Layout(pipeline=2, replicas=2), documents=True),
    "pipeline2-interleaved": even(Layout(pipeline=2, chunks=2, schedule="interleaved", replicas=2)),
    "pipeline2-zero-bubble": even(Layout(pipeline=2, chunks=2, schedule="zero_bubble", replicas=2)),
    "pipeline2-zero-bubble-one": even(
        Layout(1, shards=2, pipeline=2, schedule="zero_bubble"), tied=True, recomputation="full"
    ),
    "pipeline2-zero-bubble-tensor2-sequence": even(
        Layout(pipeline=2, chunks=2, schedule="zero_bubble", tensor=2, sequence=True), documents=True
    ),
    "pipeline4-tied": even(Layout(pipeline=4), tied=True, documents=True),
    "pipeline2-zero1": even(Layout(1, shards=2, pipeline=2), recomputation="full"),
    "pipeline2-zero1-tied-interleaved": even(
        Layout(1, shards=2, pipeline=2, chunks=2, schedule="interleaved"), tied=True
    ),
    "pipeline2-tensor2-sequence": even(Layout(tensor=2, sequence=True, pipeline=2), documents=True),
    "pipeline2-context2": even(Layout(context=2, pipeline=2), documents=True, tied=True),
    "pipeline2-interleaved-mixed": even(
        Layout(pipeline=2, chunks=2, schedule="interleaved", replicas=2), recomputation=("full", *MIXED)
    ),
    "pipeline2-bfloat16": even(Layout(replicas=2, pipeline=2), precision=torch.bfloat16, recomputation="full"),
    "pipeline2-zero-bubble-new-tokens": even(
        Layout(pipeline=2, chunks=2, schedule="zero_bubble", tensor=2), new_tokens=FIRST_NEW, tied=True
    ),
}
COMPILED_CASES = {
    "zero3-compiled": even(Layout(3, shards=4), compiled=True, recomputation="selective"),
    "tensor2-sequence-compiled-packed": even(
        Layout(tensor=2, sequence=True, replicas=2), compiled=True, documents=True, recomputation="full"
    ),
    "pipeline2-context2-compiled": even(Layout(context=2, pipeline=2), compiled=True, tied=True),
}
EIGHT = {
    "data2-tensor2-pipeline2": even(Layout(replicas=2, tensor=2, pipeline=2), tied=True),
    "data2-tensor2-pipeline2-all": even(
        Layout(1, shards=2, tensor=2, sequence=True, pipeline=2, chunks=2, schedule="interleaved"),
        documents=True, tied=True, recomputation="full",
    ),
    "data2-tensor2-pipeline2-compiled": even(
        Layout(1, shards=2, tensor=2, sequence=True, pipeline=2), documents=True, compiled=True
    ),
    "hybrid-context2-tensor2": even(Layout(2, shards=1, replicas=2, context=2, tensor=2), documents=True),
}  # fmt: skip
# Apart from the others, since their processes need torchao.
FLOAT8_CASES = {
    "zero1-float8": even(Layout(1, shards=2), precision=torch.bfloat16, float8="tensorwise", micro=2),
    "zero3-float8": even(
        Layout(3, shards=2), precision=torch.bfloat16, float8="rowwise", recomputation="selective", micro=2
    ),
    "pipeline2-float8": even(Layout(pipeline=2), precision=torch.bfloat16, float8="rowwise_with_gw_hp", micro=2),
}
# More layouts that train the rows of new tokens alone at first; one of each kind is above.
SLOW_CASES = {
    "replicas-new-tokens": Case(Layout(replicas=4), new_tokens=FIRST_NEW),
    "zero1-new-tokens-tied": Case(Layout(1, shards=4), new_tokens=FIRST_NEW, tied=True),
    "tensor4-sequence-new-tokens": even(Layout(tensor=4, sequence=True), new_tokens=FIRST_NEW),
    "context2-zero2-new-tokens": even(Layout(2, shards=2, context=2), new_tokens=FIRST_NEW),
    "pipeline4-new-tokens": even(Layout(pipeline=4), new_tokens=FIRST_NEW),
    "pipeline4-new-tokens-tied": even(Layout(pipeline=4), new_tokens=FIRST_NEW, tied=True),
    "pipeline2-zero1-interleaved-new-tokens": even(
        Layout(1, shards=2, pipeline=2, chunks=2, schedule="interleaved"), new_tokens=FIRST_NEW, recomputation="full"
    ),
    "zero3-compiled-new-tokens": even(Layout(3, shards=4), compiled=True, new_tokens=FIRST_NEW),
}
SLOW_EIGHT = {
    "data2-tensor2-pipeline2-new-tokens": even(
        Layout(1, shards=2, tensor=2, sequence=True, pipeline=2), tied=True, new_tokens=FIRST_NEW
    ),
}
FAMILIES = (
    DATA_CASES, TENSOR_CASES, CONTEXT_CASES, PIPELINE_CASES, COMPILED_CASES, EIGHT, FLOAT8_CASES, SLOW_CASES,
    SLOW_EIGHT,
)  # fmt: skip
CASES = {name: case for family in FAMILIES for name, case in family.items()}
WITHOUT_TORCHAO = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason=f"needs torchao: {TORCHAO}")
MARKS = {
    **dict.fromkeys((*SLOW_CASES, *SLOW_EIGHT), pytest.mark.slow),
    **dict.fromkeys(FLOAT8_CASES, WITHOUT_TORCHAO),
}
NAMES = [pytest.param(name, marks=[MARKS[name]] if name in MARKS else []) for name in CASES]

pytestmark = pytest.mark.timeout(900)  # the first test of a family waits until all of its cases have been trained


@pytest.fixture(scope="module")
def result_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Return what came out of a case; those of a family share their processes."""
    folder = tmp_path_factory.mktemp("layouts")
    started: list[dict[str, Case]] = []

    def result(name: str) -> dict[str, Any]:
        family = next(family for family in FAMILIES if name in family)
        if family not in started:
            started.append(family)
            processes = family[name].layout.processes
            spawn(layouts.work, (processes, str(folder), family), nprocs=processes)
        return layouts.collected(folder, name, family[name])

    return result


@functools.cache
def alone(case: Case) -> dict[str, Any]:
    return layouts.trained(case, World(rank=0, size=1, device=layouts.device_of(0, 1)))


@pytest.mark.parametrize("name", NAMES)
def test_a_layout_computes_what_one_process_computes(name: str, result_of: Callable[[str], dict[str, Any]]) -> None:
    case, result = CASES[name], result_of(name)
    one = alone(case.alone())
    tolerance = 1e-5 if case.precision == torch.float32 else 1e-2
    torch.testing.assert_close(result["losses"], one["losses"], rtol=tolerance, atol=0)
    torch.testing.assert_close(result["nats"], one["nats"], rtol=tolerance, atol=0)
    torch.testing.assert_close(result["norms"], one["norms"], rtol=tolerance, atol=0)
    torch.testing.assert_close(result["groups"], one["groups"], rtol=tolerance, atol=0)
    assert result["weights"].keys() == one["weights"].keys()
    if case.precision == torch.float32:
        for key, weight in one["weights"].items():
            error = (result["weights"][key] - weight).norm() / weight.norm()
            assert error < tolerance, f"{key}: {error}"
        for key, moment in one["moments"].items():
            assert (result["moments"][key] - moment).norm() < 1e-4 * moment.norm(), key
    assert one["losses"][-1] < (0.8 if case.new_tokens is None else 0.9) * one["losses"][0]


@pytest.mark.parametrize("name", ["zero3", "zero3-bfloat16", "pipeline2-interleaved"])
def test_what_blocks_recompute_changes_no_bit(name: str, result_of: Callable[[str], dict[str, Any]]) -> None:
    plain, mixed = result_of(name), result_of(f"{name}-mixed")
    assert torch.equal(plain["losses"], mixed["losses"]) and torch.equal(plain["norms"], mixed["norms"])
    for kind in ("weights", "moments"):
        assert all(torch.equal(value, mixed[kind][key]) for key, value in plain[kind].items()), kind


@pytest.mark.parametrize("name", NAMES)
def test_a_process_holds_its_part_of_the_weights(name: str, result_of: Callable[[str], dict[str, Any]]) -> None:
    elements = sum(weight.numel() for weight in result_of(name)["weights"].values())
    layout = CASES[name].layout
    shards = layout.shards * (layout.context if layout.stage else 1) * layout.tensor
    if layout.pipeline == 1:
        assert elements / shards <= result_of(name)["held_elements"] <= elements / shards + 3 * sum(SHAPE.values())


@pytest.mark.parametrize("name", [name for name in DATA_CASES if DATA_CASES[name].layout.stage])
def test_messages_of_a_step(name: str, result_of: Callable[[str], dict[str, Any]]) -> None:
    stage, replicas, got = CASES[name].layout.stage, CASES[name].layout.replicas, result_of(name)["messages"]
    micro_batches, blocks = 2, SHAPE["num_layers"]
    groups = blocks + 1  # the embeddings and the last norm are gathered together
    assert got["_allgather_base_"] == (groups if stage < 3 else micro_batches * (2 * blocks + 1))
    assert got["_reduce_scatter_base_"] == (groups if stage == 1 else micro_batches * groups)
    assert result_of(name)["reduced"] == ["torch.float32"]
    # The sums of losses and of squares, and gradients of copies.
    assert got["allreduce_"] == 2 + (groups if replicas > 1 else 0)


LOADED = {
    "zero1": even(Layout(1, shards=4)),
    "tensor2-zero3": even(Layout(3, shards=2, tensor=2, sequence=True)),
    "tensor4": even(Layout(tensor=4)),
    "pipeline2-tensor2": even(Layout(tensor=2, pipeline=2, chunks=2, schedule="interleaved")),
    "pipeline2-zero1-context2": even(Layout(1, context=2, pipeline=2)),
}


@pytest.mark.parametrize("tied", [False, True])
def test_every_layout_reads_the_weights_of_a_folder(tied: bool, tmp_path: Path) -> None:
    section = ModelConfig(**layouts.EVEN, no_weight_tying=not tied)
    model = Llama(architecture_of(section, vocab_size=layouts.VOCABULARY))
    model.init_weights(seed=8)
    weights = dict(model.named_parameters())
    save_model(weights, model.architecture, tmp_path / "hf", dtype=torch.float32, bos_id=1, eos_id=2)
    spawn(layouts.work, (4, str(tmp_path), LOADED, tmp_path / "hf"), nprocs=4)
    for name, case in LOADED.items():
        found = layouts.collected(tmp_path, name, case)["weights"]
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[key], weight) for key, weight in weights.items()), name


ROUTES = {
    "zero": [(2, "zero_optimization={stage: 3}"), (2, "zero_optimization={stage: 1}"), (1, "seed=1234")],
    "every axis": [
        (2, "model_parallel_size=2 sequence_parallel=true"),
        (4, "pipe_parallel_size=2 model_parallel_size=2"),
        (4, "context_parallel_size=2 zero_optimization={stage: 3}"),
        (4, "pipe_parallel_size=2 pipe_schedule=interleaved pipe_chunks=2 zero_optimization={stage: 1}"),
        (4, "data_parallel_shard_size=2 zero_optimization={stage: 2}"),
        (1, "seed=1234"),
    ],
    "new tokens": [
        (2, "zero_optimization={stage: 3}"), (2, "model_parallel_size=2"), (2, "pipe_parallel_size=2"), (1, "seed=1234")
    ],
}  # fmt: skip
NEW_TOKENS: dict[str, Any] = {"new_tokens_from": 70, "new_tokens_only_steps": 7, "new_tokens_lr": 0.03}


@pytest.mark.parametrize(
    ("route", "tied"),
    [
        ("zero", False), ("every axis", False), ("every axis", True),
        pytest.param("new tokens", True, marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_with_another_layout(route: str, tied: bool, tiny_run: Callable[..., Any]) -> None:
    settings = NEW_TOKENS if route == "new tokens" else {}
    run = tiny_run(num_layers=4, checkpoint_activations=True, no_weight_tying=not tied, **settings)
    train(run.config, 1)
    whole = losses(run.save)
    shutil.rmtree(run.save)
    every = 12 // len(ROUTES[route])
    for number, (processes, layout) in enumerate(ROUTES[route], start=1):
        # Each start is stopped by the next multiple; the last one by the end of the run.
        train(run.config, processes, *_settings(layout), f"exit_interval={every * number}")
    assert num_starts(run.save) == len(ROUTES[route])
    assert losses(run.save) == pytest.approx(whole, rel=1e-5)


def _settings(text: str) -> list[str]:
    return re.findall(r"\w+=(?:\{[^}]*\}|\S+)", text)
