"""Bits per byte of plain texts, document by document, whatever tokenizer a model has."""

from __future__ import annotations

from collections.abc import Sequence

from megatron.evaluation.language_model import LanguageModel, Request
from megatron.evaluation.metrics.likelihood import TextScore
from megatron.tokenizer.base import Tokenizer


def score_texts(model: LanguageModel, texts: Sequence[str]) -> list[TextScore]:
    """Score every text by itself. Texts that no id stands for have no nats.

    Args:
        model: every process of its layout calls this with the same texts.
        texts: in the order of the scores.
    """
    encoded = [ids.tolist() for ids in model.tokenizer.encode_batch(texts)]
    written = [number for number, ids in enumerate(encoded) if ids]
    likelihoods = model.likelihoods([Request((), encoded[number]) for number in written])
    nats = dict(zip(written, (likelihood.nats for likelihood in likelihoods), strict=True))
    return [
        TextScore(
            nats=nats.get(number, 0.0),
            bytes=len(text.encode("utf-8")),
            characters=len(text),
            tokens=len(ids),
            lossless=_is_lossless(model.tokenizer, text, ids),
        )
        for number, (text, ids) in enumerate(zip(texts, encoded, strict=True))
    ]


def _is_lossless(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> bool:
    return tokenizer.unk_id not in ids and tokenizer.decode(ids) == text
