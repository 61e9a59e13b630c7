"""Texts as tokens, in any script: words where words are written apart, else what a reader takes for one letter."""

from __future__ import annotations

import functools
import unicodedata

import regex

_UNSPACED = """
    Ahom Bali Bopo Hani Hira Java Kana Khmr Kits Lana Laoo Mymr Nshu Tale Talu Tang Tavt Thai Tibt Yiii
"""
_MIXTURES_AND_VARIANTS = "Hanb Hans Hant Hrkt Jpan"

#: Scripts, ISO 15924, in which words are written without blanks between them.
UNSPACED_SCRIPTS = frozenset(f"{_UNSPACED} {_MIXTURES_AND_VARIANTS}".split())


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
    scripts = "".join(rf"\p{{Script={script}}}" for script in _UNSPACED.split())
    unspaced = rf"[\p{{L}}&&[{scripts}]]"
    word = rf"[[\p{{L}}\p{{M}}\p{{N}}]--{unspaced}]+"
    # Zero-width joiners shape words of Arabic and Indic scripts; between words they would join nothing.
    return regex.compile(rf"(?={unspaced})\X|{word}(?:[\u200c\u200d]+{word})*", regex.V1)
