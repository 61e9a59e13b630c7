from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from megatron.data.indexed import ShardWriter
from megatron.data.manifest import ShardInfo, TokenizerInfo
from megatron.evaluation.bits_per_byte import HeldOutSet
from megatron.model.llama import Llama
from megatron.model.loss import IGNORE
from megatron.parallel.engine import Engine
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import World

ALONE = World(rank=0, size=1, device=torch.device("cpu"))
EOD, BOS = 2, 1
DOCUMENTS = {"aaa": [[5, 6, 7], [8]], "bbb": [list(range(3, 40))]}


def held_out(folder: Path, *, prepend_bos: bool, seq_length: int = 10) -> HeldOutSet:
    shards = []
    for name, documents in DOCUMENTS.items():
        with ShardWriter(folder / name, dtype=np.uint16) as writer:
            for text in documents:
                writer.add_document(np.array([BOS] * prepend_bos + text + [EOD], dtype=np.uint16))
        shards.append(
            ShardInfo(
                name=name,
                path=name,
                split="valid",
                source="monolingual",
                language=name,
                script="Latn",
                documents=len(documents),
                words=1,
                tokens=writer.num_tokens,
                bytes=50,
                unk_tokens=0,
                dtype="uint16",
                content_hash="",
            )
        )
    tokenizer = TokenizerInfo("SPMTokenizer", "f", 64, EOD, BOS, prepend_bos=prepend_bos)
    return HeldOutSet(folder=folder, shards=shards, tokenizer=tokenizer, seq_length=seq_length)


def in_one_file(folder: Path, *, prepend_bos: bool) -> HeldOutSet:
    """The same documents, all corpora in one file between documents of others."""
    apart = held_out(folder, prepend_bos=prepend_bos)
    shards = []
    with ShardWriter(folder / "all", dtype=np.uint16) as writer:
        for shard in apart.shards:
            writer.add_document(np.array([60, 61, 62, EOD], dtype=np.uint16))
            first = {"first_document": writer.num_documents, "first_token": writer.num_tokens}
            shards.append(dataclasses.replace(shard, path="all", **first))
            for text in DOCUMENTS[shard.name]:
                writer.add_document(np.array([BOS] * prepend_bos + text + [EOD], dtype=np.uint16))
    tokenizer = TokenizerInfo("SPMTokenizer", "f", 64, EOD, BOS, prepend_bos=prepend_bos)
    return HeldOutSet(folder=folder, shards=shards, tokenizer=tokenizer, seq_length=10)


class Uniform(nn.Module):
    """Knows nothing, and remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[list[int], list[int]]] = []

    def forward(
        self, tokens: Tensor, *, targets: Tensor, each: bool, positions: None = None, pattern: None = None
    ) -> Tensor:
        assert each and positions is None and pattern is None, "held-out text is read as it was in training"
        for row, wanted in zip(tokens.tolist(), targets.tolist(), strict=True):
            end = max(at for at, target in enumerate(wanted) if target >= 0) + 1
            self.seen.append((row[:end], wanted[:end]))
        return torch.where(targets >= 0, math.log(64), 0.0).unsqueeze(-1).expand(*targets.shape, 2)


@pytest.mark.parametrize("prepend_bos", [True, False])
def test_every_token_of_the_text_is_scored_once_after_the_right_start(tmp_path: Path, prepend_bos: bool) -> None:
    model = Uniform()
    rows = held_out(tmp_path, prepend_bos=prepend_bos).score(Engine.alone(cast(Llama, model)), batch_tokens=25)
    scored = sorted(target for _, targets in model.seen for target in targets if target >= 0)
    assert scored == sorted(token for documents in DOCUMENTS.values() for text in documents for token in text)
    first = BOS if prepend_bos else EOD
    for inputs, targets in model.seen:
        assert inputs[0] == first
        assert all(
            target in (IGNORE, token) for token, target in zip(inputs[1:], targets[:-1], strict=True)
        )
    assert [row.tokens for row in rows] == [4, 37]
    assert [row.nats for row in rows] == pytest.approx([4 * math.log(64), 37 * math.log(64)])
    assert [row.bytes for row in rows] == [50, 50]


def small_model() -> Llama:
    model = Llama(Architecture(64, 16, 32, 2, 2, 1, 8, 64, initializer_range=0.3))
    model.init_weights(seed=0)
    return model


def test_the_score_does_not_depend_on_batches_or_processes(tmp_path: Path) -> None:
    data, model = held_out(tmp_path, prepend_bos=True), small_model()

    def nats(batch_tokens: int, world: World = ALONE) -> list[float]:
        mesh = Mesh(Layout(replicas=world.size), world)
        engine = Engine([model], mesh, execution=Execution(), shape=(1, 1), micro_batches=1)
        return [row.nats for row in data.score(engine, batch_tokens=batch_tokens)]

    whole = nats(1000)
    assert nats(1) == pytest.approx(whole, rel=1e-6)
    assert nats(23) == pytest.approx(whole, rel=1e-6)

    class Part(World):
        def sum(self, tensor: Tensor) -> Tensor:
            return tensor

    parts = [nats(23, Part(rank=rank, size=3, device=torch.device("cpu"))) for rank in range(3)]
    assert [sum(part) for part in zip(*parts, strict=True)] == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("prepend_bos", [False, True])
def test_a_part_of_a_file_scores_as_a_file_of_its_own(tmp_path: Path, prepend_bos: bool) -> None:
    model = small_model()
    apart, together = (
        make(tmp_path, prepend_bos=prepend_bos).score(Engine.alone(model), batch_tokens=100)
        for make in (held_out, in_one_file)
    )
    assert together == apart


def test_agrees_with_the_models_own_loss(tmp_path: Path) -> None:
    model = small_model()
    rows = held_out(tmp_path, prepend_bos=True, seq_length=64).score(Engine.alone(model), batch_tokens=1000)
    text = torch.tensor([[BOS, *DOCUMENTS["bbb"][0]]])
    expected = model(text[:, :-1], targets=text[:, 1:]).item()
    assert rows[1].nats == pytest.approx(expected, rel=1e-6)


def test_scoring_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = small_model().train()
    held_out(tmp_path, prepend_bos=True).score(Engine.alone(model, dtype=torch.bfloat16), batch_tokens=100)
    assert model.training
    assert all(parameter.grad is None and parameter.dtype == torch.float32 for parameter in model.parameters())
