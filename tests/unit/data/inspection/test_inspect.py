from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron.data.indexed import ShardWriter
from megatron.data.inspection.inspect import InspectError, Inspector, check_plan
from megatron.data.inspection.inspect_text import document_lines, excerpt, find_shard, step_lines, visible
from megatron.data.loader import Loader
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo
from megatron.data.mixture import RunSize, plan_mixture
from megatron.data.parts import Parts

SIZES = {"eng_Latn": [30, 5, 1, 17, 40], "swh_Latn": [3, 2], "amh_Ethi": [9]}
SEQ_LENGTH = 16


class Numbers:
    """Shows ids as they are."""

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))


def corpora(folder: Path) -> Manifest:
    """One file per corpus; every token tells corpus and place."""
    shards = []
    for index, (name, lengths) in enumerate(SIZES.items()):
        with ShardWriter(folder / name, dtype="uint16") as writer:
            writer.add_documents(np.arange(sum(lengths)) + 100 * index, np.array(lengths))
        language, script = name.split("_")
        shards.append(
            ShardInfo(
                name=name, path=name, split="train", source="monolingual", language=language, script=script,
                documents=len(lengths), words=1, tokens=sum(lengths), bytes=1, unk_tokens=0, dtype="uint16",
                content_hash=writer.content_hash,
            )
        )  # fmt: skip
    return Manifest(TokenizerInfo("SPMTokenizer", "f", 2000, 2), tuple(shards), root=folder)


@pytest.fixture
def inspector(tmp_path: Path) -> Inspector:
    manifest = corpora(tmp_path)
    mixture = plan_mixture(manifest, None, run=RunSize(seq_length=SEQ_LENGTH, batch_size=4, train_iters=10))
    order = mixture.order(seed=5, seq_length=SEQ_LENGTH)
    return Inspector(manifest=manifest, mixture=mixture, order=order, tokenizer=Numbers())  # type: ignore[arg-type]


def test_pieces_are_what_the_loader_reads(inspector: Inspector) -> None:
    shards = [corpus.shard for corpus in inspector.mixture.trained]
    loader = Loader(order=inspector.order, manifest=inspector.manifest, shards=shards)
    parts = Parts(inspector.manifest.root)
    for sample in range(80):
        where, pieces = inspector.order.sample(sample), list(inspector.pieces(sample))
        shard = shards[where.corpus]
        assert {(piece.corpus, piece.epoch, piece.window) for piece in pieces} == {
            (shard.name, where.epoch, where.window)
        }
        read = [int(number) for piece in pieces for number in piece.text.split()]
        assert read == loader.sample(sample).tolist()
        for piece in pieces:
            document = parts.open(shard).document(piece.document)
            assert piece.document_tokens == len(document)
            stretch = document[piece.offset : piece.offset + piece.tokens]
            assert piece.text == " ".join(map(str, stretch))
    # A corpus of 5 tokens goes around its ring several times in one sample.
    assert any(len(list(inspector.pieces(sample))) > 5 for sample in range(80))


def test_step_as_text(inspector: Inspector) -> None:
    lines = list(step_lines(inspector, 3, range(8, 12), origin="planned", width=4, shown=2))
    assert lines[0].startswith("step 3: samples 8 to 11 (planned); steps count from 1")
    first = next(inspector.pieces(8))
    assert lines[1].startswith(f"sample 8  {first.code}  monolingual  tier untiered  epoch {first.epoch}  window ")
    assert lines[2].startswith(f"    document {first.document}: ")
    assert sum(line.startswith("sample") for line in lines) == 2
    assert "... and 2 more samples" in lines
    total = lines[-1].splitlines()[-1].split()
    assert total[-3:] == ["4", "64", "100.00%"]
    assert inspector.languages(range(8, 12))[0][1] >= 1


def test_step_as_records(inspector: Inspector) -> None:
    pieces = [piece for sample in range(8, 12) for piece in inspector.pieces(sample)]
    rows = [json.loads(line) for line in step_lines(inspector, 3, range(8, 12), origin="", style="json")]
    assert rows == [{"step": 3, **dataclasses.asdict(piece)} for piece in pieces]
    heading, *lines = step_lines(inspector, 3, range(8, 12), origin="", style="tsv")
    assert heading.split("\t")[:3] == ["step", "sample", "corpus"]
    assert [line.split("\t")[1] for line in lines] == [str(piece.sample) for piece in pieces]


def test_one_document(inspector: Inspector) -> None:
    manifest = inspector.manifest
    lines = list(document_lines(manifest, "eng_Latn", 3))
    assert lines[0] == "document 3 of 5 of eng_Latn (train), eng_Latn, monolingual"
    assert "tokens 36 to 53, bytes 72 to 106" in lines[1]
    assert lines[2] == f"17 ids: {' '.join(map(str, range(36, 53)))}"
    with pytest.raises(InspectError, match=r"no corpus 'eng_latn' \(train\); there is eng_Latn \(train\)"):
        find_shard(manifest, "eng_latn", "train")
    with pytest.raises(ValueError, match="document 5 asked for, it has 5"):
        list(document_lines(manifest, "eng_Latn", 5))


def test_nothing_breaks_a_line_or_the_terminal() -> None:
    assert visible("a\nb\x1b[31m\u2028\u202e") == r"a\nb\x1b[31m\u2028\u202e"
    assert visible("שלום नमस्ते \u200d") == "שלום नमस्ते \u200d"
    assert excerpt("x" * 20, None) == "x" * 20
    assert excerpt("abcdefghijkl", 2) == "ab ... kl"
    assert excerpt("abcdefg", 2) == "abcdefg"
    assert excerpt("abcdefgh", 0) == " ... "


def test_data_other_than_the_recorded_are_refused(inspector: Inspector) -> None:
    rows: list[dict[str, Any]] = inspector.mixture.rows(inspector.order, samples=40)
    check_plan(inspector.mixture, rows)
    rows[0]["tokens"] += 1
    rows[1]["share"] *= 1.001
    rows[2]["corpus"] = "other"
    with pytest.raises(InspectError) as caught:
        check_plan(inspector.mixture, rows)
    for words in ("is new", "other is gone", "tokens, had", "has share"):
        assert words in str(caught.value)
