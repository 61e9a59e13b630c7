"""All that was measured: the tokenizers, and the counts of every language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from megatron.tokenizer.measure.counts import LanguageCounts, ParallelCounts
from megatron.tokenizer.measure.measurer import MeasureSettings


@dataclass(frozen=True)
class TokenizerFacts:
    """What a tokenizer is: its name in the report, kind, vocabulary, fingerprint, and how many tokens are bytes."""

    name: str
    kind: str
    vocab_size: int
    byte_tokens: int
    fingerprint: str


@dataclass
class Language:
    """One language in one script.

    Attributes:
        code: ``xxx_Ssss``; the name of the corpus where its language is not known, or it is in none.
        script: ISO 15924.
        is_language: whether it is text in a language that is known, not code.
        corpora: where its text is from.
        corpus: what its text in the corpora holds; None where there is none.
        parallel_text: the same of its side of parallel text.
        parallel: the text that it shares with the pivot.
    """

    code: str
    script: str
    is_language: bool
    corpora: list[str] = field(default_factory=list)
    corpus: LanguageCounts | None = None
    parallel_text: LanguageCounts | None = None
    parallel: ParallelCounts | None = None

    @property
    def counts(self) -> LanguageCounts:
        """What its figures are of: the corpora where they have it, else the parallel text."""
        counts = self.corpus if self.corpus is not None else self.parallel_text
        if counts is None:
            raise AssertionError(f"{self.code} was not counted")
        return counts

    @property
    def origin(self) -> str:
        """Where its figures are from: ``corpus`` or ``parallel``."""
        return "corpus" if self.corpus is not None else "parallel"


@dataclass(frozen=True)
class Measured:
    """What :func:`megatron.corpus.measure.run.measure_corpora` has found out.

    Attributes:
        tokenizers: in the order given.
        languages: by code.
        settings: what was measured.
        pivot: the language that others are compared with.
        left_out: what was not measured and why, with how much of it.
        left_out_of: of the reasons that are about records, how many of each corpus.
    """

    tokenizers: tuple[TokenizerFacts, ...]
    languages: tuple[Language, ...]
    settings: MeasureSettings
    pivot: str
    left_out: Mapping[str, int]
    left_out_of: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
