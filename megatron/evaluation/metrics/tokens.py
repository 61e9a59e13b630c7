"""Texts as tokens, in any script: words where words are written apart, else what a reader takes for one letter."""

from __future__ import annotations

import functools
import unicodedata

import regex

from megatron.languages.spacing import UNSPACED_UNICODE_SCRIPTS


def tokenise(text: str) -> list[str]:
    """Return the tokens of a text: in NFC, in lower case, without punctuation and symbols.

    A token is a run of letters, marks and digits; of a script without blanks between words (Han, Kana, Thai, Lao,
    Khmer, Myanmar, Tibetan and others) it is one letter with its marks: an extended grapheme cluster of UAX #29.
    Joiners inside a word belong to it. In ASCII these are the tokens of Google's ``rouge_score`` without stemming.
    """
    tokens: list[str] = _token().findall(unicodedata.normalize("NFC", text).lower())
    return tokens


@functools.cache
def _token() -> regex.Pattern[str]:
    scripts = "".join(rf"\p{{Script={script}}}" for script in UNSPACED_UNICODE_SCRIPTS)
    unspaced = rf"[\p{{L}}&&[{scripts}]]"
    word = rf"[[\p{{L}}\p{{M}}\p{{N}}]--{unspaced}]+"
    # Zero-width joiners shape words of Arabic and Indic scripts; between words they would join nothing.
    return regex.compile(rf"(?={unspaced})\X|{word}(?:[\u200c\u200d]+{word})*", regex.V1)
