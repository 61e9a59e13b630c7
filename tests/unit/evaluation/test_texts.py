from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from megatron.evaluation.language_model import Likelihood, Request
from megatron.evaluation.metrics.likelihood import information_parity, text_metrics
from megatron.evaluation.texts import score_texts
from megatron.generate.options import GenerationOptions, Written
from megatron.tokenizer.base import Tokenizer
from megatron.tokenizer.load import load_tokenizer


class ByBytes:
    """Finds every byte of a text equally likely, however it is cut into ids."""

    max_tokens, is_main = 1000, True

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def likelihoods(self, requests: Sequence[Request]) -> list[Likelihood]:
        sizes = [len(self.tokenizer.decode(request.continuation).encode()) for request in requests]
        return [Likelihood(size * math.log(256), is_greedy=False) for size in sizes]

    def write(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> list[Written]:
        raise NotImplementedError


def tokenizers(sp_model: Path, ranks_file: Path) -> list[Tokenizer]:
    return [load_tokenizer("SPMTokenizer", sp_model), load_tokenizer("TiktokenTokenizer", ranks_file)]


def test_another_tokenizer_with_the_same_likelihoods_changes_no_bits(
    sp_model: Path, ranks_file: Path, texts: list[str]
) -> None:
    one, other = (
        text_metrics(score_texts(ByBytes(tokenizer), texts)) for tokenizer in tokenizers(sp_model, ranks_file)
    )
    assert one["tokens"] != other["tokens"]
    assert one["bits_per_byte"] == other["bits_per_byte"] == pytest.approx(8)
    assert one["bytes"] == sum(len(text.encode()) for text in texts)
    assert one["bits_per_character"] == pytest.approx(8 * one["bytes"] / sum(map(len, texts)))


def test_texts_that_cannot_be_written_are_told(sp_model: Path) -> None:
    tokenizer = load_tokenizer("SPMTokenizer", sp_model)
    known, empty = score_texts(ByBytes(tokenizer), ["equal in dignity", ""])
    assert known.lossless and empty == (0.0, 0, 0, 0, True)

    class Forgetful(ByBytes):
        def __init__(self) -> None:
            super().__init__(tokenizer)
            self.tokenizer = type("", (), {
                "unk_id": None,
                "encode_batch": lambda _, texts: tokenizer.encode_batch([text.lower() for text in texts]),
                "decode": lambda _, ids: tokenizer.decode(ids),
            })()  # fmt: skip

    scores = score_texts(Forgetful(), ["free", "Free"])
    assert [score.lossless for score in scores] == [True, False]
    assert text_metrics(scores)["lossy"] == 0.5
    assert math.isnan(text_metrics([])["bits_per_byte"])


def test_information_parity() -> None:
    assert information_parity([1.0, 2.0], [2.0, 4.0]) == 0.5
    with pytest.raises(ValueError, match="2 sentences of the reference stand against 1"):
        information_parity([1.0, 2.0], [2.0])
