"""Scripts in which words are written without blanks between them."""

from __future__ import annotations

_UNSPACED = "Ahom Bali Bopo Hani Hira Java Kana Khmr Kits Lana Laoo Mymr Nshu Tale Talu Tang Tavt Thai Tibt Yiii"
_MIXTURES_AND_VARIANTS = "Hanb Hans Hant Hrkt Jpan"

#: Of Unicode's scripts, those whose running text has no blanks between words: where lines may break has to be looked
#: up in a dictionary (line break class SA of UAX #14), or between any two letters or syllables (classes ID, CJ, AK).
UNSPACED_UNICODE_SCRIPTS: tuple[str, ...] = tuple(_UNSPACED.split())

#: The same with the mixtures and variants of ISO 15924.
UNSPACED_SCRIPTS = frozenset((*UNSPACED_UNICODE_SCRIPTS, *_MIXTURES_AND_VARIANTS.split()))
