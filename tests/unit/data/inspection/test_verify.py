from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from megatron.data.indexed import ShardReader, ShardWriter, bin_path, idx_path
from megatron.data.inspection import verify_content
from megatron.data.inspection.verify import VerifyError, find_targets, verdict_lines, verify, verify_file
from megatron.data.manifest import (
    Manifest,
    ShardInfo,
    Sidecar,
    TokenizerInfo,
    load_sidecar,
    save_manifest,
    save_sidecar,
    sidecar_path,
)

TOKENIZER = TokenizerInfo("SPMTokenizer", "ab12", 100, 2, 1, prepend_bos=True)


def write(folder: Path, name: str, documents: list[list[int]], *, split: str = "train") -> ShardInfo:
    prefix = folder / f"{name}{'' if split == 'train' else '_valid'}_document"
    with ShardWriter(prefix, dtype="uint16") as writer:
        for document in documents:
            writer.add_document(np.array(document))
    language, script = name.split("_")
    shard = ShardInfo(
        name=name, path=prefix.name, split=split, source="monolingual", language=language, script=script,
        documents=len(documents), words=5, tokens=writer.num_tokens, bytes=9, unk_tokens=0, dtype="uint16",
        content_hash=writer.content_hash,
    )  # fmt: skip
    save_sidecar(Sidecar(shard, TOKENIZER, "m"), prefix)
    return shard


def problems(*paths: Path, workers: int = 1) -> list[str]:
    verdicts = verify(paths, workers=workers, show_progress=False)
    return [problem for verdict in verdicts for problem in verdict.problems]


def test_sound_shards_have_no_problems(tmp_path: Path) -> None:
    shards = [write(tmp_path, name, [[1, 5, 2], [1, 2], [1, 9, 9, 2]]) for name in ("eng_Latn", "swh_Latn")]
    save_manifest(Manifest(TOKENIZER, tuple(shards)), tmp_path / "manifest.json")
    for workers in (1, 3):
        verdicts = verify([tmp_path], workers=workers, show_progress=False)
        assert [(v.documents, v.tokens, v.corpora, v.problems, v.unknown) for v in verdicts] == [(3, 9, 1, (), ())] * 2
    lines = list(verdict_lines(verdicts))
    assert len(lines) == 1
    assert lines[0].splitlines()[-1].split()[:5] == ["all", "2", "2", "6", "18"]
    # A shard alone is known by its sidecar; any of its names will do.
    for path in ("eng_Latn_document", "eng_Latn_document.bin", "eng_Latn_document.idx"):
        assert problems(tmp_path / path) == []
    with pytest.raises(ValueError, match="at least 1"):
        verify([tmp_path], workers=0)


def test_every_problem_is_told(tmp_path: Path) -> None:
    shard = write(tmp_path, "eng_Latn", [[1, 5, 2], [5, 2], [], [1, 100, 7], [1, 2, 2]])
    save_manifest(Manifest(TOKENIZER, (replace(shard, words=6),)), tmp_path / "manifest.json")
    data = bytearray(bin_path(tmp_path / shard.path).read_bytes())
    data[2] = 77
    bin_path(tmp_path / shard.path).write_bytes(data)
    found = problems(tmp_path)
    for words in (
        "words 5, the manifest says 6",
        "1 tokens are outside the vocabulary of 100: at 6",
        "1 documents have no tokens: 2",
        "1 documents do not end with 2: 3",
        "1 documents do not begin with 1: 1",
        "content hash",
    ):
        assert sum(words in line for line in found) == 1, (words, found)
    with pytest.raises(VerifyError, match=r"6 problems in 1 file$"):
        list(verdict_lines(verify([tmp_path], show_progress=False)))


def test_blocks_do_not_change_what_is_found(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    documents = [random.integers(0, 6, size=int(random.integers(0, 5))).tolist() for _ in range(300)]
    write(tmp_path, "eng_Latn", documents)
    with_tokens = [(number, document) for number, document in enumerate(documents) if document]
    expected = {
        "have no tokens": [number for number, document in enumerate(documents) if not document],
        "do not end with 2": [number for number, document in with_tokens if document[-1] != 2],
        "do not begin with 1": [number for number, document in with_tokens if document[0] != 1],
    }
    whole = problems(tmp_path / "eng_Latn_document")
    for block_tokens in (1, 2, 7, 64):
        with (
            mock.patch.object(verify_content, "_BLOCK_TOKENS", block_tokens),
            mock.patch("megatron.data.shard_index.BLOCK_ENTRIES", 5),
        ):
            assert sorted(problems(tmp_path / "eng_Latn_document")) == sorted(whole)
    for rule, numbers in expected.items():
        line = next(line for line in whole if rule in line)
        assert f"{len(numbers):,} documents {rule}: {', '.join(map(str, numbers[:5]))}, ..." in line


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    shard = write(tmp_path, "eng_Latn", [[1, 5, 2], [7]])
    sidecar_path(tmp_path / shard.path).unlink()
    (verdict,) = verify([tmp_path / shard.path], show_progress=False)
    assert (verdict.problems, len(verdict.unknown)) == ((), 1)
    assert next(verdict_lines([verdict])).startswith("not checked: ")
    assert "content hash" in verdict.unknown[0]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([(0, 2, 0, 6), (2, 2, 6, 6)], []),
        ([(0, 2, 0, 6), (3, 1, 9, 3)], ["documents 2 to 3, between a", "tokens 6 to 9, between a"]),
        ([(0, 3, 0, 9), (2, 2, 6, 6)], ["documents 2 to 3 belong to a", "tokens 6 to 9 belong to a"]),
        ([(1, 1, 3, 3), (2, 1, 6, 3)], ["tokens 0 to 3, between the beginning", "documents 3 to 4, after b"]),
        ([(0, 2, 0, 5), (2, 2, 5, 7)], ["its documents 0 to 2"]),
    ],
)
def test_parts_of_a_container_lie_end_to_end(tmp_path: Path, parts: list[tuple[int, ...]], words: list[str]) -> None:
    whole = write(tmp_path, "eng_Latn", [[1, 5, 2]] * 4)
    sidecar_path(tmp_path / whole.path).unlink()
    shards = tuple(
        replace(whole, name=name, first_document=first, documents=count, first_token=token, tokens=tokens)
        for name, (first, count, token, tokens) in zip("ab", parts, strict=True)
    )
    (target,) = find_targets_of(Manifest(TOKENIZER, shards, tmp_path))
    found = verify_file(target).problems
    assert bool(found) == bool(words)
    for each in words:
        assert any(each in line for line in found), (each, found)


def find_targets_of(manifest: Manifest) -> list:
    with mock.patch("megatron.data.inspection.verify.load_manifest", return_value=manifest):
        return find_targets(manifest.root)


def test_sidecars_of_one_corpus_belong_together(tmp_path: Path) -> None:
    shards = [write(tmp_path, "eng_Latn", [[1, 5, 2]], split=split) for split in ("train", "valid")]
    save_manifest(Manifest(TOKENIZER, tuple(shards)), tmp_path / "manifest.json")
    assert sum("0 documents are held out, the manifest lists 1" in line for line in problems(tmp_path)) == 2
    for shard in shards:
        sidecar = load_sidecar(sidecar_path(tmp_path / shard.path))
        save_sidecar(replace(sidecar, held_out_documents=1, made_from=shard.split), tmp_path / shard.path)
    assert [line for line in problems(tmp_path) if "differ in made_from" in line] == problems(tmp_path)


def test_a_missing_file_stops_nothing(tmp_path: Path) -> None:
    shards = [write(tmp_path, name, [[1, 5, 2]]) for name in ("eng_Latn", "swh_Latn")]
    save_manifest(Manifest(TOKENIZER, tuple(shards)), tmp_path / "manifest.json")
    idx_path(tmp_path / shards[0].path).unlink()
    verdicts = verify([tmp_path, tmp_path / "nothing", tmp_path / "other" / "manifest.json"], show_progress=False)
    by_name = {verdict.path.name: verdict.problems for verdict in verdicts}
    assert by_name["swh_Latn_document"] == ()
    assert all("cannot be read" in by_name[name][0] for name in ("eng_Latn_document", "nothing", "manifest.json"))


def test_a_document_is_found_without_reading_the_whole_index(tmp_path: Path) -> None:
    documents = 200_000
    with ShardWriter(tmp_path / "x", dtype="uint16") as writer:
        writer.add_documents(np.zeros(documents * 3, dtype=np.int64), np.full(documents, 3))
    reader, read_bytes = ShardReader(tmp_path / "x"), []
    preadv = os.preadv

    def count(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        read_bytes.append(len(buffers[0]))
        return preadv(descriptor, buffers, offset)

    with mock.patch("os.preadv", count):
        assert [reader.document_at(token) for token in (0, 299_999, 599_999)] == [0, 99_999, 199_999]
    assert sum(read_bytes) < 3 * 8192
