"""Training a SentencePiece BPE tokenizer with byte fallback, of Llama 2's kind."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import sentencepiece

from megatron.tokenizer.base import TokenizerError
from megatron.utils.files import atomic_write

# The trainer leaves out longer lines without a word; we cut them instead.
_LINE_BYTES = 4096
_LINE_CHARACTERS = _LINE_BYTES // 4
# The trainer leaves out lines with these, because it uses them itself: its space, its unknown character, NUL.
_RESERVED = re.compile("[\u2581\u2585\u0000]")
# What the trainer says about the number of pieces, and where in its source it says so.
_MOST = re.compile(r"value <= (\d+)")
_LEAST = re.compile(r"required_chars\. \d+ vs (\d+)")
_PLACE = re.compile(r"^.*?\.cc\(\d+\) *")


def train_sentencepiece(
    texts: Iterable[str],
    path: Path,
    *,
    vocab_size: int,
    character_coverage: float = 0.9995,
    input_sentence_size: int = 0,
    num_threads: int = 1,
) -> None:
    """Train a SentencePiece BPE model and write it, atomically.

    Text stays as it is (no Unicode normalisation), digits are single pieces, rare characters become bytes, and the
    first ids are ``<unk>`` 0, ``<s>`` 1, ``</s>`` 2, as Llama 2 has them. The same texts give the same file.

    Args:
        texts: documents.
        path: the ``tokenizer.model`` to write.
        vocab_size: number of pieces, with the 256 bytes and the three special ones.
        character_coverage: part of all characters that get pieces of their own.
        input_sentence_size: lines to learn from, drawn with a fixed seed, more than 100; 0 for all of them.
        num_threads: threads of the trainer; another number may give another model.

    Raises:
        TokenizerError: there is no text, or it cannot give that many pieces; says how many it can give.
    """
    if vocab_size < 1:
        raise TokenizerError(f"--vocab-size {vocab_size}: must be at least 1")
    if 0 < input_sentence_size <= 100:
        raise TokenizerError(f"input_sentence_size {input_sentence_size}: give more than 100, or 0 for all")
    sentencepiece.set_random_generator_seed(0)
    model = io.BytesIO()
    lines = _Counted(_lines(texts))
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            character_coverage=character_coverage,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            max_sentence_length=_LINE_BYTES,
            input_sentence_size=input_sentence_size,
            shuffle_input_sentence=input_sentence_size > 0,
            num_threads=num_threads,
            minloglevel=2,
        )
    except RuntimeError as error:
        if not lines.count:
            raise TokenizerError(f"{path}: there is no text to learn from") from error
        raise TokenizerError(
            f"{path}: {lines.count:,} lines of text give no vocabulary of {vocab_size}: {_reason(str(error))}"
        ) from error
    with atomic_write(path) as file:
        file.write(model.getvalue())


def _reason(message: str) -> str:
    """Say in our words why the trainer gave up, and what to change."""
    if most := _MOST.search(message):
        return f"the largest possible is {most[1]}. Give --vocab-size {most[1]} or less, or more text"
    if least := _LEAST.search(message):
        number = least[1]
        return f"its characters alone need {number}. Give --vocab-size {number} or more, or less --character-coverage"
    return f"the trainer says {_PLACE.sub('', message).strip()}. Give more text or another --vocab-size"


class _Counted:
    """Counts what passes through, to tell "no text" from other reasons."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = lines
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        for line in self.lines:
            self.count += 1
            yield line


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Cut documents into lines that the trainer takes."""
    for text in texts:
        for line in _RESERVED.sub(" ", text).split("\n"):
            for start in range(0, len(line), _LINE_CHARACTERS):
                if (piece := line[start : start + _LINE_CHARACTERS]) and not piece.isspace():
                    yield piece
