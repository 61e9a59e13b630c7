"""Corpora to learn from and pivots, from files."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from megatron.corpus.extension_sources import extension_sources
from megatron.corpus.read import CorpusError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, texts in {"eng_Latn": ["one", "two"], "ell_Grek": ["ένα", "δύο"], "code": ["x = 1"]}.items():
        lines = [json.dumps({"text": text, "body": text[::-1]}) for text in texts]
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


LIMITS = {"max_bytes_per_corpus": 100, "max_pivot_bytes": 100}


def test_pivots_are_named_by_code_or_corpus(folder: Path) -> None:
    sources = extension_sources([folder / "in"], pivots=["eng_Latn", "code"], pivot_texts=[], **LIMITS)
    assert {source.name: source.is_pivot for source in sources} == {"code": True, "ell_Grek": False, "eng_Latn": True}
    greek = next(source for source in sources if source.name == "ell_Grek")
    assert list(greek.read()) == list(greek.read()) == ["ένα", "δύο"]
    assert greek.code == "ell_Grek"


def test_pivot_texts_are_files_of_either_kind(folder: Path) -> None:
    (folder / "plain.txt").write_text("a\nb\n\n" + "c" * 200)
    (folder / "more.jsonl").write_text('{"text": "more"}\n')
    files = [folder / "plain.txt", folder / "more.jsonl"]
    sources = extension_sources([folder / "in"], pivots=[], pivot_texts=files, **LIMITS)
    pivots = {source.name: list(source.read()) for source in sources if source.is_pivot}
    assert pivots == {f"pivot:{folder / 'plain.txt'}": ["a\nb\n\n" + "c" * 95], "pivot:more": ["more"]}


def test_a_long_plain_text_comes_in_documents_that_are_whole_lines(folder: Path) -> None:
    lines = [f"line {number} é" for number in range(20_000)]
    (folder / "plain.txt").write_text("\n".join(lines) + "\n")
    source = extension_sources(
        [folder / "in"], pivots=[], pivot_texts=[folder / "plain.txt"], max_bytes_per_corpus=1, max_pivot_bytes=10**6
    )[-1]
    documents = list(source.read())
    assert len(documents) > 3
    assert "\n".join(documents).split("\n") == lines


def test_limits_are_bytes(folder: Path) -> None:
    limits = {"max_bytes_per_corpus": 7, "max_pivot_bytes": 4}
    sources = extension_sources([folder / "in"], pivots=["eng_Latn"], pivot_texts=[], text_key="body", **limits)
    read = {source.name: list(source.read()) for source in sources}
    assert read == {"code": ["1 = x"], "ell_Grek": ["ανέ", ""], "eng_Latn": ["eno", "o"]}


def test_mistakes_are_told(folder: Path) -> None:
    with pytest.raises(CorpusError, match=r"pivots abc_Latn, python: no corpus .* are code, ell_Grek, eng_Latn"):
        extension_sources([folder / "in"], pivots=["abc_Latn", "code", "python"], pivot_texts=[], **LIMITS)
    with pytest.raises(CorpusError, match="two corpora are named code, ell_Grek, eng_Latn"):
        extension_sources([folder / "in", folder / "in"], pivots=[], pivot_texts=[], **LIMITS)
    with pytest.raises(ValueError, match="max_pivot_bytes 0"):
        extension_sources([folder], pivots=[], pivot_texts=[], max_bytes_per_corpus=1, max_pivot_bytes=0)
    with pytest.raises(CorpusError, match="no such file"):
        extension_sources([folder / "in"], pivots=[], pivot_texts=[folder / "no"], **LIMITS)


def test_a_pivot_that_is_longer_than_what_is_read_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "plain.txt").write_text("a" * 11)
    limits = {"max_bytes_per_corpus": 3, "max_pivot_bytes": 6}
    sources = extension_sources([folder / "in"], pivots=["eng_Latn"], pivot_texts=[folder / "plain.txt"], **limits)
    assert {source.name: source.is_cut for source in sources} == {
        "code": True, "ell_Grek": True, "eng_Latn": False, f"pivot:{folder / 'plain.txt'}": True,
    }  # fmt: skip
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1 and "--max-pivot-bytes" in told[0] and "plain.txt" in told[0] and "11 bytes" in told[0]


def test_no_more_of_a_line_is_read_than_is_used(tmp_path: Path, folder: Path) -> None:
    with (tmp_path / "long.txt").open("wb") as file:
        file.truncate(200 << 20)
    limits = {"max_bytes_per_corpus": 100, "max_pivot_bytes": 1000}
    source = extension_sources([folder / "in"], pivots=[], pivot_texts=[tmp_path / "long.txt"], **limits)[-1]
    tracemalloc.start()
    try:
        assert [len(text) for text in source.read()] == [1000]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_documents_have_the_numbers_of_their_lines(tmp_path: Path) -> None:
    (tmp_path / "in" / "swh_Latn").mkdir(parents=True)
    first = '{"text": "a"}\n{"text": " "}\n\n{"text": "d"}\n{"text": ""}\n'
    (tmp_path / "in" / "swh_Latn" / "1.jsonl").write_text(first)
    (tmp_path / "in" / "swh_Latn" / "2.jsonl").write_text('{"text": "f"}\n')
    (source,) = extension_sources([tmp_path / "in"], pivots=[], pivot_texts=[], **LIMITS)
    assert list(source.read()) == ["a", "", "", "d", "", "f"]


def test_code_stands_for_all_corpora_of_code(folder: Path) -> None:
    (folder / "in" / "code-python.jsonl").write_text('{"text": "y = 2"}\n')
    sources = extension_sources([folder / "in"], pivots=["code"], pivot_texts=[], **LIMITS)
    assert [source.name for source in sources if source.is_pivot] == ["code", "code-python"]


def test_a_weight_of_a_pivot_is_refused(folder: Path) -> None:
    weighted = ["eng_Latn", "ell_Grek"]
    with pytest.raises(CorpusError, match="--weights eng_Latn: a pivot"):
        extension_sources([folder / "in"], pivots=["eng_Latn"], pivot_texts=[], weighted=weighted, **LIMITS)
