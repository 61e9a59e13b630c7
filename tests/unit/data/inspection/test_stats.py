from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.data.indexed import ShardError, ShardWriter
from megatron.data.inspection.merge import merge
from megatron.data.inspection.stats import Lengths, corpus_stats, report, stats_table
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo, save_manifest


def write(
    folder: Path, name: str, lengths: list[int], *, source: str = "monolingual", split: str = "train"
) -> ShardInfo:
    with ShardWriter(folder / f"{name}_{split}_document", dtype="uint16") as writer:
        writer.add_documents(np.zeros(sum(lengths), dtype=np.int64), np.array(lengths))
    language, script = name.split("_")
    return ShardInfo(
        name=name, path=writer.prefix.name, split=split, source=source, language=language, script=script,
        documents=len(lengths), words=sum(lengths) // 2, tokens=sum(lengths), bytes=4 * sum(lengths), unk_tokens=1,
        dtype="uint16", content_hash=writer.content_hash,
    )  # fmt: skip


def corpora(folder: Path) -> Manifest:
    shards = (
        write(folder, "eng_Latn", list(range(1, 101))),
        write(folder, "eng_Latn", [500], split="valid"),
        write(folder, "swh_Latn", [7, 7, 7], source="books"),
        write(folder, "amh_Ethi", [3]),
    )
    save_manifest(Manifest(TokenizerInfo("SPMTokenizer", "f", 100, 2), shards), folder / "manifest.json")
    return Manifest(TokenizerInfo("SPMTokenizer", "f", 100, 2), shards, folder)


def test_sums_and_percentiles(tmp_path: Path) -> None:
    stats = {(each.kind, each.name): each for each in corpus_stats(corpora(tmp_path), show_progress=False)}
    english = stats["corpus", "eng_Latn"]
    assert (english.shards, english.documents, english.tokens, english.unk_tokens) == (2, 101, 5550, 2)
    assert english.percentiles == (6, 51, 96, 500)
    assert stats["corpus", "swh_Latn"].percentiles == (7, 7, 7, 7)
    assert stats["source", "monolingual"].documents == 102
    assert stats["script", "Latn"].tokens == 5550 + 21
    assert stats["all", ""].tokens == 5550 + 21 + 3
    assert [name for kind, name in stats if kind == "corpus"] == ["eng_Latn", "swh_Latn", "amh_Ethi"]


def test_containers_have_the_same_statistics(tmp_path: Path) -> None:
    manifest = corpora(tmp_path)
    merged = merge([tmp_path], tmp_path / "merged", show_progress=False)
    assert corpus_stats(merged, show_progress=False) == corpus_stats(manifest, show_progress=False)


def test_tables_and_file(tmp_path: Path) -> None:
    manifest = corpora(tmp_path)
    (table,) = report(manifest, corpora=1, tsv=tmp_path / "stats.tsv")
    lines = table.splitlines()
    assert lines[1].split() == [
        "eng_Latn", "101", "5,550", "2,775", "22,200", "2.00", "4.00", "0.036%", "6", "51", "96", "500",
    ]  # fmt: skip
    assert lines[2] == "... and 2 more"
    assert "... and" not in stats_table(corpus_stats(manifest, show_progress=False))
    rows = [line.split("\t") for line in (tmp_path / "stats.tsv").read_text().splitlines()]
    assert rows[0][-4:] == ["length_p5", "length_p50", "length_p95", "length_p100"]
    assert rows[1][:5] == ["corpus", "eng_Latn", "2", "101", "5550"]


def test_an_entry_of_another_shard_is_refused(tmp_path: Path) -> None:
    manifest = corpora(tmp_path)
    wrong = Manifest(manifest.tokenizer, (replace(manifest.shards[0], documents=99),), tmp_path)
    with pytest.raises(ShardError, match="eng_Latn"):
        corpus_stats(wrong, show_progress=False)


@given(st.lists(st.lists(st.integers(0, 50)), min_size=1))
def test_percentiles_are_exact_whatever_the_blocks(blocks: list[list[int]]) -> None:
    together, parts = Lengths(), Lengths()
    for block in blocks:
        each = Lengths()
        each.add(np.array(block, dtype=np.int64))
        together.merge(each)
        parts.add(np.array(block, dtype=np.int64))
    ordered = sorted(length for block in blocks for length in block)
    expected = tuple(
        next(value for rank, value in enumerate(ordered, start=1) if 100 * rank >= part * len(ordered))
        for part in (5, 50, 95, 100)
    ) if ordered else (0, 0, 0, 0)  # fmt: skip
    assert together.percentiles() == parts.percentiles() == expected
