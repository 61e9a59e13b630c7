from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from megatron.checkpoint.convert.check import compared, paired_logits, transformers_logits
from megatron.checkpoint.convert.meta import MetaSource
from megatron.checkpoint.convert.source import ConversionError
from megatron.checkpoint.hf import save_model
from megatron.config.architecture import RopeScaling
from tests.foreign_checkpoints import BASE, SHAPES, model_of, write_meta

GROUPED = SHAPES["GQA"]


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("llama", [2, 3])
@pytest.mark.parametrize("name", ["MHA", "GQA"])
def test_any_number_of_ranks(ranks: int, llama: int, name: str, tmp_path: Path) -> None:
    """Llama 2 divides columns of the embedding, Llama 3 rows; with 4 ranks two share a head of keys."""
    shape = dataclasses.replace(SHAPES[name], rope_theta=500_000.0 if llama == 3 else 10_000.0)
    weights = model_of(shape)
    copies = max(1, ranks // shape.num_key_value_heads)
    write_meta(weights, shape, tmp_path / "meta", ranks=ranks, llama=llama, copies=copies)
    source = MetaSource(tmp_path / "meta", None)
    longest = 8192 if llama == 3 else 4096
    assert source.architecture == dataclasses.replace(shape, max_position_embeddings=longest)
    assert all(torch.equal(source.tensor(name), weight) for name, weight in weights.items())


def test_the_check_sees_a_missing_permutation(tmp_path: Path) -> None:
    write_meta(model_of(GROUPED), GROUPED, tmp_path / "meta")
    stored = MetaSource(tmp_path / "meta", None, permuted=False)
    ids = torch.randint(GROUPED.vocab_size, (64,), generator=torch.Generator().manual_seed(0))
    logits = paired_logits(stored, ids)
    assert compared(logits, transformers_logits(MetaSource(tmp_path / "meta", None), ids)).is_good
    assert not compared(logits, transformers_logits(stored, ids)).is_good


def test_scaled_positions_and_an_output_matrix_that_is_the_embedding(tmp_path: Path) -> None:
    scaled = SHAPES["Llama 3.1"]
    write_meta(model_of(scaled), scaled, tmp_path / "scaled", llama=3)
    source = MetaSource(tmp_path / "scaled", None)
    assert source.architecture == scaled
    assert source.notes == (
        "positions are scaled by 8, as in Llama 3.1, since params.json does not tell by how much",
        "max_position_embeddings = 131,072 is assumed, since params.json does not tell",
    )
    tied = dataclasses.replace(scaled, tie_word_embeddings=True)
    write_meta(model_of(tied), tied, tmp_path / "tied", llama=3)
    with pytest.raises(ConversionError, match=r"8 for Llama 3.1, 32 for Llama 3.2; give --config"):
        MetaSource(tmp_path / "tied", None)
    shape = dataclasses.replace(tied, rope_scaling=RopeScaling("llama3", 32.0, 1.0, 4.0, 8192))
    save_model(model_of(tied), shape, tmp_path / "hf", dtype=torch.float32, bos_id=1, eos_id=2)
    assert MetaSource(tmp_path / "tied", tmp_path / "hf").architecture == shape


def test_the_tokenizer_comes_along(tmp_path: Path, shared: Path) -> None:
    """Llama 2's lies one folder up, Llama 3's beside the weights; both become Hugging Face's."""
    for llama, place in ((2, tmp_path / "two"), (3, tmp_path / "three" / "original")):
        vocab_size = 32_000 if llama == 2 else 128_256
        shape = dataclasses.replace(BASE, vocab_size=vocab_size, hidden_size=16, head_dim=4, num_hidden_layers=1)
        write_meta(model_of(shape), shape, place / "model", llama=llama)
        target = place / "tokenizer.model" if llama == 2 else place / "model" / "tokenizer.model"
        target.write_bytes((shared / "data" / "tokenizers" / f"llama{llama}" / "tokenizer.model").read_bytes())
        files = MetaSource(place / "model", None).hf_files()
        config = json.loads(files["config.json"])
        ids = (1, 2) if llama == 2 else (128_000, 128_001)
        assert (config["bos_token_id"], config["eos_token_id"]) == ids and "tokenizer.json" in files


def test_heads_that_ranks_share_must_be_the_same(tmp_path: Path) -> None:
    write_meta(model_of(GROUPED), GROUPED, tmp_path / "meta", ranks=4, copies=2)
    path = tmp_path / "meta" / "consolidated.01.pth"
    found = torch.load(path)
    found["layers.1.attention.wk.weight"][0, 0] += 1
    torch.save(found, path)
    with pytest.raises(ConversionError, match=r"layers.1.attention.wk.weight of ranks 0 and 1 must be the same"):
        MetaSource(tmp_path / "meta", None).tensor("model.layers.1.self_attn.k_proj.weight")


def test_half_of_a_model_is_not_taken_for_all_of_it(tmp_path: Path) -> None:
    """A config with half of the width would fit to the first rank alone."""
    write_meta(model_of(BASE), BASE, tmp_path / "meta", ranks=2)
    half = dataclasses.replace(BASE, intermediate_size=48)
    save_model(model_of(half), half, tmp_path / "hf", dtype=torch.float32, bos_id=1, eos_id=2)
    with pytest.raises(ConversionError, match="does not make"):
        MetaSource(tmp_path / "meta", tmp_path / "hf")


@pytest.mark.parametrize(
    "line", [{"norm_eps": None}, {"rope_theta": [1]}, {"norm_eps": float("nan")}, {"n_layers": 8000}]
)
def test_strange_params(line: dict[str, object], tmp_path: Path) -> None:
    write_meta(model_of(BASE), BASE, tmp_path / "meta")
    path = tmp_path / "meta" / "params.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **line}))
    with pytest.raises(ConversionError, match="too few for" if "n_layers" in line else f"{next(iter(line))} is"):
        MetaSource(tmp_path / "meta", None)


def test_a_config_of_another_model(tmp_path: Path) -> None:
    write_meta(model_of(BASE), BASE, tmp_path / "meta")
    other = dataclasses.replace(BASE, rope_theta=500_000.0, rms_norm_eps=1e-6)
    save_model(model_of(other), other, tmp_path / "hf", dtype=torch.float32, bos_id=1, eos_id=2)
    with pytest.raises(ConversionError) as error:
        MetaSource(tmp_path / "meta", tmp_path / "hf")
    assert str(error.value) == (
        "--config is of another model: rms_norm_eps is 1e-05 in params.json, 1e-06 in --config; "
        "rope_theta is 10000.0 in params.json, 500000.0 in --config"
    )


def test_ranks_of_other_shapes_and_dtypes(tmp_path: Path) -> None:
    write_meta(model_of(BASE), BASE, tmp_path / "meta", ranks=2)
    path = tmp_path / "meta" / "consolidated.01.pth"
    found = torch.load(path)
    found["layers.0.ffn_norm.weight"] = torch.ones(3)
    found["layers.1.feed_forward.w1.weight"] = found["layers.1.feed_forward.w1.weight"].bfloat16()
    torch.save(found, path)
    with pytest.raises(ConversionError) as error:
        MetaSource(tmp_path / "meta", None)
    assert "layers.0.ffn_norm.weight (3, 64) does not make" in str(error.value)
    assert "layers.1.feed_forward.w1.weight is torch.bfloat16 and torch.float32 in different ranks" in str(error.value)
    found["output.weight"] = torch.tensor(1.0)
    torch.save(found, path)
    with pytest.raises(ConversionError, match="is not this model"):
        MetaSource(tmp_path / "meta", None)


def test_a_missing_file_is_called_so(tmp_path: Path) -> None:
    write_meta(model_of(BASE), BASE, tmp_path / "meta", ranks=2)
    (tmp_path / "meta" / "consolidated.01.pth").unlink()
    with pytest.raises(ConversionError, match=r"there are 1 files consolidated.*and the model is divided into 2"):
        MetaSource(tmp_path / "meta", None)


def test_what_is_wrong_is_listed(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"holds no consolidated.00.pth"):
        MetaSource(tmp_path, None)
    write_meta(model_of(BASE), BASE, tmp_path / "meta", ranks=2)
    path = tmp_path / "meta" / "consolidated.01.pth"
    found = torch.load(path)
    del found["layers.1.attention.wo.weight"]
    found["layers.1.attention.wo.bias"] = torch.zeros(3)
    found["layers.0.feed_forward.w2.weight"] = torch.zeros(3, 4)
    torch.save(found, path)
    with pytest.raises(ConversionError) as error:
        MetaSource(tmp_path / "meta", None)
    for part in (
        "layers.1.attention.wo.weight is missing in rank 1",
        "layers.1.attention.wo.bias is not part of a Llama",
        "layers.0.feed_forward.w2.weight (3 x 4, 64 x 48) does not make model.layers.0.mlp.down_proj.weight of 64 x 96",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is not valid JSON"), ("[]", "must hold one JSON object"), ("{}", "dim is None"), ('{"dim": 1.5}', "dim is")],
)
def test_broken_params(text: str, message: str, tmp_path: Path) -> None:
    write_meta(model_of(BASE), BASE, tmp_path / "meta")
    (tmp_path / "meta" / "params.json").write_text(text)
    with pytest.raises(ConversionError, match=message):
        MetaSource(tmp_path / "meta", None)
    (tmp_path / "meta" / "params.json").unlink()
    with pytest.raises(ConversionError, match=r"params.json is missing"):
        MetaSource(tmp_path / "meta", None)
