"""Packed rows give every document what it gets when it is run alone; and what transformers gives it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from megatron.checkpoint.hf import save_model
from megatron.config.architecture import Architecture
from megatron.data.documents import document_lengths, positions
from megatron.model.attention import Documents
from megatron.model.llama import Llama
from megatron.model.loss import IGNORE

EOD = 2
ROWS, WIDTH = 4, 96
MHA = Architecture(
    vocab_size=211,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=8,
    num_key_value_heads=8,
    head_dim=8,
    max_position_embeddings=WIDTH,
    initializer_range=0.1,
)
SHAPES = {"mha": MHA, "gqa": dataclasses.replace(MHA, num_key_value_heads=2, rope_theta=500_000.0)}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


@pytest.fixture(params=SHAPES)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return SHAPES[request.param]


@pytest.fixture(params=TOLERANCE, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    value = request.param
    assert isinstance(value, torch.dtype)
    return value


def random_model(architecture: Architecture, dtype: torch.dtype = torch.float32) -> Llama:
    model = Llama(architecture)
    model.init_weights(seed=5)
    return model.to(dtype)


def stream(seed: int = 0) -> np.ndarray:
    """Return rows cut from a stream of documents of random lengths: most rows begin in the middle of one."""
    random = np.random.default_rng(seed)
    tokens = random.integers(3, MHA.vocab_size, size=(ROWS, WIDTH))
    tokens[random.random((ROWS, WIDTH)) < 0.06] = EOD
    tokens[0, 10:13] = EOD  # documents of one token
    tokens[1] = np.where(tokens[1] == EOD, 5, tokens[1])  # a row inside one document
    tokens[2, -1], tokens[3, 0] = EOD, EOD  # a border at the end of a row, and one after its first token
    return tokens


@dataclasses.dataclass(frozen=True)
class Packed:
    inputs: Tensor
    lengths: tuple[int, ...]

    @property
    def documents(self) -> Documents:
        return Documents.of(self.lengths)

    @property
    def positions(self) -> Tensor:
        return torch.from_numpy(positions(np.array(self.lengths, dtype=np.int32), *self.inputs.shape))

    def alone(self, tokens: Tensor | None = None) -> list[Tensor]:
        return list((self.inputs if tokens is None else tokens).flatten()[None].split(list(self.lengths), dim=1))


@pytest.fixture
def packed() -> Packed:
    tokens = stream()
    return Packed(torch.from_numpy(tokens), tuple(document_lengths(tokens, eod_id=EOD).tolist()))


def furthest(ours: Tensor, pieces: list[Tensor]) -> float:
    """Return the largest difference between ``[rows, width, ...]`` and the pieces ``[1, length, ...]`` of it."""
    return (ours.flatten(0, 1) - torch.cat(pieces, dim=1)[0]).abs().max().item()


def test_the_rows_hold_what_this_file_is_about(packed: Packed) -> None:
    assert len(packed.lengths) >= 12 and min(packed.lengths) == 1 and max(packed.lengths) == WIDTH
    assert sum(packed.lengths) == ROWS * WIDTH


@torch.no_grad()
def test_logits_are_those_of_the_documents_alone(
    architecture: Architecture, dtype: torch.dtype, packed: Packed
) -> None:
    model = random_model(architecture, dtype)
    ours = model(packed.inputs, positions=packed.positions, pattern=packed.documents)
    assert furthest(ours, [model(tokens) for tokens in packed.alone()]) < TOLERANCE[dtype]
    # The tolerance means something: without the borders the logits are far away.
    assert furthest(model(packed.inputs), [model(tokens) for tokens in packed.alone()]) > 0.1


@torch.no_grad()
def test_rotary_positions_are_relative_so_the_mask_alone_is_enough(architecture: Architecture, packed: Packed) -> None:
    model = random_model(architecture)
    ours = model(packed.inputs, pattern=packed.documents)
    assert furthest(ours, [model(tokens) for tokens in packed.alone()]) < 1e-5


@torch.no_grad()
def test_positions_without_a_mask_see_the_whole_row(architecture: Architecture, packed: Packed) -> None:
    model = random_model(architecture)
    counted = torch.arange(WIDTH).expand(ROWS, WIDTH)
    torch.testing.assert_close(model(packed.inputs, positions=counted), model(packed.inputs), rtol=0, atol=1e-6)
    reset = model(packed.inputs, positions=packed.positions)
    first = packed.lengths[0]
    torch.testing.assert_close(reset[0, :first], model(packed.inputs)[0, :first], rtol=0, atol=1e-5)
    assert (reset[0, first:] - model(packed.inputs)[0, first:]).abs().max() > 0.01  # other distances ...
    assert furthest(reset, [model(tokens) for tokens in packed.alone()]) > 0.1  # ... and still the earlier documents


@torch.no_grad()
def test_a_document_in_every_row_is_plain_attention(architecture: Architecture, packed: Packed) -> None:
    model = random_model(architecture)
    assert torch.equal(model(packed.inputs, pattern=Documents.of([WIDTH] * ROWS)), model(packed.inputs))


def test_gradients_of_the_summed_loss_are_those_of_the_documents(
    architecture: Architecture, dtype: torch.dtype, packed: Packed
) -> None:
    targets = packed.inputs.roll(-1, dims=1)
    targets[:, -1] = IGNORE
    together, alone = random_model(architecture, dtype), random_model(architecture, dtype)
    total = together(packed.inputs, targets=targets, positions=packed.positions, pattern=packed.documents)
    total.backward()
    losses = []
    for tokens, wanted in zip(packed.alone(), packed.alone(targets), strict=True):
        losses.append(alone(tokens, targets=wanted))
        losses[-1].backward()
    assert total.item() == pytest.approx(sum(loss.item() for loss in losses), rel=1e-6)
    for (name, ours), theirs in zip(together.named_parameters(), alone.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        # The loss is computed in float32 in either case.
        assert (ours.grad - theirs.grad).norm() / theirs.grad.norm() < 1e-5, name


@torch.no_grad()
def test_what_one_document_says_does_not_reach_another(packed: Packed) -> None:
    model = random_model(SHAPES["gqa"])
    before = model(packed.inputs, positions=packed.positions, pattern=packed.documents)
    changed = packed.inputs.clone()
    changed[0, : packed.lengths[0]] = 7
    after = model(changed, positions=packed.positions, pattern=packed.documents)
    assert torch.equal(before.flatten(0, 1)[packed.lengths[0] :], after.flatten(0, 1)[packed.lengths[0] :])


LENGTHS = st.lists(st.integers(1, 9) | st.integers(10, 40), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(LENGTHS, min_size=1, max_size=3), seed=st.integers(0, 99), grouped=st.booleans())
@torch.no_grad()
def test_any_lengths(rows: list[list[int]], seed: int, grouped: bool) -> None:
    width = min(WIDTH, max(sum(row) for row in rows))
    lengths: list[int] = []
    for row in rows:
        left = width
        for length in [*row, width]:
            lengths += [min(length, left)] if left else []
            left -= min(length, left)
    inputs = torch.randint(0, MHA.vocab_size, (len(rows), width), generator=torch.Generator().manual_seed(seed))
    packed = Packed(inputs, tuple(lengths))
    model = random_model(SHAPES["gqa" if grouped else "mha"])
    ours = model(inputs, positions=packed.positions, pattern=packed.documents)
    assert furthest(ours, [model(tokens) for tokens in packed.alone()]) < 1e-5


@pytest.fixture
def theirs(architecture: Architecture, tmp_path: Path) -> LlamaForCausalLM:
    model = random_model(architecture)
    save_model(model.state_dict(), architecture, tmp_path, dtype=torch.float32, bos_id=1, eos_id=EOD)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert isinstance(loaded, LlamaForCausalLM)
    return loaded.eval()


@torch.no_grad()
def test_transformers_gives_each_document_the_same(
    architecture: Architecture, packed: Packed, theirs: LlamaForCausalLM
) -> None:
    ours = random_model(architecture)(packed.inputs, positions=packed.positions, pattern=packed.documents)
    assert furthest(ours, [theirs(tokens).logits for tokens in packed.alone()]) < 1e-5


@torch.no_grad()
def test_transformers_packed_by_position_ids_gives_the_same(
    architecture: Architecture, packed: Packed, theirs: LlamaForCausalLM
) -> None:
    # It finds the borders by itself where position_ids start again, if no attention_mask and no cache are given.
    wanted = theirs(packed.inputs, position_ids=packed.positions, use_cache=False).logits
    ours = random_model(architecture)(packed.inputs, positions=packed.positions, pattern=packed.documents)
    assert (ours - wanted).abs().max() < 1e-5
