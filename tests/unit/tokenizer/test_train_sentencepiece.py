from __future__ import annotations

import re
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
    with pytest.raises(TokenizerError, match="--vocab-size 0: must be at least 1"):
        train_sentencepiece(texts, tmp_path / "m", vocab_size=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("vocab_size", "step", "reason"),
    [
        (5000, 1, r"the largest possible is (\d+)\. Give --vocab-size \1 or less, or more text$"),
        (300, -1, r"its characters alone need (\d+)\. Give --vocab-size \1 or more, or less --character-coverage$"),
    ],
)
def test_an_impossible_size_is_an_error_that_says_a_possible_one(
    tmp_path: Path, texts: list[str], vocab_size: int, step: int, reason: str
) -> None:
    with pytest.raises(TokenizerError, match=f"lines of text give no vocabulary of {vocab_size}: {reason}") as error:
        train_sentencepiece(texts, tmp_path / "m", vocab_size=vocab_size)
    assert ".cc(" not in str(error.value)
    possible = int(re.findall(r"\d+", str(error.value))[-1])
    train_sentencepiece(texts, tmp_path / "m", vocab_size=possible)
    assert load_tokenizer("SPMTokenizer", tmp_path / "m").vocab_size == possible
    with pytest.raises(TokenizerError, match=f"no vocabulary of {possible + step}"):
        train_sentencepiece(texts, tmp_path / "m", vocab_size=possible + step)


def test_other_messages_of_the_trainer_come_without_its_source(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(TokenizerError, match=r"of 900: the trainer says .*character_coverage.*0\.98") as error:
        train_sentencepiece(texts, tmp_path / "m", vocab_size=900, character_coverage=0.5)
    assert ".cc(" not in str(error.value)
