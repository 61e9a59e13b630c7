"""The variable-length kernel of a GPU against the same model on the CPU."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch

from megatron.config.architecture import Architecture
from megatron.model import attention
from megatron.model.attention import Documents
from megatron.model.llama import Llama

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

MHA = Architecture(
    vocab_size=512,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=64,
    max_position_embeddings=512,
)
SHAPES = {"mha": MHA, "gqa": dataclasses.replace(MHA, num_key_value_heads=2)}
LENGTHS = (100, 1, 155, 256, 1, 1, 254, 3, 253)  # four rows of 256
ROWS, WIDTH = 4, 256


@dataclasses.dataclass(frozen=True)
class Case:
    wide: Llama  # float32 on the CPU
    narrow: Llama  # bfloat16 on the GPU
    tokens: torch.Tensor
    positions: torch.Tensor


@pytest.fixture(params=SHAPES)
def case(request: pytest.FixtureRequest) -> Case:
    wide = Llama(SHAPES[request.param])
    wide.init_weights(seed=0)
    narrow = copy.deepcopy(wide).to("cuda", torch.bfloat16)
    wide.load_state_dict({name: value.float().cpu() for name, value in narrow.state_dict().items()})
    tokens = torch.randint(0, 512, (ROWS, WIDTH), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(length) for length in LENGTHS]).view(ROWS, WIDTH)
    return Case(wide, narrow, tokens, positions)


def relative(ours: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((ours.float().cpu() - wanted).norm() / wanted.norm())


def test_logits_and_gradients_are_those_of_the_cpu(case: Case) -> None:
    tokens, positions = case.tokens.cuda(), case.positions.cuda()
    documents = Documents.of(LENGTHS, device=tokens.device)
    ours = case.narrow(tokens, positions=positions, pattern=documents)
    wanted = case.wide(case.tokens, positions=case.positions, pattern=Documents.of(LENGTHS))
    assert relative(ours, wanted) < 2e-2
    assert relative(case.narrow(tokens), wanted) > 0.1  # without borders it is another thing
    ours.float().square().sum().backward()
    wanted.square().sum().backward()
    for (name, mine), theirs in zip(case.narrow.named_parameters(), case.wide.parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None
        assert relative(mine.grad, theirs.grad) < 6e-2, name


def test_the_kernel_is_used_and_equals_the_pieces(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = case.tokens.cuda()
    documents = Documents.of(LENGTHS, device=tokens.device)
    calls = []
    packed = attention.attention_packed

    def counted(*args: Any, **options: Any) -> torch.Tensor:
        calls.append(args)
        return packed(*args, **options)

    monkeypatch.setattr(attention, "attention_packed", counted)
    with torch.no_grad():
        by_kernel = case.narrow(tokens, pattern=documents)
        assert len(calls) == MHA.num_hidden_layers
        monkeypatch.setattr(attention, "fits_packed_kernel", lambda query: False)
        by_piece = case.narrow(tokens, pattern=documents)
    assert relative(by_kernel, by_piece.float().cpu()) < 2e-2


def test_the_host_does_not_wait_for_the_device(case: Case) -> None:
    tokens, positions = case.tokens.cuda(), case.positions.cuda()
    documents = Documents.of(LENGTHS, device=tokens.device)
    with torch.no_grad():
        case.narrow(tokens, positions=positions, pattern=documents)  # warm-up
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            case.narrow(tokens, positions=positions, pattern=documents)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_float32_goes_piece_by_piece(case: Case) -> None:
    documents = Documents.of(LENGTHS, device=torch.device("cuda", 0))
    with torch.no_grad():
        ours = copy.deepcopy(case.wide).cuda()(case.tokens.cuda(), pattern=documents)
        wanted = case.wide(case.tokens, pattern=Documents.of(LENGTHS))
    torch.testing.assert_close(ours.cpu(), wanted, rtol=0, atol=2e-3)
