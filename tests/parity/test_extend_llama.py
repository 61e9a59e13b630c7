"""Llama 2's and Llama 3's own tokenizers, extended for scripts that they hardly know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron.corpus.extension_sources import extension_sources
from megatron.tokenizer.extend.extend import ExtendSettings, extend_tokenizer
from megatron.tokenizer.extend.extension import Extension
from megatron.tokenizer.extend.source import Source
from megatron.tokenizer.load import load_tokenizer

LANGUAGES = ("eng", "tel", "guj", "kat", "fin", "tha", "vai", "amh", "khk", "mya")


@pytest.fixture(scope="module")
def sources(shared: Path) -> list[Source]:
    files = [
        path for name in LANGUAGES if (path := shared / "data" / "udhr" / "raw" / f"{name}.jsonl").is_file()
    ]
    assert len(files) > 6
    readme = Path(__file__).resolve().parents[2] / "README.md"
    limits = {"max_bytes_per_corpus": 100_000, "max_pivot_bytes": 100_000}
    return extension_sources(files, pivots=["eng_Latn"], pivot_texts=[readme], **limits)


@pytest.mark.parametrize(
    ("name", "kind", "size"), [("llama2", "SPMTokenizer", 33_024), ("llama3", "HFTokenizer", 129_280)]
)
def test_llamas_tokenizers_are_extended(
    tmp_path: Path, shared: Path, sources: list[Source], name: str, kind: str, size: int
) -> None:
    path = shared / "data" / "tokenizers" / name / "tokenizer.model"
    settings = ExtendSettings(new_tokens=1000, parallel="eng", max_held_out_changed=0.2)
    report = extend_tokenizer(path, sources, tmp_path / "out", settings)
    assert all(gate.passes for gate in report.gates)
    file = tmp_path / "out" / ("tokenizer.model" if kind == "SPMTokenizer" else "tokenizer.json")
    new = load_tokenizer(kind, file)
    assert new.vocab_size == Extension.load(tmp_path / "out").new_size == size
    premium = {row.script: (row.premium_before, row.premium_after) for row in report.scripts}
    before, after = premium["Telu"]
    assert before is not None and after is not None
    assert before > 9
    assert after < before / 2
    assert premium["Latn"][1] is not None and premium["Latn"][1] <= premium["Latn"][0]  # type: ignore[operator]
    if name == "llama3":  # Meta's special tokens keep their ids
        vocab = json.loads(file.read_text())["model"]["vocab"]
        assert (vocab["<|begin_of_text|>"], vocab["<|end_of_text|>"]) == (128_000, 128_001)
        assert new.eod_id == 128_001
