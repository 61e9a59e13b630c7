from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron.config.schema import DataConfig, ModelConfig, NewTokensConfig, TokenizerConfig
from megatron.data.check import check_data, tokenizer_problem
from megatron.data.indexed import ShardWriter
from megatron.data.manifest import (
    Manifest,
    ShardInfo,
    Sidecar,
    Split,
    TokenizerInfo,
    load_manifest,
    save_manifest,
    save_sidecar,
)
from megatron.data.mixture import RunSize
from megatron.tokenizer.load import load_tokenizer
from megatron.tokenizer.train import train_sentencepiece
from megatron.utils.files import fingerprint_bytes
from tests.extended_vocabulary import extend_sentencepiece

NAMES = [f"corpus{i:02}" for i in range(25)]


def write_shard(folder: Path, name: str, split: Split) -> ShardInfo:
    prefix = f"{name}_{split}"
    with ShardWriter(folder / prefix, dtype="uint16") as writer:
        writer.add_document(np.arange(50))
    return ShardInfo(
        name=name, path=prefix, split=split, source="monolingual", language="fin", script="Latn", documents=1,
        words=20, tokens=50, bytes=120, unk_tokens=0, dtype="uint16", content_hash=writer.content_hash,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Hold a tokenizer file and 25 corpora with two shards each."""
    (tmp_path / "tokenizer.model").write_bytes(b"model")
    splits: tuple[Split, ...] = ("train", "valid")
    shards = [write_shard(tmp_path, name, split) for name in NAMES for split in splits]
    tokenizer = TokenizerInfo("SPMTokenizer", fingerprint_bytes(b"model"), vocab_size=100, eod_id=2)
    save_manifest(Manifest(tokenizer, tuple(shards)), tmp_path)
    return tmp_path


def problems(folder: Path, *, kind: str = "SPMTokenizer", **changes: Any) -> list[str]:
    data = {"data_manifest": str(folder / "manifest.json"), "seq_length": 16, **changes}
    tokenizer = TokenizerConfig(tokenizer_type=kind, vocab_file=str(folder / "tokenizer.model"))  # type: ignore[arg-type]
    return check_data(DataConfig.model_validate(data), tokenizer)


def test_sound_data_has_no_problems(folder: Path) -> None:
    assert problems(folder) == []


def test_everything_is_told_at_once(folder: Path) -> None:
    (folder / "tokenizer.model").write_bytes(b"another")
    (folder / "corpus03_valid.idx").unlink()
    (folder / "corpus04_train.bin").write_bytes(b"x")
    with ShardWriter(folder / "corpus05_train", dtype="int32") as writer:
        writer.add_documents(np.arange(60), np.array([30, 30]))
    told = problems(folder, mixture={"sources": {"books": 1.0}})
    texts = (
        ("the shards were made by a SPMTokenizer",),
        ("mixture.sources", "'books'", "no such source"),
        ("corpus03_valid.idx", "cannot be read"),
        ("corpus04_train.bin", "1 bytes"),
        ("corpus05_train.idx", "not the shard that the manifest lists as corpus05 (train)", "dtype int32, not uint16"),
    )
    assert len(told) == len(texts)
    assert all(part in problem for parts, problem in zip(texts, told, strict=True) for part in parts), told


def test_other_kinds_of_tokenizers_are_refused_too(folder: Path) -> None:
    [problem] = problems(folder, kind="HFTokenizer")
    assert "is a HFTokenizer with fingerprint" in problem


def test_a_long_list_is_cut(folder: Path) -> None:
    for path in folder.glob("*_train.bin"):
        path.unlink()
    told = problems(folder)
    assert len(told) == 21
    assert "corpus19_train.bin" in told[19]
    assert told[20] == "... and 5 more shards"


def test_a_broken_manifest_is_told_entry_by_entry(folder: Path) -> None:
    manifest = load_manifest(folder)
    text = (folder / "manifest.json").read_text().replace('"code": "fin_Latn"', '"code": "Finnish"')
    (folder / "manifest.json").write_text(text)
    told = problems(folder)
    assert len(told) == 21 and "'Finnish' is not like" in told[0]
    assert told[20] == f"... and {len(manifest.shards) - 20} more problems of the manifest"
    (folder / "manifest.json").write_text("{}")
    [problem] = problems(folder)
    assert "is no manifest" in problem


def test_files_that_are_not_there_are_left_to_the_check_of_files(folder: Path) -> None:
    assert problems(folder, data_manifest=None) == []
    assert problems(folder, data_manifest=str(folder / "absent.json")) == []
    (folder / "tokenizer.model").unlink()
    assert problems(folder) == []


def paths(folder: Path, *names: str) -> dict[str, Any]:
    return {"data_manifest": None, "train_data_paths": [str(folder / name) for name in names]}


def test_shards_named_by_their_paths(folder: Path) -> None:
    for name in ("corpus00_train", "corpus01_train"):
        shard = next(shard for shard in load_manifest(folder).shards if shard.path == name)
        save_sidecar(Sidecar(shard, load_manifest(folder).tokenizer, made_from="x"), folder / name)
    good = paths(folder, "corpus00_train", "corpus01_train")
    assert problems(folder, **good) == []
    assert problems(folder, data_manifest=None, data_path=str(folder / "corpus00_train"), split="1/0") == []
    # Tiers that nothing exceeds, and a phase whose weights name nothing.
    assert "no corpus is left" in problems(folder, **good, mixture={"tiers": {"a": {"above": 1e9, "rate": 1}}})[0]
    told = problems(folder, **paths(folder, "corpus00_train", "absent", "corpus00_train"))
    assert ["train_data_paths.2" in told[0], "train_data_paths.1" in told[1], len(told)] == [True, True, 2]


def test_paths_are_looked_at_even_without_a_tokenizer_file(folder: Path) -> None:
    (folder / "tokenizer.model").unlink()
    [problem] = problems(folder, **paths(folder, "corpus00_train", "absent"))
    assert problem.startswith("train_data_paths.1: ")
    assert len(problems(folder, **paths(folder, *(f"absent{number}" for number in range(25))))) == 21


def test_a_part_that_is_not_in_its_file_is_told(folder: Path) -> None:
    manifest = load_manifest(folder)
    [first, *others] = manifest.shards
    parts = (replace(first, name="part", split="train", documents=1, first_document=1, first_token=50), first, *others)
    save_manifest(replace(manifest, shards=parts), folder)
    [problem] = problems(folder)
    assert "part (train)" in problem


def test_limits_on_epochs_need_the_size_of_the_run(folder: Path) -> None:
    mixture = {"max_epochs": 1, "unit": "tokens", "tiers": {"a": {"above": 1, "rate": 1}}}
    data = {"data_manifest": str(folder / "manifest.json"), "seq_length": 16, "mixture": mixture}
    tokenizer = TokenizerConfig(tokenizer_type="SPMTokenizer", vocab_file=str(folder / "tokenizer.model"))
    section = DataConfig.model_validate(data)
    assert check_data(section, tokenizer) == []
    assert check_data(section, tokenizer, run=RunSize(16, 2, 3)) == []
    assert check_data(section, tokenizer, run=RunSize(16, 1000, 1000))


def test_tokenizer_problem(folder: Path) -> None:
    manifest = load_manifest(folder)
    section = TokenizerConfig(tokenizer_type="SPMTokenizer", vocab_file=str(folder / "tokenizer.model"))
    assert tokenizer_problem(section, manifest) is None
    other = replace(manifest, tokenizer=replace(manifest.tokenizer, fingerprint="00"))
    assert "with fingerprint 00, but vocab_file" in str(tokenizer_problem(section, other))
    (folder / "tokenizer.model").unlink()
    assert "cannot be read (No such file" in str(tokenizer_problem(section, manifest))


def test_what_is_said_of_new_tokens_is_checked(folder: Path) -> None:
    data = DataConfig(data_manifest=str(folder / "manifest.json"), seq_length=16)
    tokenizer = TokenizerConfig(tokenizer_type="SPMTokenizer", vocab_file=str(folder / "tokenizer.model"))
    assert check_data(data, tokenizer, new_tokens=NewTokensConfig(new_tokens_from=99)) == []
    [told] = check_data(data, tokenizer, new_tokens=NewTokensConfig(new_tokens_from=100))
    assert told.startswith("new_tokens_from = 100 is no id of the tokenizer, which has 100 entries")


def test_new_tokens_are_those_of_the_vocab_file_whatever_made_the_shards(folder: Path, sp_model: Path) -> None:
    extension = extend_sentencepiece(sp_model, folder / "extended")
    data = DataConfig(data_manifest=str(folder / "manifest.json"), seq_length=16)
    tokenizer = TokenizerConfig(tokenizer_type="SPMTokenizer", vocab_file=str(folder / "extended" / "tokenizer.model"))
    [told] = check_data(data, tokenizer, new_tokens=NewTokensConfig(vocab_extension=str(folder / "extended")))
    assert told.startswith("the shards were made by")
    told, of_new = check_data(data, tokenizer, new_tokens=NewTokensConfig(new_tokens_from=extension.old_size - 1))
    assert of_new.startswith(f"new_tokens_from = {extension.old_size - 1}, but the first new id is")


def test_the_ids_of_the_weights_are_checked(folder: Path, sp_model: Path) -> None:
    extend_sentencepiece(sp_model, folder / "extended")
    file = folder / "extended" / "tokenizer.model"
    manifest = load_manifest(folder)
    info = TokenizerInfo.of(load_tokenizer("SPMTokenizer", file), prepend_bos=False)
    save_manifest(replace(manifest, tokenizer=info), folder)
    data = DataConfig(data_manifest=str(folder / "manifest.json"), seq_length=16)
    tokenizer = TokenizerConfig(tokenizer_type="SPMTokenizer", vocab_file=str(file))
    model = folder / "model"
    model.mkdir()
    assert check_data(data, tokenizer, model=ModelConfig(hf_model=str(model))) == []  # it came without a tokenizer
    (model / "tokenizer.model").write_bytes(file.read_bytes())
    assert check_data(data, tokenizer, model=ModelConfig(hf_model=str(model))) == []
    train_sentencepiece(["Aller Anfang ist schwer.", "Ende gut."] * 9, model / "tokenizer.model", vocab_size=290)
    [told] = check_data(data, tokenizer, model=ModelConfig(hf_model=str(model)))
    assert "gives other ids than" in told and "load_weights: false" in told
    assert check_data(data, tokenizer, model=ModelConfig(hf_model=str(model), load_weights=False)) == []
    (model / "tokenizer.model").write_bytes(b"nothing")
    [told] = check_data(data, tokenizer, model=ModelConfig(hf_model=str(model)))
    assert "is no SentencePiece model" in told
