"""How much texts repeat each other, and themselves.

A text without tokens repeats nothing, so a model that writes nothing would look the most varied of all: empty outputs
are left out of Self-BLEU, and where they are more than half of all no value here but the published one is a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sacrebleu import BLEU

from megatron.evaluation.metrics.ngrams import NGrams, ngrams
from megatron.evaluation.metrics.surface import is_empty
from megatron.evaluation.metrics.texts import MetricSettings, Texts, warn_once
from megatron.evaluation.metrics.tokens import tokenise
from megatron.evaluation.metrics.translation import bleu_signature, bleu_tokenizer, forget_lines

_ORDERS = 4
_REPEATED_ORDER = 4


def self_bleu(texts: Texts) -> float:
    """Return Self-BLEU, 0..100: the mean over texts of their BLEU with all other texts as references.

    The higher, the more alike the texts are (Zhu et al., 2018, arXiv 1802.01886). Each BLEU is sacrebleu's
    ``sentence_bleu``. Outputs without tokens are left out. Of more than ``settings.self_bleu_texts`` others a fixed
    random choice is taken: values grow with the number of texts, and only those of equally many can be compared. Not a
    number for fewer than two texts with tokens, and where more than half of the outputs have none.
    """
    # What cannot be seen, such as zero-width blanks, may be tokens to sacrebleu, which in turn skips some that can.
    seen = ["" if is_empty(output) else output for output in texts.outputs]
    tokenised = [tokens for tokens in _bleu_tokens(seen, bleu_tokenizer(texts.script)) if tokens]
    if len(tokenised) < 2 or 2 * len(tokenised) < len(texts.outputs):
        return math.nan
    limit, there = texts.settings.self_bleu_texts, len(tokenised)
    if there > limit:
        chosen = np.random.default_rng(texts.settings.seed).choice(there, limit, replace=False)
        tokenised = [tokenised[index] for index in sorted(chosen.tolist())]
        warn_once(f"{texts.language}: Self-BLEU is of {limit} texts, chosen from {there}")
    return math.fsum(_bleu_with_others(tokenised)) / len(tokenised)


def bleu_with_others(outputs: Sequence[str], tokenizer: str) -> list[float]:
    """Return of every text its BLEU with all others as references, 0..100, in time linear in their lengths.

    Args:
        outputs: at least two texts.
        tokenizer: sacrebleu's name of one.
    """
    return _bleu_with_others(_bleu_tokens(outputs, tokenizer))


def self_bleu_published(texts: Texts) -> float:
    """Return what EMMA-500 published as Self-BLEU, 0..100; only to compare with its numbers.

    There every text is compared with the first other one alone, because sacrebleu takes a list of texts for the
    references of as many items: ``BLEU().corpus_score([text], [others])``. The tokenizer is 13a for every script, and
    empty texts count, with a BLEU of 0.
    """
    if len(texts.outputs) < 2:
        return math.nan
    first, second = texts.outputs[:2]
    bleu = BLEU()
    scores = [
        bleu.corpus_score([output], [[first if index else second]]).score for index, output in enumerate(texts.outputs)
    ]
    forget_lines(bleu)
    return math.fsum(scores) / len(scores)


def distinct_1(texts: Texts) -> float:
    """Return different tokens per token over all outputs, 0..1 (Li et al., 2016, arXiv 1510.03055).

    Not a number where more than half of the outputs have no token: the fewer there are, the fewer come twice.
    """
    return _distinct(texts, 1)


def distinct_2(texts: Texts) -> float:
    """Return different pairs of neighbouring tokens per such pair over all outputs, 0..1; see :func:`distinct_1`."""
    return _distinct(texts, 2)


def repetition_4(texts: Texts) -> float:
    """Return the share of a text's 4-grams that it held before, 0..1: the mean over texts with at least one 4-gram.

    Not a number where more than half of the outputs have no token.
    """
    tokenised = [tokenise(output) for output in texts.outputs]
    *_, found = ngrams(tokenised, _REPEATED_ORDER)
    if not len(found.number) or _is_mostly_empty(tokenised):
        return math.nan
    total = np.bincount(found.text, minlength=len(texts.outputs))
    numbers = int(found.number.max()) + 1
    different = np.bincount(np.unique(found.text * numbers + found.number) // numbers, minlength=len(total))
    has_any = total > 0
    return float((1 - different[has_any] / total[has_any]).mean())


def self_bleu_signature(script: str | None, settings: MetricSettings) -> str:
    """Return sacrebleu's signature of one BLEU, how many texts are compared, and which are not."""
    sentence_bleu = bleu_signature(script, settings, effective_order=True)
    return f"{sentence_bleu}|texts:{settings.self_bleu_texts}|seed:{settings.seed}|empty:left out, at most half"


def self_bleu_published_signature(_script: str | None, settings: MetricSettings) -> str:
    """Return sacrebleu's signature of one BLEU, and what it is compared with."""
    return f"{bleu_signature('Latn', settings)}|refs:first other text"


def _distinct(texts: Texts, order: int) -> float:
    tokenised = [tokenise(output) for output in texts.outputs]
    *_, found = ngrams(tokenised, order)
    if not len(found.number) or _is_mostly_empty(tokenised):
        return math.nan
    return len(np.unique(found.number)) / len(found.number)


def _is_mostly_empty(tokenised: Sequence[Sequence[str]]) -> bool:
    return 2 * sum(map(bool, tokenised)) < len(tokenised)


def _bleu_tokens(outputs: Sequence[str], tokenizer: str) -> list[list[str]]:
    bleu = BLEU(tokenize=tokenizer)
    tokenised = [bleu.tokenizer(output.rstrip()).split() for output in outputs]
    forget_lines(bleu)
    return tokenised


def _bleu_with_others(tokenised: Sequence[Sequence[str]]) -> list[float]:
    correct = np.zeros((len(tokenised), _ORDERS), dtype=np.int64)
    total = np.zeros_like(correct)
    for order, found in enumerate(ngrams(tokenised, _ORDERS)):
        correct[:, order], total[:, order] = _matches(found, len(tokenised))
    lengths = [len(tokens) for tokens in tokenised]
    return [
        BLEU.compute_bleu(
            correct=right, total=all_of_them, sys_len=length, ref_len=nearest, smooth_method="exp", effective_order=True
        ).score
        for right, all_of_them, length, nearest in zip(
            correct.tolist(), total.tolist(), lengths, _nearest_lengths(lengths), strict=True
        )
    ]


def _matches(found: NGrams, num_texts: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return of each text how many n-grams others hold, too, clipped by the most that one of them holds; and all."""
    pairs, counts = np.unique(found.number * num_texts + found.text, return_counts=True)
    number, text = np.divmod(pairs, num_texts)
    if not len(pairs):
        return np.zeros(num_texts, dtype=np.int64), np.zeros(num_texts, dtype=np.int64)
    # In the rows of one n-gram the largest count comes last: the others' maximum is the last row, but for itself.
    order = np.lexsort((counts, number))
    number, text, counts = number[order], text[order], counts[order]
    is_last = np.append(number[1:] != number[:-1], True)
    is_first = np.append(True, is_last[:-1])
    before = np.where(is_first, 0, np.append(0, counts[:-1]))
    lasts = np.flatnonzero(is_last)
    largest = counts[lasts][np.cumsum(is_first) - 1]
    clipped = np.minimum(counts, np.where(is_last, before, largest))
    right = np.bincount(text, weights=clipped, minlength=num_texts)
    return right.astype(np.int64), np.bincount(found.text, minlength=num_texts)


def _nearest_lengths(lengths: Sequence[int]) -> list[int]:
    """Return of each text the length of another that is nearest to its own, the shorter one of two."""
    ordered = sorted(lengths)
    nearest = {}
    for index, length in enumerate(ordered):
        beside = [ordered[other] for other in (index - 1, index + 1) if 0 <= other < len(ordered)]
        nearest[length] = min((abs(other - length), other) for other in beside)[1]
    return [nearest[length] for length in lengths]
