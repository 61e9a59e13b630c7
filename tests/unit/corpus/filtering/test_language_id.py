"""Language identification with a real fastText model, written byte by byte with known probabilities."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest

from megatron.config.corpus_schema import FiltersConfig, Thresholds
from megatron.corpus.document import CorpusError
from megatron.corpus.filtering.filters import Filters
from megatron.corpus.languages import to_iso639_3

SUPERVISED, SKIP_GRAM, SOFTMAX = 3, 2, 3
ENGLISH, GERMAN, CHINESE = ("hello", "friend"), ("hallo", "freund"), ("你好",)


def write_model(path: Path, labels: list[str], *, kind: int = SUPERVISED, scale: float = 6.0) -> None:
    """Write fastText's format, version 12: a word of language i has the i-th unit vector, and so has its label."""
    groups = enumerate((ENGLISH, GERMAN, CHINESE))
    words = [("</s>", None), *((word, place) for place, group in groups for word in group)]
    dim = 3
    settings = (dim, 5, 5, 1, 5, 1, SOFTMAX, kind, 0, 0, 0, 100)
    data = struct.pack("<2i12id", 793712314, 12, *settings, 1e-4)
    data += struct.pack("<3i2q", len(words) + len(labels), len(words), len(labels), 100, -1)
    for word, _ in words:
        data += word.encode() + b"\0" + struct.pack("<qb", 1, 0)
    for label in labels:
        data += b"__label__" + label.encode() + b"\0" + struct.pack("<qb", 1, 1)
    rows = [[float(place == axis) for axis in range(dim)] for _, place in words]
    for matrix in (rows, [[scale * (place == axis) for axis in range(dim)] for place in range(len(labels))]):
        data += struct.pack("<?2q", False, len(matrix), dim)
        data += b"".join(struct.pack(f"<{dim}f", *row) for row in matrix)
    path.write_bytes(data)


def filters(path: Path, code: str, smallest: float = 0.5) -> Filters:
    pytest.importorskip("fasttext", reason="needs fasttext-predict")
    limits = Thresholds(min_characters=0, min_language_score=smallest)
    settings = FiltersConfig(language_model=str(path), limits=limits)
    return Filters(settings, code=code, source="monolingual", resolve=to_iso639_3)


@pytest.mark.parametrize("labels", [["eng_Latn", "deu_Latn", "zho_Hans"], ["en", "de", "zh"]])
def test_texts_in_another_language_are_dropped(tmp_path: Path, labels: list[str]) -> None:
    model = tmp_path / "model.bin"
    write_model(model, labels)
    text = "hello friend hello"
    for code, right in [("eng_Latn", True), ("deu_Latn", False)]:
        dropped = filters(model, code).check(text)
        assert (dropped is None) == right, code
    assert dropped is not None and dropped.rule == "language" and dropped.limit == 0.5
    logit = 6 * 3 / 4  # the end of the line is a word, too
    assert dropped.value == pytest.approx(1 / (math.exp(logit) + 2), rel=1e-3)


def test_members_agree_with_their_macrolanguage(tmp_path: Path) -> None:
    write_model(tmp_path / "model.bin", ["nob_Latn", "nno_Latn", "cmn_Hani"])
    assert filters(tmp_path / "model.bin", "nor_Latn").check("hello hello") is None  # nob
    assert filters(tmp_path / "model.bin", "nor_Latn").check("hallo hallo") is None  # nno
    assert filters(tmp_path / "model.bin", "nob_Latn").check("hallo hallo") is not None
    assert filters(tmp_path / "model.bin", "zho_Hani").check("你好") is None


def test_a_language_that_the_model_does_not_know_is_not_filtered(tmp_path: Path) -> None:
    write_model(tmp_path / "model.bin", ["eng_Latn", "deu_Latn", "zho_Hani"])
    unknown = filters(tmp_path / "model.bin", "swh_Latn")
    assert unknown.not_applied == ("language",)
    assert unknown.check("hello hello") is None


def test_a_changed_model_is_read_again(tmp_path: Path) -> None:
    model = tmp_path / "model.bin"
    write_model(model, ["eng_Latn", "deu_Latn", "zho_Hani"])
    assert filters(model, "eng_Latn").check("hello") is None
    write_model(model, ["deu_Latn", "eng_Latn", "zho_Hani"])
    assert filters(model, "eng_Latn").check("hello") is not None


def test_word_vectors_are_no_language_model(tmp_path: Path) -> None:
    write_model(tmp_path / "model.bin", ["eng_Latn"], kind=SKIP_GRAM)
    with pytest.raises(CorpusError, match="tells no languages apart"):
        filters(tmp_path / "model.bin", "eng_Latn")
