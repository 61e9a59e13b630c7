"""How long a sentence is, whatever its script: what 27 characters of Chinese say takes 100 of English."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Characters of a text for each character of its English translation: the median over the languages of each script of
# the Universal Declaration of Human Rights. Scripts that are not listed lie within 20 % of English. That of Korean,
# which this copy of the Declaration lacks, is the usual two to three syllables to a word.
_DENSITY: Mapping[str, float] = MappingProxyType(
    {
        "Bopo": 0.8,
        "Cans": 0.7,
        "Ethi": 0.51,
        "Hang": 0.5,
        "Hanb": 0.27,
        "Hani": 0.27,
        "Hans": 0.27,
        "Hant": 0.27,
        "Hira": 0.5,
        "Hrkt": 0.5,
        "Jpan": 0.39,
        "Kana": 0.5,
        "Kore": 0.48,
        "Mymr": 1.4,
        "Thaa": 1.7,
        "Yiii": 0.3,
    }
)

# A short sentence may well be three times as long as its translation ("OK" and "Bien sûr"): so many characters of
# English are added to both sides before they are compared.
_SPARE_CHARACTERS = 10


def length(text: str, script: str) -> float:
    """Return the length of a text in characters of English.

    Args:
        text: the text.
        script: ISO 15924.
    """
    return len(text) / _DENSITY.get(script, 1.0)


def length_ratio(first: float, second: float) -> float:
    """Return how many times as long the longer of two texts is, at least 1; short ones count as less different."""
    return (max(first, second) + _SPARE_CHARACTERS) / (min(first, second) + _SPARE_CHARACTERS)
