from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from megatron.checkpoint import shards
from megatron.checkpoint.hf import WeightsError, load_weights, save_model
from megatron.config.architecture import Architecture
from megatron.model.llama import Llama

SHAPE = Architecture(64, 16, 32, 2, 2, 1, 8, 64)


def saved(folder: Path) -> Llama:
    model = Llama(SHAPE)
    model.init_weights(seed=1)
    save_model(model.state_dict(), SHAPE, folder, dtype=torch.float32, bos_id=1, eos_id=2)
    return model


def test_shards_and_index_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "FILE_BYTES", 5000)
    model = saved(tmp_path)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) > 2 and files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * SHAPE.num_parameters()
    again = Llama(SHAPE)
    load_weights(again, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_an_export_replaces_an_earlier_one_of_another_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shards, "FILE_BYTES", 5000)
        saved(tmp_path)
    newer = Llama(SHAPE)
    newer.init_weights(seed=2)
    save_model(newer.state_dict(), SHAPE, tmp_path, dtype=torch.float32, bos_id=1, eos_id=2)
    assert [path.name for path in tmp_path.glob("*.safetensors*")] == ["model.safetensors"]
    again = Llama(SHAPE)
    load_weights(again, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(newer.parameters(), again.parameters(), strict=True))


def test_every_difference_is_told_and_nothing_is_loaded(tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors["extra.weight"] = torch.zeros(1)
    del tensors["lm_head.weight"]
    tensors["model.norm.weight"] = torch.zeros(3)
    save_file(tensors, path)
    model = Llama(SHAPE)
    model.init_weights(seed=9)
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(WeightsError) as caught:
        load_weights(model, tmp_path)
    for part in ("lm_head.weight is missing", "extra.weight is not part", "has shape [3], the model wants [16]"):
        assert part in str(caught.value)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


def test_truncated_file_is_a_clear_error(tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"model\.safetensors is not a readable safetensors file"):
        load_weights(Llama(SHAPE), tmp_path)


def test_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="only safetensors are read"):
        load_weights(Llama(SHAPE), tmp_path)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ('{"weight_map": {"a": "../secret.safetensors"}}', "outside its folder"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "lacks files"),
        ('{"weight_map": 5}', "no safetensors index"),
        ("{", "no safetensors index"),
    ],
)
def test_hostile_index(tmp_path: Path, index: str, said: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(WeightsError, match=said):
        load_weights(Llama(SHAPE), tmp_path)
