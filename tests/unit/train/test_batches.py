"""Micro-batches: the same documents on every layout, before and after a resume, and the borders of documents."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.config.derive import Batch
from megatron.config.layout import Layout
from megatron.config.mixture_schema import MixtureConfig
from megatron.config.schema import DataConfig
from megatron.data.indexed import ShardError
from megatron.data.loader import Loader
from megatron.data.manifest import Manifest
from megatron.data.mixture import RunSize, plan_mixture
from megatron.data.order import SampleOrder
from megatron.model.loss import IGNORE
from megatron.parallel.mesh import Mesh
from megatron.parallel.process import World
from megatron.train.batches import Batches

SEQ_LENGTH, SAMPLES = 32, 240
EOD = 2  # of the fixture's tokenizer
PHASE = 100  # first sample of the second mixture; its ramp ends at 132
MIXTURE = {
    "weights": {"eng_Latn": 4, "swh_Latn": 2, "amh_Ethi": 1},
    "phases": [
        {"from_tokens": PHASE * SEQ_LENGTH, "ramp_tokens": 32 * SEQ_LENGTH, "weights": {"amh_Ethi": 1, "swh_Latn": 1}}
    ],
}


MakeManifest = Callable[..., Manifest]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tiny_manifest: MakeManifest) -> tuple[Loader, SampleOrder]:
    return make_corpus(tiny_manifest(tmp_path_factory.mktemp("corpus"), held_out=False))


def make_corpus(manifest: Manifest) -> tuple[Loader, SampleOrder]:
    run = RunSize(seq_length=SEQ_LENGTH, batch_size=8, train_iters=SAMPLES // 8)
    mixture = plan_mixture(manifest, MixtureConfig.model_validate(MIXTURE), run=run)
    order = mixture.order(seed=7, seq_length=SEQ_LENGTH)
    return Loader(order=order, manifest=manifest, shards=[corpus.shard for corpus in mixture.trained]), order


def trained_on(loader: Loader, *, first: int, steps: int, ranks: int, micro: int, accumulation: int) -> list[bytes]:
    """Return the samples that ``steps`` steps of such a layout train on, in the order of their numbers."""
    batch = Batch(global_size=ranks * micro * accumulation, micro_size=micro, accumulation_steps=accumulation)
    rows: dict[tuple[int, int, int], list[bytes]] = {}
    for rank in range(ranks):
        world = mesh(rank, ranks)
        with batches(loader, batch=batch, world=world, first=first) as ahead:
            for step in range(steps):
                for micro_step, micro_batch in enumerate(ahead.step()):
                    whole = torch.cat((micro_batch.inputs, micro_batch.targets[:, -1:]), dim=1)
                    rows[step, micro_step, rank] = [row.numpy().tobytes() for row in whole]
    return [row for key in sorted(rows) for row in rows[key]]


def mesh(rank: int = 0, ranks: int = 1) -> Mesh:
    return Mesh(Layout(replicas=ranks), World(rank=rank, size=ranks, device=torch.device("cpu")))


def batches(loader: Loader, *, batch: Batch, world: Mesh, first: int = 0, **switches: bool) -> Batches:
    section = DataConfig(seq_length=SEQ_LENGTH, **switches)  # type: ignore[arg-type]
    return Batches(loader=loader, section=section, eod_id=EOD, batch=batch, mesh=world, first=first)


def test_the_runs_below_cross_an_epoch_and_a_phase(corpus: tuple[Loader, SampleOrder]) -> None:
    order = corpus[1]
    where = [order.sample(number) for number in range(SAMPLES)]
    small = [sample.epoch for sample in where[:PHASE] if sample.corpus == 2]
    assert len(set(small)) > 2  # amh_Ethi comes again and again, in the first phase already
    assert 0 in {sample.corpus for sample in where[PHASE : PHASE + 32]}
    assert 0 not in {sample.corpus for sample in where[PHASE + 32 :]}


@settings(max_examples=25, deadline=None)
@given(
    parts=st.lists(
        st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 5)), min_size=1, max_size=6
    )
)
def test_resumes_on_other_layouts_train_on_the_same_samples(
    corpus: tuple[Loader, SampleOrder], parts: Sequence[tuple[int, int, int, int]]
) -> None:
    loader = corpus[0]
    wanted = [row.tobytes() for row in loader.batch(range(SAMPLES))]
    first, seen = 0, []
    for ranks, micro, accumulation, steps in parts:
        seen += trained_on(loader, first=first, steps=steps, ranks=ranks, micro=micro, accumulation=accumulation)
        first += steps * ranks * micro * accumulation
    assert seen[:SAMPLES] == wanted[: len(seen)]


def test_layouts_across_both_borders(corpus: tuple[Loader, SampleOrder]) -> None:
    loader = corpus[0]
    wanted = [row.tobytes() for row in loader.batch(range(SAMPLES))]
    seen = trained_on(loader, first=0, steps=6, ranks=1, micro=8, accumulation=2)  # up to 96: just before the phase
    seen += trained_on(loader, first=96, steps=2, ranks=2, micro=3, accumulation=2)  # 120: inside the ramp
    seen += trained_on(loader, first=120, steps=4, ranks=4, micro=1, accumulation=5)  # 200: after it
    seen += trained_on(loader, first=200, steps=40, ranks=1, micro=1, accumulation=1)
    assert seen == wanted


@pytest.mark.parametrize(
    "switches", [{"eod_mask_loss": True}, {"reset_position_ids": True}, {"reset_attention_mask": True}, {}]
)
def test_borders_of_documents(corpus: tuple[Loader, SampleOrder], switches: dict[str, bool]) -> None:
    world = mesh()
    with batches(corpus[0], batch=Batch(8, 4, 2), world=world, **switches) as ahead:
        for micro_batch in ahead.step():
            check_borders(micro_batch, **switches)


def check_borders(micro_batch: Any, *, eod_mask_loss: bool = False, reset_position_ids: bool = False,
                  reset_attention_mask: bool = False) -> None:
    inputs, targets = micro_batch.inputs.numpy(), micro_batch.targets.numpy()
    assert ((targets == IGNORE) == ((inputs == EOD) & eod_mask_loss)).all()
    positions, lengths = np.zeros_like(inputs), []
    for row, line in enumerate(inputs):
        length = 0
        for column, token in enumerate(line):
            positions[row, column] = length
            length += 1
            if token == EOD or column == len(line) - 1:
                lengths.append(length)
                length = 0
    assert len(lengths) > len(inputs)  # there are borders
    if reset_position_ids:
        np.testing.assert_array_equal(micro_batch.positions.numpy(), positions)
    else:
        assert micro_batch.positions is None
    if reset_attention_mask:
        assert list(micro_batch.pattern.lengths) == lengths
        assert micro_batch.pattern.offsets.tolist() == [0, *np.cumsum(lengths)]
    else:
        assert micro_batch.pattern is None


def test_a_damaged_shard_ends_the_step_that_needs_it(tmp_path: Path, tiny_manifest: MakeManifest) -> None:
    loader, _ = make_corpus(tiny_manifest(tmp_path, held_out=False))
    shard = tmp_path / "amh_Ethi_train.bin"
    shard.write_bytes(shard.read_bytes()[:-10])
    world = mesh()
    with batches(loader, batch=Batch(16, 16, 1), world=world) as ahead, pytest.raises(ShardError, match="amh_Ethi"):
        for _ in range(3):
            list(ahead.step())


def test_what_cannot_be_read_after_the_last_step_harms_nobody(corpus: tuple[Loader, SampleOrder]) -> None:
    whole = corpus[0]
    tried = threading.Event()

    class Ends(Loader):
        def __init__(self) -> None:
            pass

        def batch(self, numbers: Sequence[int]) -> Any:
            if max(numbers) < 16:
                return whole.batch(numbers)
            tried.set()
            raise ShardError("this shard is still being copied")

    world = mesh()
    with batches(Ends(), batch=Batch(8, 4, 2), world=world) as ahead:
        assert [len(list(ahead.step())) for _ in range(2)] == [2, 2]
        assert tried.wait(10)
