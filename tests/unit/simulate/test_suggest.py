from __future__ import annotations

import dataclasses

import pytest

from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from megatron.simulate.budget import modes_within, most_kept
from megatron.simulate.candidates import candidates
from megatron.simulate.estimate import peak_bytes
from megatron.simulate.hardware import GIB, Gpu, gpu_named
from megatron.simulate.remedies import remedies
from megatron.simulate.run import Run
from megatron.simulate.suggest import best_layouts, settings_of, suggestion_report

SHAPE = Architecture(
    vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=16, num_attention_heads=32,
    num_key_value_heads=8, head_dim=64, max_position_embeddings=4096,
)  # fmt: skip


def run_of(processes: int, seq_length: int = 4096) -> Run:
    return Run(
        shape=SHAPE, layout=Layout(replicas=processes), seq_length=seq_length, micro_size=1, accumulation_steps=1,
        train_iters=100,
    )  # fmt: skip


def small(gigabytes: float) -> Gpu:
    return dataclasses.replace(gpu_named("A100-80"), memory_bytes=gigabytes * 1e9)


def test_candidates_keep_model_batch_and_processes() -> None:
    found = list(candidates(run_of(16), train_batch_size=64, per_node=4))
    assert {run.layout.processes for run in found} == {16}
    assert {run.step_tokens for run in found} == {64 * 4096}
    assert {run.layout.tensor for run in found} == {1, 2, 4}
    assert {run.layout.stage for run in found} == {0, 1, 2, 3}
    assert {run.layout.schedule for run in found} == {"1f1b", "interleaved", "zero_bubble"}
    assert {run.recompute for run in found} == {None, "selective", "full"}
    assert any(run.layout.replicas > 1 and run.layout.stage for run in found)
    assert len(set(found)) == len(found)


def test_candidates_keep_matrices_whole_for_products_in_8_bits() -> None:
    plain = candidates(run_of(16), train_batch_size=64, per_node=4)
    narrow = candidates(dataclasses.replace(run_of(16), float8="rowwise"), train_batch_size=64, per_node=4)
    assert [dataclasses.replace(run, float8=None) for run in narrow] == [
        run for run in plain if run.layout.tensor == 1 and run.layout.schedule != "zero_bubble"
    ]


def test_the_fastest_that_fits_is_first() -> None:
    gpu = small(40)
    best = best_layouts(run_of(8), gpu, train_batch_size=64)
    assert all(estimate.peak_bytes <= gpu.usable_bytes for estimate in best)
    fastest = min(estimate.time.seconds for estimate in best)
    assert best[0].time.seconds <= 1.01 * fastest
    # Of what is equally fast the first has no more kinds of division than the others.
    assert best[0].run.layout.tensor == best[0].run.layout.pipeline == 1


def test_less_memory_is_slower() -> None:
    speeds = [
        best_layouts(run_of(4), small(gigabytes), train_batch_size=64)[0].time.tokens_per_second
        for gigabytes in (16, 24, 80)
    ]
    assert speeds == sorted(speeds)


def test_where_nothing_fits_it_says_so() -> None:
    text, fits = suggestion_report(run_of(2), small(2), train_batch_size=64)
    assert not fits
    assert "no layout fits on 2 A100-80" in text


def test_settings_are_those_of_the_run() -> None:
    layout = Layout(stage=1, shards=4, replicas=2, context=2, tensor=2, sequence=True, pipeline=2, chunks=2,
                    schedule="interleaved")  # fmt: skip
    run = dataclasses.replace(run_of(64), layout=layout, micro_size=2, accumulation_steps=4, recompute="full")
    assert settings_of(run) == {
        "zero_optimization": {"stage": 1},
        "data_parallel_shard_size": 4,
        "model_parallel_size": 2,
        "sequence_parallel": True,
        "context_parallel_size": 2,
        "pipe_parallel_size": 2,
        "pipe_schedule": "interleaved",
        "pipe_chunks": 2,
        "train_batch_size": 64,
        "train_micro_batch_size_per_gpu": 2,
        "checkpoint_activations": True,
        "checkpoint_mode": "full",
    }


def test_a_suggestion_names_the_keys_to_take_out() -> None:
    text, fits = suggestion_report(run_of(8), small(80), train_batch_size=64)
    assert fits
    note, *lines = text.split("\n# ")[2].splitlines()
    assert all(key in note for key in ("gradient_accumulation_steps", "pipe_chunks", "activation_memory_gib"))
    assert not any(line.partition(":")[0] in note for line in lines)


def test_remedies_need_less_and_the_best_is_first() -> None:
    run = dataclasses.replace(run_of(8), micro_size=4, element_bytes=4)
    helps = remedies(run)
    peaks = [peak for _, peak in helps]
    assert peaks == sorted(peaks)
    texts = [text for text, _ in helps]
    assert "precision: bfloat16" in texts
    assert "zero_optimization: {stage: 3}" in texts
    assert "train_micro_batch_size_per_gpu: 1" in texts


@pytest.mark.parametrize("layout", [Layout(stage=3, shards=8), Layout(pipeline=4, replicas=2)], ids=str)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_budget_is_made_to_measure(layout: Layout, share: float) -> None:
    run = dataclasses.replace(run_of(8), layout=layout, micro_size=8, accumulation_steps=8)
    least, most = peak_bytes(dataclasses.replace(run, recompute="full")), peak_bytes(run)
    usable = least + share * (most - least)
    [(text, peak)] = [remedy for remedy in remedies(run, usable_bytes=usable) if "budget" in remedy[0]]
    assert peak <= usable
    # It is no smaller than it need be, but for a step of a block and what others need while they compute again.
    full, none = (most_kept(dataclasses.replace(run, recompute=mode)) for mode in ("full", None))
    step = (none - full) / sum(run.blocks(0)) / GIB
    more = modes_within(run, budget_gib=float(text.rpartition(" ")[2]) + 2 * step)
    assert peak_bytes(dataclasses.replace(run, recompute=more)) > usable
    assert not [text for text, _ in remedies(run, usable_bytes=least / 2) if "budget" in text]
    assert not [text for text, _ in remedies(run) if "budget" in text]


@pytest.mark.parametrize("layout", [Layout(stage=3, shards=8), Layout(pipeline=4, replicas=2)], ids=str)
def test_remedies_do_not_name_what_is_there_or_cannot_be(layout: Layout) -> None:
    run = dataclasses.replace(run_of(8), layout=layout, recompute="full", accumulation_steps=8)
    texts = [text for text, _ in remedies(run)]
    assert "zero_optimization: {stage: 3}" not in texts
    assert "checkpoint_activations: true" not in texts
