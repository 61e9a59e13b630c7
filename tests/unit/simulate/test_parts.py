from __future__ import annotations

import dataclasses

import pytest
import torch

from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from megatron.model.llama import Llama
from megatron.simulate.memory import memory_of
from megatron.simulate.parts import distinct_ranks, held, piece_rows
from megatron.simulate.run import Run

SHAPE = Architecture(
    vocab_size=96, hidden_size=64, intermediate_size=160, num_hidden_layers=6, num_attention_heads=8,
    num_key_value_heads=4, head_dim=8, max_position_embeddings=512,
)  # fmt: skip
TIED = dataclasses.replace(SHAPE, tie_word_embeddings=True)
ODD = dataclasses.replace(SHAPE, vocab_size=101, intermediate_size=150)


def run_of(shape: Architecture, layout: Layout) -> Run:
    return Run(shape=shape, layout=layout, seq_length=128, micro_size=1, accumulation_steps=8, train_iters=1)


@pytest.mark.parametrize("shape", [SHAPE, TIED, ODD], ids=["plain", "tied", "odd"])
def test_one_process_holds_the_tensors_of_the_model(shape: Architecture) -> None:
    with torch.device("meta"):
        model = Llama(shape)
    here = held(run_of(shape, Layout()), 0)
    expected = sorted(tuple(parameter.shape) for parameter in model.parameters())
    assert sorted([*here.frame, *here.block * here.blocks]) == expected
    assert here.whole == shape.num_parameters()
    assert here.tensors == len(expected)


@pytest.mark.parametrize(
    "layout",
    [
        Layout(replicas=4),
        Layout(stage=3, shards=7),
        Layout(stage=1, shards=256),
        Layout(stage=2, shards=3, replicas=2, context=2),
        Layout(tensor=4, sequence=True),
        Layout(stage=1, shards=2, pipeline=3, tensor=2),
        Layout(pipeline=3, chunks=2, schedule="interleaved", replicas=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [SHAPE, TIED], ids=["plain", "tied"])
def test_all_processes_together_hold_every_parameter_as_often_as_the_layout_says(
    shape: Architecture, layout: Layout
) -> None:
    run = run_of(shape, layout)
    ranks = distinct_ranks(run)
    assert sum(rank.count for rank in ranks) == layout.processes
    held_in_all = sum(held(run, rank.position).own_of(rank.index) * rank.count for rank in ranks)

    copies = layout.replicas if layout.stage else layout.data * layout.context
    norms = (2 * shape.num_hidden_layers + 1) * shape.hidden_size  # whole in each process of the tensor axis
    twice = shape.vocab_size * shape.hidden_size if shape.tie_word_embeddings and layout.pipeline > 1 else 0
    assert held_in_all == copies * (shape.num_parameters() + (layout.tensor - 1) * norms + twice)


@pytest.mark.parametrize("rows", [1, 5, 64, 101, 4096])
@pytest.mark.parametrize("pieces", [1, 2, 7, 64, 256])
def test_pieces_are_those_of_torch_chunk(rows: int, pieces: int) -> None:
    chunks = [len(chunk) for chunk in torch.arange(rows).chunk(pieces)]
    assert [piece_rows(rows, pieces, index) for index in range(pieces)] == chunks + [0] * (pieces - len(chunks))


def test_ranks_with_other_amounts_have_rows_of_their_own() -> None:
    even = distinct_ranks(run_of(SHAPE, Layout(stage=3, shards=4, replicas=2)))
    assert [(rank.index, rank.count) for rank in even] == [(0, 8)]
    odd = distinct_ranks(run_of(ODD, Layout(stage=3, shards=4)))
    assert len(odd) > 1
    assert sum(rank.count for rank in odd) == 4
    stages = distinct_ranks(run_of(SHAPE, Layout(pipeline=3, tensor=2)))
    assert [(rank.position, rank.count) for rank in stages] == [(0, 2), (1, 2), (2, 2)]


def test_a_process_has_moments_for_what_it_holds() -> None:
    run = run_of(SHAPE, Layout(stage=3, shards=4))
    memory, own = memory_of(run, position=0), held(run, 0).own
    assert (memory.parameters, memory.gradients) == (4 * own, 4 * own)
    assert memory.optimizer == 8 * own + 4 * held(run, 0).tensors


def test_stages_of_zero_need_less_and_less() -> None:
    wide = dataclasses.replace(SHAPE, hidden_size=512, head_dim=64, intermediate_size=1536)
    layouts = [Layout(replicas=8), *(Layout(stage=stage, shards=8) for stage in (1, 2, 3))]
    peaks = [memory_of(run_of(wide, layout), position=0).peak for layout in layouts]
    assert peaks == sorted(peaks, reverse=True)


def test_a_pipeline_without_zero_casts_its_weights_for_every_pass_in_flight() -> None:
    run = run_of(SHAPE, Layout(pipeline=3))
    first, last = (memory_of(run, position=position).weights for position in (0, 2))
    assert first == 3 * 2 * held(run, 0).whole
    assert last == 2 * (held(run, 2).whole - 96 * 64)  # the loss casts the output matrix
