"""Our model against transformers' ``LlamaForCausalLM``, in both directions."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from megatron.checkpoint.hf import load_weights, save_model
from megatron.config.architecture import Architecture, RopeScaling
from megatron.generate.options import GenerationOptions
from megatron.generate.writer import TextWriter
from megatron.model.llama import Llama
from megatron.parallel.engine import Engine

BASE = Architecture(
    vocab_size=311,
    hidden_size=64,
    intermediate_size=112,
    num_hidden_layers=3,
    num_attention_heads=8,
    num_key_value_heads=8,
    head_dim=8,
    max_position_embeddings=256,
    initializer_range=0.2,
)
LLAMA31 = RopeScaling(
    "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
)
SHAPES = {
    "mha": BASE,
    "gqa": dataclasses.replace(BASE, num_key_value_heads=2, rope_theta=500_000.0),
    "tied": dataclasses.replace(BASE, num_key_value_heads=4, tie_word_embeddings=True),
    "llama3.1": dataclasses.replace(BASE, num_key_value_heads=2, rope_theta=500_000.0, rope_scaling=LLAMA31),
    "wide-heads": dataclasses.replace(BASE, num_key_value_heads=1, head_dim=16),
    "linear": dataclasses.replace(BASE, rope_scaling=RopeScaling("linear", factor=4.0)),
}


@pytest.fixture(params=SHAPES)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return SHAPES[request.param]


def random_model(architecture: Architecture) -> Llama:
    model = Llama(architecture)
    model.init_weights(seed=5)
    return model


def exported(model: Llama, folder: Path) -> LlamaForCausalLM:
    save_model(model.state_dict(), model.architecture, folder, dtype=torch.float32, bos_id=1, eos_id=2)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert isinstance(theirs, LlamaForCausalLM)
    return theirs.eval()


def tokens(rows: int = 3, length: int = 200) -> torch.Tensor:
    return torch.randint(0, BASE.vocab_size, (rows, length), generator=torch.Generator().manual_seed(0))


def test_exported_model_gives_the_same_logits(architecture: Architecture, tmp_path: Path) -> None:
    model = random_model(architecture)
    theirs = exported(model, tmp_path)
    with torch.no_grad():
        difference = (model(tokens()) - theirs(tokens()).logits).abs().max().item()
    assert difference < 1e-4


def test_exported_config_comes_back_unchanged(architecture: Architecture, tmp_path: Path) -> None:
    theirs = exported(random_model(architecture), tmp_path)
    assert sum(parameter.numel() for parameter in theirs.parameters()) == architecture.num_parameters()
    theirs.config.save_pretrained(tmp_path / "again")
    for folder in (tmp_path, tmp_path / "again"):
        assert Architecture.from_folder(folder) == architecture


def test_their_random_model_gives_the_same_logits_in_ours(architecture: Architecture, tmp_path: Path) -> None:
    entries = {key: value for key, value in architecture.to_hf().items() if key not in ("architectures", "model_type")}
    torch.manual_seed(7)
    theirs = LlamaForCausalLM(LlamaConfig(**entries)).eval()
    theirs.save_pretrained(tmp_path, max_shard_size="100KB")
    ours = Llama(Architecture.from_folder(tmp_path))
    load_weights(ours, tmp_path)
    with torch.no_grad():
        difference = (ours(tokens()) - theirs(tokens()).logits).abs().max().item()
    assert difference < 1e-4


def test_gradients_equal_theirs(architecture: Architecture, tmp_path: Path) -> None:
    model = random_model(architecture)
    theirs = exported(model, tmp_path).double()
    ids = tokens(2, 64)
    logits = theirs(ids[:, :-1]).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum").backward()
    model(ids[:, :-1], targets=ids[:, 1:]).backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in model.named_parameters():
        wanted = expected[name].grad
        assert parameter.grad is not None and wanted is not None
        error = (parameter.grad.double() - wanted).norm() / wanted.norm()
        assert error < 1e-4, name


@pytest.mark.parametrize("batch_size", [1, 5, 16])
def test_greedy_texts_are_theirs(architecture: Architecture, batch_size: int, tmp_path: Path) -> None:
    model = random_model(architecture)
    theirs = exported(model, tmp_path)
    chance = random.Random(11)
    prompts = [[chance.randrange(3, BASE.vocab_size) for _ in range(length)] for length in range(16)]
    longest = len(prompts[-1]) + 1
    padded = torch.tensor([[0] * (longest - 1 - len(prompt)) + [1, *prompt] for prompt in prompts])
    with torch.no_grad():
        expected = theirs.generate(
            padded, attention_mask=(padded != 0).long(), max_new_tokens=64, do_sample=False, pad_token_id=0
        )[:, longest:].tolist()
    writer = TextWriter(Engine.alone(model), None, first_id=1, end_ids=[2], batch_size=batch_size)  # type: ignore[arg-type]
    for text, row in zip(writer.write_ids(prompts, GenerationOptions(64)), expected, strict=True):
        assert text.tokens == (row[: row.index(2)] if 2 in row else row)
        assert text.stop_reason == ("end" if 2 in row else "length")


def test_bfloat16_export_halves_the_file_and_stays_close(tmp_path: Path) -> None:
    model = random_model(BASE)
    save_model(model.state_dict(), BASE, tmp_path, dtype=torch.bfloat16, bos_id=None, eos_id=2)
    assert (tmp_path / "model.safetensors").stat().st_size < 2.1 * BASE.num_parameters() + 10_000
    again = Llama(Architecture.from_folder(tmp_path))
    load_weights(again, tmp_path)
    for (name, before), after in zip(model.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(after, before.bfloat16().float(), rtol=0, atol=0, msg=name)
