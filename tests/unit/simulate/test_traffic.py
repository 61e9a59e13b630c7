from __future__ import annotations

import dataclasses

import pytest

from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from megatron.simulate.run import Run
from megatron.simulate.traffic import traffic_of

SHAPE = Architecture(
    vocab_size=96, hidden_size=64, intermediate_size=160, num_hidden_layers=6, num_attention_heads=8,
    num_key_value_heads=4, head_dim=8, max_position_embeddings=512,
)  # fmt: skip
FRAME = 2 * 96 * 64 + 64
BLOCKS = SHAPE.num_parameters() - FRAME
STATES = 2 * 128 * 64  # bfloat16 hidden states of a micro-batch


def run_of(layout: Layout, **changes: object) -> Run:
    run = Run(shape=SHAPE, layout=layout, seq_length=128, micro_size=1, accumulation_steps=8, train_iters=1)
    return dataclasses.replace(run, **changes)  # type: ignore[arg-type]


def test_one_process_sends_nothing() -> None:
    sent = traffic_of(run_of(Layout()), position=0)
    assert all(messages.bytes == messages.count == 0 for messages in vars(sent).values())


def test_stage_0_sums_every_gradient_once_a_step() -> None:
    sums = traffic_of(run_of(Layout(replicas=4)), position=0).sums
    assert sums.bytes == pytest.approx(2 * 3 / 4 * 4 * SHAPE.num_parameters())
    assert sums.count == 1  # all of it fits one bucket


@pytest.mark.parametrize(
    ("stage", "gathered", "scattered"),
    [
        (1, BLOCKS + FRAME, BLOCKS + FRAME),
        (2, BLOCKS + FRAME, 8 * (BLOCKS + FRAME)),
        (3, 8 * (2 * BLOCKS + FRAME), 8 * (BLOCKS + FRAME)),
    ],
)
def test_stages_of_zero_gather_and_scatter_as_docs_layouts_says(stage: int, gathered: int, scattered: int) -> None:
    sent = traffic_of(run_of(Layout(stage=stage, shards=4)), position=0)
    assert sent.gathers.bytes == pytest.approx(3 / 4 * 2 * gathered)
    assert sent.scatters.bytes == pytest.approx(3 / 4 * 4 * scattered)
    assert sent.scatters.count == 7 * (1 if stage == 1 else 8)
    assert sent.sums.count == 0


def test_copies_sum_the_parts_of_gradients_once_a_step() -> None:
    sums = traffic_of(run_of(Layout(stage=3, shards=4, replicas=2)), position=0).sums
    assert sums.bytes == pytest.approx(2 * 1 / 2 * 4 * SHAPE.num_parameters() / 4)
    assert sums.count == 7


def test_sequence_parallelism_sends_the_same_bytes_in_twice_the_messages() -> None:
    plain, sequence = (
        traffic_of(run_of(Layout(tensor=4, sequence=sequence, pipeline=3)), position=1).tensor
        for sequence in (False, True)
    )
    blocks, steps = 2, 8
    assert plain.bytes == pytest.approx(steps * blocks * 4 * 2 * 3 / 4 * STATES)
    assert plain.count == steps * blocks * 4
    norms = 2 * 3 / 4 * 4 * (2 * blocks * 64)  # and the gradients of their weights, which are summed in float32
    assert (sequence.bytes, sequence.count) == (pytest.approx(plain.bytes + norms), 2 * plain.count + 1)
    stage3 = traffic_of(run_of(Layout(3, shards=2, tensor=4, sequence=True)), position=0).tensor
    alone = traffic_of(run_of(Layout(tensor=4, sequence=True)), position=0).tensor
    assert stage3.count - alone.count == steps * 13 - 1  # 6 blocks and the last norm, one by one


def test_context_parallelism_gathers_keys_and_values() -> None:
    sent = traffic_of(run_of(Layout(context=2, tensor=2)), position=0).context
    keys_and_values = 2 * 2 * 128 * (4 * 8 // 2)  # of whole rows
    assert sent.bytes == pytest.approx(8 * 6 * 2 * 1 / 2 * keys_and_values)
    again = traffic_of(run_of(Layout(context=2, tensor=2), recompute="full"), position=0).context
    assert again.bytes == pytest.approx(sent.bytes * 3 / 2)


def test_a_pipeline_sends_states_forward_and_gradients_backward() -> None:
    run = run_of(Layout(pipeline=3))
    sent = [traffic_of(run, position=position).pipeline for position in range(3)]
    assert [messages.count for messages in sent] == [8, 16, 8]
    assert sent[1].bytes == 16 * STATES
    chunked = run_of(Layout(pipeline=3, chunks=2, schedule="interleaved"))
    assert [traffic_of(chunked, position=position).pipeline.count for position in range(3)] == [24, 32, 24]
