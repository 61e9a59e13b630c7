"""Cutting a model into stages, and joining those of a process."""

from __future__ import annotations

import pytest
import torch

from megatron.config.architecture import Architecture
from megatron.config.layout import stage_layers
from megatron.model.llama import Llama
from megatron.parallel.pipeline import joined, take_stage


def shape(*, tied: bool) -> Architecture:
    return Architecture(64, 16, 32, 5, 2, 1, 8, 64, tie_word_embeddings=tied)


def stages(count: int, *, tied: bool) -> list[Llama]:
    made = []
    for number, layers in enumerate(stage_layers(shape(tied=tied), stages=count, seq_length=16)):
        model = Llama(shape(tied=tied))
        model.init_weights(seed=1)
        take_stage(model, layers, first=number == 0, last=number == count - 1)
        made.append(model)
    return made


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_stages_after_each_other_are_the_model(count: int, tied: bool) -> None:
    model = Llama(shape(tied=tied))
    model.init_weights(seed=1)
    tokens = torch.randint(0, 64, (2, 16))
    positions = torch.arange(16).expand(2, 16)
    x = tokens
    for stage in stages(count, tied=tied):
        x = stage(x, targets=tokens, positions=positions)
    assert torch.equal(x, model(tokens, targets=tokens))


@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_is_in_one_stage_but_for_tied_embeddings(tied: bool) -> None:
    names = [name for stage in stages(3, tied=tied) for name, _ in stage.named_parameters()]
    extra = ["model.embed_tokens.weight"] if tied else []
    assert sorted(names) == sorted([*dict(Llama(shape(tied=tied)).named_parameters()), *extra])


def test_stages_of_one_process_are_joined_under_their_names() -> None:
    parts = stages(5, tied=False)
    whole = joined([parts[0], parts[2], parts[4]])
    own = {name: parameter for part in (parts[0], parts[2], parts[4]) for name, parameter in part.named_parameters()}
    assert {name: id(parameter) for name, parameter in whole.named_parameters()} == {
        name: id(parameter) for name, parameter in own.items()
    }
