"""What the figures of tokenizers are called, what they mean, and how they read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType


@dataclasses.dataclass(frozen=True)
class Form:
    """How a figure is shown: its name, a sentence on what it is, decimals (None for a share), and which end is good."""

    title: str
    meaning: str
    digits: int | None
    higher_is_better: bool = False

    def text(self, value: float) -> str:
        """Write a value; a dash where there is none."""
        if not math.isfinite(value):
            return "–"
        return share(value) if self.digits is None else f"{value:,.{self.digits}f}"


def share(value: float) -> str:
    """Write a share with one decimal, whatever its size, so that a column of them can be compared at a glance."""
    return f"{value:.1%}" if math.isfinite(value) else "–"


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "premium": Form("Premium", "tokens per token of {pivot} for the same text", 2),
        "bytes_per_token": Form("Bytes per token", "UTF-8 bytes per token", 2, higher_is_better=True),
        "tokens_per_word": Form("Tokens per word", "only where words are written apart", 2),
        "tokens_per_character": Form("Tokens per character", "tokens per code point", 3),
        "byte_share": Form("Byte tokens", "tokens that are a piece of a character, of all tokens", None),
        "unk_share": Form("Unknown tokens", "tokens that are the unknown one, of all tokens", None),
        "whole_words": Form("Whole words", "distinct words that are one token, of a sample", None, True),
        "failure_share": Form("Round trips failed", "documents that decoding does not give back, of those tried", None),
        "overflow_share": Form("Overflow", "documents that are longer than {context} tokens", None),
        "windows": Form("Windows per document", "contexts of {context} tokens that a document fills", 2),
    }
)
