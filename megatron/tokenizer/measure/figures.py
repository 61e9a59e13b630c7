"""The figures of tokenizers, from counts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from megatron.languages.spacing import UNSPACED_SCRIPTS
from megatron.tokenizer.measure.measured import Language, Measured

NAN = math.nan


@dataclass(frozen=True)
class Figures:
    """What one tokenizer does to one language, or the means over several; NaN where there is nothing to divide by.

    Attributes:
        premium: tokens per token of the pivot for the same text (Petrov et al. 2023, arXiv 2305.15425).
        tokens_per_word: tokens per word between blanks; NaN in scripts that do not write words apart.
        tokens_per_character: tokens per code point.
        bytes_per_token: UTF-8 bytes per token.
        byte_share: tokens that stand for a part of a character, of all.
        unk_share: tokens that are the unknown one, of all.
        whole_words: distinct words that are one token, of a sample (STRR, arXiv 2510.09947).
        failure_share: documents that do not come back when they are decoded, of those checked.
        overflow_share: documents that are longer than a context.
        windows: contexts that a document fills, in the mean.
    """

    premium: float
    tokens_per_word: float
    tokens_per_character: float
    bytes_per_token: float
    byte_share: float
    unk_share: float
    whole_words: float
    failure_share: float
    overflow_share: float
    windows: float


#: The names of the figures, in their order.
FIGURES: tuple[str, ...] = tuple(Figures.__dataclass_fields__)


@dataclass(frozen=True)
class Group:
    """Languages together: the mean of each figure over them, every one with the same weight.

    Attributes:
        name: of the script or tier; ``all`` for all.
        languages: how many there are.
        compared: those that have parallel text.
        documents: of all of them.
        bytes: of all of them.
        byte_premium: mean over those compared.
        figures: of each tokenizer.
        highest: the highest premium of each tokenizer.
    """

    name: str
    languages: int
    compared: int
    documents: int
    bytes: int
    byte_premium: float
    figures: tuple[Figures, ...]
    highest: tuple[float, ...]


def figures_of(language: Language, number: int) -> Figures:
    """Return what a tokenizer, by its place, does to a language."""
    counts, parallel = language.counts, language.parallel
    text, tokens, words = counts.text, counts.tokens[number], counts.words
    return Figures(
        premium=ratio(parallel.own.tokens[number], parallel.pivot.tokens[number]) if parallel else NAN,
        tokens_per_word=NAN if language.script in UNSPACED_SCRIPTS else ratio(tokens.tokens, text.words),
        tokens_per_character=ratio(tokens.tokens, text.characters),
        bytes_per_token=ratio(text.bytes, tokens.tokens),
        byte_share=ratio(tokens.byte_tokens, tokens.tokens),
        unk_share=ratio(tokens.unk_tokens, tokens.tokens),
        whole_words=ratio(int(words.whole[:, number].sum()), len(words.hashes)),
        failure_share=ratio(tokens.failures, tokens.checked),
        overflow_share=ratio(tokens.overflowing, text.documents),
        windows=ratio(tokens.windows, text.documents),
    )


def byte_premium_of(language: Language) -> float:
    """Return the UTF-8 bytes of a language per byte of the pivot for the same text (Arnett et al. 2024)."""
    parallel = language.parallel
    return ratio(parallel.own.bytes, parallel.pivot.bytes) if parallel else NAN


def group_of(name: str, languages: Sequence[Language], tokenizers: int) -> Group:
    """Return languages as one."""
    figures = [[figures_of(language, number) for language in languages] for number in range(tokenizers)]
    premiums = [[each.premium for each in of_tokenizer if not math.isnan(each.premium)] for of_tokenizer in figures]
    return Group(
        name=name,
        languages=len(languages),
        compared=sum(language.parallel is not None for language in languages),
        documents=sum(language.counts.text.documents for language in languages),
        bytes=sum(language.counts.text.bytes for language in languages),
        byte_premium=mean(byte_premium_of(language) for language in languages),
        figures=tuple(_means(of_tokenizer) for of_tokenizer in figures),
        highest=tuple(max(values, default=NAN) for values in premiums),
    )


def gini(values: Iterable[float]) -> float:
    """Return the Gini coefficient of values that are not negative: 0 where all are equal; NaN values do not count."""
    ordered = sorted(value for value in values if not math.isnan(value))
    total = math.fsum(ordered)
    if not ordered or total <= 0:
        return NAN
    count = len(ordered)
    weighted = math.fsum((2 * place - count - 1) * value for place, value in enumerate(ordered, start=1))
    return weighted / (count * total)


def ginis(measured: Measured, number: int) -> dict[str, float]:
    """Return how unequally a tokenizer treats languages: the Gini coefficient of each figure that says it."""
    figures = [figures_of(language, number) for language in measured.languages if language.is_language]
    return {
        name: gini(getattr(each, name) for each in figures)
        for name in ("premium", "tokens_per_character", "bytes_per_token")
    }


def mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are numbers; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else NAN


def ratio(part: float, whole: float) -> float:
    """Return a quotient; NaN where there is nothing to divide by."""
    return part / whole if whole else NAN


def _means(figures: Sequence[Figures]) -> Figures:
    return Figures(**{name: mean(getattr(each, name) for each in figures) for name in FIGURES})
