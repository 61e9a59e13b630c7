from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron.config.schema import DataConfig, TokenizerConfig
from megatron.data.check import check_data, tokenizer_problem
from megatron.data.indexed import ShardWriter
from megatron.data.manifest import Manifest, ShardInfo, Split, TokenizerInfo, load_manifest, save_manifest
from megatron.utils.files import fingerprint_bytes

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
        "the shards were made by a SPMTokenizer",
        "gives 'books' a share",
        "corpus03_valid.idx: cannot be read",
        "corpus04_train.bin: 1 bytes",
        "corpus05_train.idx: not the shard that the manifest lists as corpus05 (train): documents 2, not 1; "
        "tokens 60, not 50; dtype int32, not uint16",
    )
    assert len(told) == len(texts)
    assert all(text in problem for text, problem in zip(texts, told, strict=True)), told


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


def test_tokenizer_problem(folder: Path) -> None:
    manifest = load_manifest(folder)
    section = TokenizerConfig(tokenizer_type="SPMTokenizer", vocab_file=str(folder / "tokenizer.model"))
    assert tokenizer_problem(section, manifest) is None
    other = replace(manifest, tokenizer=replace(manifest.tokenizer, fingerprint="00"))
    assert "with fingerprint 00, but vocab_file" in str(tokenizer_problem(section, other))
    (folder / "tokenizer.model").unlink()
    assert "cannot be read (No such file" in str(tokenizer_problem(section, manifest))
