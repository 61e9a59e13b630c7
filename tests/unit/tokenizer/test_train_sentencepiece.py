from __future__ import annotations

from pathlib import Path

import pytest

from megatron.tokenizer.base import TokenizerError
from megatron.tokenizer.load import load_tokenizer
from megatron.tokenizer.train import train_sentencepiece


def test_the_same_texts_give_the_same_file(tmp_path: Path, sp_model: Path, texts: list[str]) -> None:
    train_sentencepiece(iter(texts * 3), tmp_path / "again.model", vocab_size=700)
    assert (tmp_path / "again.model").read_bytes() == sp_model.read_bytes()


def test_drawing_lines_is_deterministic_too(tmp_path: Path, texts: list[str]) -> None:
    many = [f"{text} {number}" for number in range(30) for text in texts]
    for name in "ab":
        train_sentencepiece(many, tmp_path / name, vocab_size=560, input_sentence_size=120)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    train_sentencepiece(many, tmp_path / "c", vocab_size=560)
    assert (tmp_path / "c").read_bytes() != (tmp_path / "a").read_bytes()


def test_rare_characters_become_bytes_and_digits_single_pieces(sp_model: Path) -> None:
    tokenizer = load_tokenizer("SPMTokenizer", sp_model)
    ids = tokenizer.encode("𓀀")
    assert tokenizer.unk_id not in ids
    assert len(ids) == 1 + 4  # the space in front, and four bytes
    assert tokenizer.decode(ids) == "𓀀"
    digits = tokenizer.encode("2026")
    assert len(digits) == 5
    assert digits[1] == digits[3]


def test_long_lines_and_reserved_characters_are_learnt_from(tmp_path: Path) -> None:
    # The trainer would leave out each of these lines without a word.
    train_sentencepiece(
        ["zebra " * 5000, "quagga\u2581quagga\u2585quagga\0quagga " * 50], tmp_path / "m", vocab_size=290
    )
    tokenizer = load_tokenizer("SPMTokenizer", tmp_path / "m")
    assert len(tokenizer.encode("zebra")) == 1
    assert len(tokenizer.encode("quagga")) <= 2


def test_too_little_text_is_an_error(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(TokenizerError, match="no text to learn from"):
        train_sentencepiece(["", " \n "], tmp_path / "m", vocab_size=300)
    with pytest.raises(TokenizerError, match="more than 100"):
        train_sentencepiece(texts, tmp_path / "m", vocab_size=300, input_sentence_size=100)
    with pytest.raises(TokenizerError, match=r"vocabulary of 5000.*--vocab-size"):
        train_sentencepiece(texts[:1], tmp_path / "m", vocab_size=5000)
    assert list(tmp_path.iterdir()) == []
