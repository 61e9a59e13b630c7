from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.data.indexed import ShardError, ShardReader, ShardWriter
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo, check_shard, load_manifest, save_manifest
from megatron.data.parts import Parts

Corpora = list[list[list[int]]]  # corpora of documents of ids


def write_container(folder: Path, corpora: Corpora, *, name: str = "all", dtype: str = "uint16") -> list[ShardInfo]:
    """Write the documents of all corpora into one file, one corpus after another, and return their entries."""
    shards = []
    with ShardWriter(folder / name, dtype=dtype) as writer:
        for number, documents in enumerate(corpora):
            shard = ShardInfo(
                name=f"c{number}",
                path=name,
                split="train",
                source="monolingual",
                language="eng",
                script="Latn",
                documents=len(documents),
                words=1,
                tokens=sum(map(len, documents)),
                bytes=1,
                unk_tokens=0,
                dtype=dtype,
                content_hash="",
                first_document=writer.num_documents,
                first_token=writer.num_tokens,
            )
            for document in documents:
                writer.add_document(np.array(document, dtype=dtype))
            shards.append(shard)
    return [replace(shard, content_hash=writer.content_hash) for shard in shards]


def corpora() -> st.SearchStrategy[Corpora]:
    """Draw corpora; documents may be empty, corpora may not."""
    documents = st.lists(st.lists(st.integers(0, 99), max_size=5), min_size=1, max_size=5)
    return st.lists(documents.filter(any), min_size=1, max_size=5)


@settings(deadline=None, max_examples=60)
@given(corpora=corpora(), dtype=st.sampled_from(["uint16", "int32"]), window=st.integers(1, 40))
def test_every_corpus_sees_its_own_documents(corpora: Corpora, dtype: str, window: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        shards = write_container(Path(name), corpora, dtype=dtype)
        parts = Parts(Path(name))
        for shard, documents in zip(shards, corpora, strict=True):
            part = parts.open(shard)
            stream = [token for document in documents for token in document]
            assert (part.num_documents, part.num_tokens) == (len(documents), len(stream))
            assert part.dtype == np.dtype(dtype)
            assert part.tokens(0, len(stream)).tolist() == stream
            assert [part.document(number).tolist() for number in range(len(documents))] == documents
            for start in range(len(stream)):
                assert part.tokens(start, len(stream)).tolist() == stream[start:]
                place, stop = part.document_span(part.document_at(start))
                assert place <= start < stop
                out = np.full(window, -1)
                part.read_into(start, out)
                assert out.tolist() == [stream[(start + i) % len(stream)] for i in range(window)]


@settings(deadline=None, max_examples=60)
@given(
    corpora=corpora(),
    change=st.sampled_from(["first_document", "documents", "first_token", "tokens"]),
    amount=st.integers(-6, 6).filter(bool),
)
def test_a_part_with_other_borders_is_refused(corpora: Corpora, change: str, amount: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        shards = write_container(Path(name), corpora)
        lengths = [len(document) for documents in corpora for document in documents]
        for shard in shards:
            wrong = replace(shard, **{change: getattr(shard, change) + amount})
            first, last = wrong.first_document, wrong.first_document + wrong.documents
            right = (
                0 <= first < last <= len(lengths)
                and sum(lengths[:first]) == wrong.first_token
                and sum(lengths[:last]) == wrong.first_token + wrong.tokens
            )
            if right:  # empty documents at a border may belong to either side
                Parts(Path(name)).open(wrong)
            else:
                with pytest.raises(ShardError, match=r"all\.idx"):
                    Parts(Path(name)).open(wrong)


CORPORA: Corpora = [[[1, 2, 3], [4, 5]], [[6, 7], [8], [9, 10, 11]], [[12]]]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"documents": 5}, "documents 6, not 7$"),
        ({"tokens": 8, "documents": 5}, "documents 6, not 7; tokens 12, not 13$"),
        ({"dtype": "int32"}, "dtype uint16, not int32$"),
        ({"first_token": 4}, "its documents 2 to 5 lie at tokens 5 to 11, not 4 to 10$"),
        ({"documents": 2}, "its documents 2 to 4 lie at tokens 5 to 8, not 5 to 11$"),
    ],
)
def test_refusals_say_what_differs(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    shard = replace(write_container(tmp_path, CORPORA)[1], **changes)
    with pytest.raises(ShardError) as error:
        check_shard(ShardReader(tmp_path / "all"), shard)
    message, _, advice = str(error.value).rpartition(". Run ")
    assert "tools/preprocess_data.py" in advice
    assert message.startswith(f"{tmp_path / 'all'}.idx: not the shard that the manifest lists as c1 (train): ")
    assert message.endswith(text.removesuffix("$"))


def test_what_a_part_does_not_have_is_refused(tmp_path: Path) -> None:
    part = Parts(tmp_path).open(write_container(tmp_path, CORPORA)[1])
    for call in (
        lambda: part.tokens(-1, 2),
        lambda: part.tokens(0, 7),
        lambda: part.tokens(3, 2),
        lambda: part.read_into(-1, np.empty(2, dtype=np.int64)),
        lambda: part.read_into(6, np.empty(2, dtype=np.int64)),
        lambda: part.document(-1),
        lambda: part.document(3),
        lambda: part.document_at(-1),
        lambda: part.document_at(6),
    ):
        with pytest.raises(ShardError, match=r"all: c1 \(train\): (tokens?|document) .* asked for, it has [36]"):
            call()


def test_one_file_is_opened_once_and_only_when_asked_for(tmp_path: Path) -> None:
    shards = write_container(tmp_path, CORPORA)
    parts = Parts(tmp_path)
    first = parts.open(shards[0])
    (tmp_path / "all.idx").rename(tmp_path / "elsewhere")
    assert parts.open(shards[0]) is first
    assert parts.open(shards[0]).tokens(0, 5).tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(ShardError, match="nowhere"):
        parts.open(replace(shards[0], path="nowhere"))


def test_a_damaged_index_is_an_error_of_the_part(tmp_path: Path) -> None:
    shards = write_container(tmp_path, CORPORA)
    index = bytearray((tmp_path / "all.idx").read_bytes())
    # Every byte after the header, but for the first and last entries, which opening checks.
    for place in range(34, len(index)):
        damaged = bytearray(index)
        damaged[place] ^= 0xFF
        (tmp_path / "all.idx").write_bytes(damaged)
        for shard, documents in zip(shards, CORPORA, strict=True):
            try:
                part = Parts(tmp_path).open(shard)
                found = [part.document(number).tolist() for number in range(part.num_documents)]
                found_at = [part.document_at(token) for token in range(part.num_tokens)]
            except ShardError:
                continue
            assert found == documents
            assert found_at == [number for number, document in enumerate(documents) for _ in document]


def test_a_part_of_a_file_that_has_become_shorter_is_an_error(tmp_path: Path) -> None:
    shards = write_container(tmp_path, CORPORA)
    parts = Parts(tmp_path)
    opened = [parts.open(shard) for shard in shards]
    with (tmp_path / "all.bin").open("r+b") as file:
        file.truncate(15)
    assert opened[0].tokens(0, 5).tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(ShardError, match=r"all\.bin: ends at byte"):
        opened[1].read_into(0, np.empty(20, dtype=np.int64))


def test_containers_go_through_a_manifest(tmp_path: Path) -> None:
    shards = write_container(tmp_path, CORPORA)
    save_manifest(Manifest(TokenizerInfo("SPMTokenizer", "f", 100, 2), tuple(shards)), tmp_path)
    manifest = load_manifest(tmp_path)
    assert manifest.shards == tuple(shards)
    parts = Parts(manifest.root)
    assert [parts.open(shard).tokens(0, 1).tolist() for shard in manifest.shards] == [[1], [6], [12]]
