"""chrF++ and BLEU, computed by sacrebleu (Post, 2018, arXiv 1804.08771), which nothing is downloaded for."""

from __future__ import annotations

import functools
import hashlib
import math
from pathlib import Path
from typing import Any

import sentencepiece
from sacrebleu import BLEU, CHRF

from megatron.evaluation.metrics.texts import MetricError, MetricSettings, Texts, answered, warn_once
from megatron.languages.spacing import UNSPACED_SCRIPTS

# The published SPM-200 model, which is also the sentencepiece.bpe.model of NLLB-200.
_FLORES200_BYTES = 4_852_054
_FLORES200_SHA256 = "14bb8dfb35c0ffdea7bc01e56cea38b9e3d5efcdcb9c251d6b40538e1aab555a"
_WORD_ORDER = 2  # of chrF++; chrF has none


def chrf(texts: Texts) -> float:
    """Return chrF++ over all items with a reference, 0..100 (Popović, 2017)."""
    return _corpus_score(CHRF(word_order=_WORD_ORDER), texts)


def bleu(texts: Texts) -> float:
    """Return BLEU over all items with a reference, 0..100; tokens are :func:`bleu_tokenizer`'s."""
    scorer = BLEU(tokenize=bleu_tokenizer(texts.script))
    score = _corpus_score(scorer, texts)
    forget_lines(scorer)
    return score


def spbleu_flores200(texts: Texts) -> float:
    """Return BLEU over the pieces of FLORES-200's tokenizer, 0..100 (Goyal et al., 2022; NLLB team, 2022).

    Not a number without ``settings.spbleu_model``, with one warning.

    Raises:
        MetricError: the file is missing, or another.
    """
    if texts.settings.spbleu_model is None:
        warn_once("spbleu-flores200 is not computed: spbleu_model names no file, and nothing is downloaded")
        return math.nan
    scorer = BLEU(tokenize="none")
    # sacrebleu would look for the file in the user's home and on the network.
    scorer.tokenizer = _flores200(texts.settings.spbleu_model)
    return _corpus_score(scorer, texts)


def bleu_tokenizer(script: str) -> str:
    """Return sacrebleu's name of the tokenizer for a script: ``13a``, or ``char`` where no blanks divide words."""
    return "char" if script in UNSPACED_SCRIPTS else "13a"


def check_spbleu(settings: MetricSettings) -> None:
    """Raise MetricError when the model of spBLEU is named, and missing or another."""
    if settings.spbleu_model is not None:
        _flores200(settings.spbleu_model)


def chrf_signature(_script: str | None, _settings: MetricSettings) -> str:
    """Return sacrebleu's signature of chrF++."""
    return _with_any_references(CHRF(word_order=_WORD_ORDER))


def bleu_signature(script: str | None, _settings: MetricSettings, *, effective_order: bool = False) -> str:
    """Return sacrebleu's signature of BLEU; without a script it names both tokenizers."""
    tokenizer = "13a" if script is None else bleu_tokenizer(script)
    scorer = BLEU(tokenize=tokenizer, effective_order=effective_order)
    if script is None:
        scorer.tokenizer_signature = "13a or char, by script"
    return _with_any_references(scorer)


def spbleu_signature(_script: str | None, settings: MetricSettings) -> str:
    """Return sacrebleu's signature of spBLEU, and that there is no value where no model is named."""
    scorer = BLEU(tokenize="none")
    scorer.tokenizer_signature = "flores200"
    return _with_any_references(scorer) + ("|model:none" if settings.spbleu_model is None else "")


def forget_lines(scorer: BLEU) -> None:
    """Empty the caches of sacrebleu's tokenizers, which keep up to 65,536 lines each until the process ends."""
    for tokenizer in (scorer.tokenizer, getattr(scorer.tokenizer, "_post_tokenizer", None)):
        cached = getattr(type(tokenizer).__call__, "cache_clear", None)
        if cached is not None:
            cached()


def _corpus_score(scorer: BLEU | CHRF, texts: Texts) -> float:
    items = answered(texts)
    if not items:
        return math.nan
    most = max(len(references) for _, references in items)
    # One stream for the first references of all items, one for the second, and so on; None where an item has no more.
    streams: list[Any] = [
        [references[number] if number < len(references) else None for _, references in items] for number in range(most)
    ]
    return float(scorer.corpus_score([output for output, _ in items], streams).score)


def _with_any_references(scorer: BLEU | CHRF) -> str:
    scorer.num_refs = -1  # as many as an item has
    return str(scorer.get_signature().format())


class _Pieces:
    """A tokenizer as sacrebleu calls it: text in, pieces with blanks between them out."""

    def __init__(self, model: bytes) -> None:
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    def __call__(self, line: str) -> str:
        return " ".join(self._processor.encode(line, out_type=str))


@functools.lru_cache(maxsize=1)
def _flores200(path: Path) -> _Pieces:
    """Open the tokenizer; the bytes that are checked are the bytes that are used."""
    try:
        size = path.stat().st_size
        model = path.read_bytes() if size == _FLORES200_BYTES else b""
    except OSError as error:
        raise MetricError(f"spbleu_model: {path} cannot be read ({error.strerror}); name the model's file") from None
    if hashlib.sha256(model).hexdigest() != _FLORES200_SHA256:
        raise MetricError(
            f"spbleu_model: {path} ({size:,} bytes) is not FLORES-200's tokenizer ({_FLORES200_BYTES:,} bytes, SHA-256 "
            f"{_FLORES200_SHA256}), and other pieces give other scores; name that file"
        )
    return _Pieces(model)
