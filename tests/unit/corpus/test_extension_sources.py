"""Corpora to learn from and pivots, from files."""

from __future__ import annotations

import json
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
    with pytest.raises(CorpusError, match="pivots abc_Latn, python: no corpus"):
        extension_sources([folder / "in"], pivots=["abc_Latn", "code", "python"], pivot_texts=[], **LIMITS)
    with pytest.raises(CorpusError, match="two corpora are named code, ell_Grek, eng_Latn"):
        extension_sources([folder / "in", folder / "in"], pivots=[], pivot_texts=[], **LIMITS)
    with pytest.raises(ValueError, match="max_pivot_bytes 0"):
        extension_sources([folder], pivots=[], pivot_texts=[], max_bytes_per_corpus=1, max_pivot_bytes=0)
    with pytest.raises(CorpusError, match="no such file"):
        extension_sources([folder / "in"], pivots=[], pivot_texts=[folder / "no"], **LIMITS)
