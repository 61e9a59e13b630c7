from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from megatron.checkpoint.convert.neox import NeoxSource
from megatron.checkpoint.convert.run import Conversion, convert, mapping_lines
from megatron.checkpoint.convert.source import ConversionError
from megatron.checkpoint.hf import save_model
from megatron.config.architecture import Architecture
from megatron.config.problems import ConfigError
from megatron.model.llama import Llama
from megatron.tokenizer.load import load_tokenizer
from megatron.tokenizer.train import train_sentencepiece
from tests.foreign_checkpoints import BASE, SHAPES, model_of, write_neox


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("pipeline", [True, False], ids=["pipeline", "sequential"])
@pytest.mark.parametrize("old", [True, False], ids=["w1 w2 w3", "linear1 linear2"])
@pytest.mark.parametrize("name", ["MHA", "GQA", "tied"])
def test_every_layout(ranks: int, pipeline: bool, old: bool, name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    weights = model_of(shape)
    by_head = not old
    folder = tmp_path / "run" / "global_step7"
    write_neox(weights, shape, folder, ranks=ranks, pipeline=pipeline, by_head=by_head, old_feed_forward=old)
    (tmp_path / "run" / "latest").write_text("global_step7\n")
    source = NeoxSource(tmp_path / "run", None, qkv_layout="by-head" if by_head else "joined")
    assert source.architecture == shape and str(source) == str(folder)
    assert all(torch.equal(source.tensor(name), weight) for name, weight in weights.items())


def test_padding_is_cut_and_said(tmp_path: Path) -> None:
    weights = model_of(BASE)
    write_neox(weights, BASE, tmp_path / "neox", ranks=2, padding=32)
    padded = NeoxSource(tmp_path / "neox", None)
    assert padded.architecture.vocab_size == 128
    save_model(weights, BASE, tmp_path / "hf", dtype=torch.float32, bos_id=1, eos_id=2)
    source = NeoxSource(tmp_path / "neox", tmp_path / "hf")
    assert torch.equal(source.tensor("lm_head.weight"), weights["lm_head.weight"])
    assert source.notes == (
        "model.embed_tokens.weight: the last 32 of 128 rows are padding and are left out",
        "lm_head.weight: the last 32 of 128 rows are padding and are left out",
    )


def test_the_mapping(tmp_path: Path) -> None:
    write_neox(model_of(BASE), BASE, tmp_path / "neox", ranks=2)
    wanted = Conversion("neox", str(tmp_path / "neox"), "hf", str(tmp_path / "hf"), qkv_layout="by-head")
    text = "\n".join(mapping_lines(wanted))
    assert "4.attention.query_key_value.weight, 2 ranks, k of each head's [q; k; v]" in text
    assert "2.mlp.linear1.weight, 2 ranks, lower half" in text
    assert not (tmp_path / "hf").exists()


def _speaking(tmp_path: Path) -> tuple[dict[str, Tensor], Architecture, Path, str]:
    """A small model that has learnt a text, and the Hugging Face folder that it belongs to."""
    text = "the cat sat on the mat and the dog sat on the log while a bird sang in a tree of the old garden " * 4
    tokenizer_file = tmp_path / "tokenizer.model"
    train_sentencepiece([text] * 20, tokenizer_file, vocab_size=300)
    tokenizer = load_tokenizer("SPMTokenizer", tokenizer_file)
    shape = dataclasses.replace(BASE, vocab_size=tokenizer.vocab_size)
    model = Llama(shape)
    model.init_weights(seed=1)
    ids = torch.tensor([[1, *tokenizer.encode(text)]])[:, :65]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model(ids[:, :-1], targets=ids[:, 1:]).backward()
        optimizer.step()
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    save_model(weights, shape, tmp_path / "hf", dtype=torch.float32, bos_id=1, eos_id=2)
    tokenizer.save(tmp_path / "hf", prepend_bos=True)
    return weights, shape, tmp_path / "hf", text


def test_text_tells_the_two_layouts_apart(tmp_path: Path) -> None:
    weights, shape, config, text = _speaking(tmp_path)
    for by_head, name in ((True, "by-head"), (False, "joined")):
        write_neox(weights, shape, tmp_path / name, ranks=2, by_head=by_head)
        target = tmp_path / f"from {name}"
        lines = list(convert(Conversion("neox", str(tmp_path / name), "hf", str(target), config=config, text=text)))
        assert lines[0].startswith(f"q, k and v {name}: ")
        source = NeoxSource(tmp_path / name, config, qkv_layout=name)
        assert all(torch.equal(source.tensor(n), weight) for n, weight in weights.items())
        assert (target / "tokenizer.json").exists()


def test_nothing_is_guessed(tmp_path: Path) -> None:
    write_neox(model_of(BASE), BASE, tmp_path / "neox")
    with pytest.raises(ConversionError, match="only text tells which: give --config"):
        list(convert(Conversion("neox", str(tmp_path / "neox"), "hf", str(tmp_path / "hf"))))
    _, shape, config, text = _speaking(tmp_path)
    write_neox(model_of(shape), shape, tmp_path / "untrained")
    with pytest.raises(ConversionError, match="too close to tell, is it a trained model"):
        source, target = str(tmp_path / "untrained"), str(tmp_path / "x")
        list(convert(Conversion("neox", source, "hf", target, config=config, text=text)))
    assert not (tmp_path / "x").exists()


def test_what_is_no_llama(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="it holds neither layer_"):
        NeoxSource(tmp_path, None)
    write_neox(model_of(BASE), BASE, tmp_path / "neox", ranks=2)
    config = tmp_path / "neox" / "configs" / "model.yml"
    text = config.read_text()
    without = text.replace('"norm": "rmsnorm",', "").replace('"hidden-size": 64,', "")
    config.write_text(without.replace("swiglu", "gelu"))
    with pytest.raises(ConfigError) as error:
        NeoxSource(tmp_path / "neox", None)
    for part in ("feed-forward layer is gated with SiLU", "norm is RMSNorm", "hidden_size", "must be a number"):
        assert part in str(error.value)
    config.write_text(text)
    path = tmp_path / "neox" / "layer_03-model_01-model_states.pt"
    found = torch.load(path)
    found["attention.dense.bias"] = torch.zeros(64)
    torch.save(found, path)
    with pytest.raises(ConversionError, match=r"3.attention.dense.bias is not part of a Llama"):
        NeoxSource(tmp_path / "neox", None)
    for path in (tmp_path / "neox").glob("layer_*-model_00-*"):
        path.unlink()
    with pytest.raises(ConversionError, match="lacks the files of model ranks 0"):
        NeoxSource(tmp_path / "neox", None)


@pytest.mark.parametrize("by_head", [True, False])
@pytest.mark.parametrize("key_heads", [6, 3])
def test_three_ranks(key_heads: int, by_head: bool, tmp_path: Path) -> None:
    """Heads need not divide evenly by anything but the ranks."""
    shape = dataclasses.replace(BASE, hidden_size=96, num_attention_heads=6, num_key_value_heads=key_heads)
    weights = model_of(shape)
    write_neox(weights, shape, tmp_path / "neox", ranks=3, by_head=by_head)
    source = NeoxSource(tmp_path / "neox", None, qkv_layout="by-head" if by_head else "joined")
    assert all(torch.equal(source.tensor(name), weight) for name, weight in weights.items())


@pytest.mark.parametrize(
    "line", ["gpt_j_residual: true", "use_mup: true", "sliding_window_width: 5", 'attention_config: [[["local"], 3]]']
)
def test_a_model_that_computes_something_else(line: str, tmp_path: Path) -> None:
    write_neox(model_of(BASE), BASE, tmp_path / "neox")
    (tmp_path / "neox" / "configs" / "more.yml").write_text(line)
    with pytest.raises(ConfigError, match=line.partition(":")[0]):
        NeoxSource(tmp_path / "neox", None)


def test_a_config_of_another_model(tmp_path: Path) -> None:
    write_neox(model_of(BASE), BASE, tmp_path / "neox")
    other = dataclasses.replace(BASE, rope_theta=500_000.0)
    save_model(model_of(other), other, tmp_path / "hf", dtype=torch.float32, bos_id=1, eos_id=2)
    with pytest.raises(ConversionError, match=r"rope_theta is 10000.0 in .*/configs, 500000.0 in --config"):
        NeoxSource(tmp_path / "neox", tmp_path / "hf")


def test_ranks_that_do_not_agree(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = model_of(BASE)
    write_neox(weights, BASE, tmp_path / "neox", ranks=2)
    path = tmp_path / "neox" / "layer_06-model_01-model_states.pt"
    norm = weights["model.norm.weight"]
    torch.save({"norm.scale": norm * 1.001}, path)
    found = NeoxSource(tmp_path / "neox", None).tensor("model.norm.weight")
    assert torch.allclose(found, norm * 1.0005, rtol=1e-6) and "their mean is taken" in caplog.text
    torch.save({"norm.scale": norm * 3}, path)
    with pytest.raises(ConversionError, match="not the same in all ranks"):
        NeoxSource(tmp_path / "neox", None).tensor("model.norm.weight")


def test_heads_that_cannot_share_keys_by_head(tmp_path: Path) -> None:
    """Six heads of 16 that share two of keys: there are no 5 1/3 rows of a key to lie beside each."""
    shape = dataclasses.replace(BASE, hidden_size=96, num_attention_heads=6, num_key_value_heads=2)
    write_neox(model_of(shape), shape, tmp_path / "neox")
    lines = list(convert(Conversion("neox", str(tmp_path / "neox"), "hf", str(tmp_path / "hf"))))
    assert "q, k and v joined: 6 query heads cannot share keys by-head" in lines


def test_stage_3_of_zero_is_told(tmp_path: Path) -> None:
    (tmp_path / "zero_pp_rank_0_mp_rank_00_model_states.pt").touch()
    with pytest.raises(ConversionError, match="ZeRO stage 3"):
        NeoxSource(tmp_path, None)
