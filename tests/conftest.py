"""Fixtures that every test may use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import settings

from megatron.data.indexed import ShardWriter
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo, save_manifest
from megatron.utils.files import fingerprint_file

SHARED = Path(__file__).resolve().parents[2] / "shared"
VOCABULARY, EOD, BOS = 120, 2, 1

# What is tested is what comes out, not how fast: on a busy machine any example may take longer than the 200 ms that
# hypothesis allows.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # The models here are tiny: a second thread only costs, and on a busy machine it costs much.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real tokenizers and texts that are not part of the project; tests that need them are skipped without."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (real tokenizers and texts), which is not here")
    return SHARED


def write_shard(folder: Path, name: str, *, documents: int, split: str = "train", seed: int = 0) -> ShardInfo:
    """Write a shard of random documents with a pattern that a model can learn, and return its entry."""
    random = np.random.default_rng([seed, documents, *name.encode()])
    prefix = folder / f"{name}_{split}"
    tokens = 0
    with ShardWriter(prefix, dtype=np.uint16) as writer:
        for _ in range(documents):
            length = int(random.integers(5, 60))
            text = (random.integers(3, VOCABULARY) + np.arange(length) * 7) % (VOCABULARY - 3) + 3
            writer.add_document(np.concatenate(([BOS], text, [EOD])).astype(np.uint16))
            tokens += length + 2
    language, script = name.split("_")
    return ShardInfo(
        name=name,
        path=prefix.name,
        split=split,  # type: ignore[arg-type]
        source="monolingual",
        language=language,
        script=script,
        documents=documents,
        words=tokens // 2,
        tokens=tokens,
        bytes=tokens * 3,
        unk_tokens=0,
        dtype="uint16",
        content_hash=writer.content_hash,
    )


@pytest.fixture(scope="session")
def tiny_manifest() -> Callable[..., Manifest]:
    """Return a function that writes the shards of a few languages into a folder and describes them."""

    def make(folder: Path, *, fingerprint: str = "0", held_out: bool = True) -> Manifest:
        sizes = {"eng_Latn": 60, "swh_Latn": 25, "amh_Ethi": 4}
        shards = [write_shard(folder, name, documents=count) for name, count in sizes.items()]
        if held_out:
            shards += [write_shard(folder, name, documents=3, split="valid", seed=1) for name in sizes]
        info = TokenizerInfo("SPMTokenizer", fingerprint, VOCABULARY, EOD, BOS, prepend_bos=True)
        return Manifest(info, tuple(shards), folder)

    return make


@dataclasses.dataclass(frozen=True)
class TinyRun:
    """A folder with shards and a configuration that trains in a second or two.

    Attributes:
        folder: holds everything.
        config: the YAML file.
        save: the run's folder.
    """

    folder: Path
    config: Path
    save: Path


@pytest.fixture
def tiny_run(tmp_path: Path, tiny_manifest: Callable[..., Manifest]) -> Callable[..., TinyRun]:
    """Return a function that makes a tiny run; keyword arguments replace settings of its configuration."""

    def make(**settings: Any) -> TinyRun:
        tokenizer = tmp_path / "tokenizer.model"
        tokenizer.write_bytes(b"no real tokenizer: training only looks at its fingerprint")
        save_manifest(
            tiny_manifest(tmp_path, fingerprint=fingerprint_file(tokenizer)), tmp_path / "manifest.json"
        )
        values = {
            "num_layers": 2,
            "hidden_size": 32,
            "num_attention_heads": 4,
            "num_kv_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 64,
            "tokenizer_type": "SPMTokenizer",
            "vocab_file": str(tokenizer),
            "data_manifest": str(tmp_path / "manifest.json"),
            "seq_length": 32,
            "train_batch_size": 8,
            "train_micro_batch_size_per_gpu": 2,
            "optimizer": {"type": "AdamW", "params": {"lr": 0.01, "betas": [0.9, 0.95]}},
            "lr_decay_style": "cosine",
            "min_lr": 0.001,
            "train_iters": 12,
            "checkpoint_factor": 3,
            "eval_interval": 6,
            "log_interval": 5,
            "save": str(tmp_path / "run"),
            "num_threads": 1,
            **settings,
        }
        config = tmp_path / "tiny.yml"
        config.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
        return TinyRun(tmp_path, config, tmp_path / "run")

    return make
