"""The choice of what blocks recompute: within the budget, and no better one is."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from megatron.config.load import config_from, load_sections
from megatron.config.recomputation import MODES, Mode, modes_text
from megatron.config.schema import ModelConfig
from megatron.simulate.budget import (
    BudgetError,
    budget_problems,
    budget_text,
    modes_within,
    most_kept,
    planned_run,
    recomputation_of,
)
from megatron.simulate.hardware import GIB, GPUS, MEMORY_REACHED
from megatron.simulate.memory import kept_bytes
from megatron.simulate.run import Run
from megatron.simulate.work import work_of

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
SHAPE = Architecture(
    vocab_size=64, hidden_size=64, intermediate_size=160, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, max_position_embeddings=512,
)  # fmt: skip
LAYOUTS = (
    Layout(), Layout(3, shards=4), Layout(tensor=2, sequence=True), Layout(tensor=2), Layout(context=2),
    Layout(pipeline=2), Layout(pipeline=2, chunks=2, schedule="interleaved"),
    Layout(pipeline=2, chunks=2, schedule="zero_bubble"),
)  # fmt: skip


@st.composite
def runs(draw: st.DrawFn, *, most_layers: int = 24, layouts: tuple[Layout, ...] = LAYOUTS) -> Run:
    layers, width = draw(st.integers(4, most_layers)), draw(st.sampled_from((32, 160, 512)))
    shape = dataclasses.replace(SHAPE, num_hidden_layers=layers, intermediate_size=width)
    return Run(
        shape=shape, layout=draw(st.sampled_from(layouts)), seq_length=256, micro_size=draw(st.integers(1, 3)),
        accumulation_steps=4, train_iters=1, element_bytes=draw(st.sampled_from((2, 4))),
    )  # fmt: skip


def in_mode(run: Run, modes: Any) -> Run:
    return dataclasses.replace(run, recompute=modes)


def budget_between(run: Run, share: float) -> float:
    """Return a budget in GiB between what `full` and what no recomputation takes; beyond both ends, too."""
    full, none = most_kept(in_mode(run, "full")), most_kept(in_mode(run, None))
    return (full + share * (none - full)) / GIB


def again(run: Run) -> tuple[int, int]:
    """Return how many blocks compute matrix products again, and how many compute anything again."""
    counts = [run.mode_counts(position) for position in range(run.layout.pipeline)]
    products = sum(of_process.get("full", 0) for of_process in counts)
    return products, sum(run.recomputed_blocks(position) for position in range(run.layout.pipeline))


SHARES = st.floats(0, 1.2)


@given(run=runs(), share=SHARES)
def test_a_choice_is_within_the_budget_and_no_block_could_keep_more(run: Run, share: float) -> None:
    budget = budget_between(run, share)
    modes = modes_within(run, budget_gib=budget)
    assert len(modes) == run.shape.num_hidden_layers
    assert most_kept(in_mode(run, modes)) <= budget * GIB
    allowed = [mode for mode in MODES if mode != "selective" or run.layout.schedule != "zero_bubble"]
    for position in range(run.layout.pipeline):
        for layer in itertools.chain.from_iterable(run.layers(position)):
            for mode in allowed[allowed.index(modes[layer]) + 1 :]:
                raised = (*modes[:layer], mode, *modes[layer + 1 :])
                assert kept_bytes(in_mode(run, raised), position) > budget * GIB


@given(run=runs(), shares=st.tuples(SHARES, SHARES))
def test_more_memory_never_means_more_work(run: Run, shares: tuple[float, float]) -> None:
    less, more = (in_mode(run, modes_within(run, budget_gib=budget_between(run, share))) for share in sorted(shares))
    assert again(more) <= again(less)
    for position in range(run.layout.pipeline):
        assert work_of(more, position=position).flops <= work_of(less, position=position).flops


@given(run=runs(most_layers=6, layouts=(Layout(), Layout(tensor=2), Layout(pipeline=2))), share=SHARES)
def test_no_other_choice_recomputes_less(run: Run, share: float) -> None:
    budget = budget_between(run, share)
    chosen = again(in_mode(run, modes_within(run, budget_gib=budget)))
    every = (in_mode(run, modes) for modes in itertools.product(MODES, repeat=run.shape.num_hidden_layers))
    assert chosen == min(again(other) for other in every if most_kept(other) <= budget * GIB)


@given(run=runs())
def test_the_least_and_the_most(run: Run) -> None:
    least = in_mode(run, modes_within(run, budget_gib=budget_between(run, 0)))
    assert any(set(least.mode_counts(position)) == {"full"} for position in range(run.layout.pipeline))
    assert set(modes_within(run, budget_gib=budget_between(run, 1.01))) == {None}


@given(run=runs(layouts=(Layout(),)), share=SHARES)
def test_the_last_blocks_recompute_least(run: Run, share: float) -> None:
    modes = modes_within(run, budget_gib=budget_between(run, share))
    assert list(modes) == sorted(modes, key=MODES.index)


@pytest.mark.parametrize("model", ["llama2-7b", "llama2-13b", "llama2-70b", "llama3-8b", "llama3.2-1b"])
@pytest.mark.parametrize("tensor", [1, 4])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_byte_saves_more_work_as_selective_than_beyond_it(model: str, tensor: int, compiled: bool) -> None:
    section = load_sections([CONFIGS / "models" / f"{model}.yml"], [], ["model"])["model"]
    assert isinstance(section, ModelConfig)
    config = config_from({
        **section.model_dump(exclude_none=True, include=section.model_fields_set), "seq_length": 4096, "lr": 1e-4,
        "train_iters": 1, "train_batch_size": 1, "tokenizer_type": "SPMTokenizer", "vocab_file": "x",
        "precision": "bfloat16", "compile": compiled, "model_parallel_size": tensor, "sequence_parallel": tensor > 1,
    })  # fmt: skip
    run = Run.of(config, processes=tensor)
    kept = {mode: kept_bytes(in_mode(run, mode), 0) for mode in MODES}
    work = {mode: work_of(in_mode(run, mode), position=0) for mode in MODES}
    for gpu in GPUS:
        seconds = {
            mode: work[mode].flops / (gpu.peak_flops * gpu.reached)
            + work[mode].moved_bytes / (gpu.memory_bandwidth * MEMORY_REACHED)
            for mode in MODES
        }
        first = (seconds["full"] - seconds["selective"]) / (kept["selective"] - kept["full"])
        second = (seconds["selective"] - seconds[None]) / (kept[None] - kept["selective"])
        assert first > (1.4 if model == "llama3.2-1b" else 1.9) * second, gpu.name


SETTINGS: dict[str, Any] = {
    "num_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 160, "vocab_size": 64,
    "max_position_embeddings": 256, "seq_length": 256, "lr": 1e-3, "train_iters": 1, "train_batch_size": 4,
    "tokenizer_type": "SPMTokenizer", "vocab_file": "x", "checkpoint_activations": True,
}  # fmt: skip


def config_with(budget: float, **settings: Any) -> Any:
    return config_from({
        **SETTINGS, "checkpoint_mode": "budget", "activation_memory_gib": budget, **settings
    })  # fmt: skip


def test_a_budget_that_is_too_small_is_told_what_is_enough() -> None:
    [problem] = budget_problems(config_with(1e-6), processes=1)
    assert problem.startswith("activation_memory_gib = 1e-06 is too small: activations take 0.01 GiB even with")
    assert list(budget_problems(config_with(0.01), processes=1)) == []
    with pytest.raises(BudgetError, match=r"activations take 0\.01 GiB"):
        planned_run(config_with(1e-6), processes=1)


def test_a_budget_says_what_it_chooses() -> None:
    run = Run.of(config_with(1), processes=1)
    modes: tuple[Mode, ...] = ("full", "selective", "selective", None)
    budget = kept_bytes(in_mode(run, modes), 0) / GIB
    config = config_with(budget)
    assert recomputation_of(config, processes=1) == planned_run(config, processes=1).recompute == modes
    assert budget_text(config, processes=1) == (
        f"1 block full, 2 selective, 1 none ({budget:.2f} of {budget:g} GiB)"
    )


@pytest.mark.parametrize(("mode", "expected"), [("full", "full"), ("selective", "selective"), (None, None)])
def test_without_a_budget_it_is_what_is_configured(mode: str | None, expected: str | None) -> None:
    settings = {"checkpoint_activations": False} if mode is None else {"checkpoint_mode": mode}
    config = config_from({**SETTINGS, **settings})
    assert recomputation_of(config, processes=1) == planned_run(config, processes=1).recompute == expected
    assert budget_text(config, processes=1) is None
    assert not list(budget_problems(config, processes=1))


def test_what_other_checks_refuse_is_left_to_them() -> None:
    config = config_with(1, model_parallel_size=3)
    assert budget_text(config, processes=4) is None
    assert list(budget_problems(config, processes=4)) == []


def test_modes_in_words() -> None:
    assert modes_text(None) == "none" and modes_text("full") == "full"
    assert modes_text(("full", None, "selective", "full")) == "2 blocks full, 1 selective, 1 none"
