"""The rules over single characters: Unicode normalisation and control characters."""

from __future__ import annotations

import unicodedata
from typing import Literal

import regex

from megatron.corpus.cleaning.scan import CONTROLS

_CONTROLS = regex.compile(f"(?V1){CONTROLS}+")
_KEEPS_ZERO_WIDTH = "Thai Laoo Khmr Mymr Tibt Java Bali Lana Tale Talu Tavt Cham Sund Batk Bugi Tglg Kthi Limb Ahom"
_UNSPACED = "[" + "".join(rf"\p{{Script={script}}}" for script in _KEEPS_ZERO_WIDTH.split()) + "]"
_ZERO_WIDTH_SPACE = "\u200b"
_SEVERAL = regex.compile("\u200b{2,}")
_OUT_OF_PLACE = regex.compile(rf"(?V1)(?<!{_UNSPACED})\u200b|\u200b(?!{_UNSPACED})")
# Unicode's stream-safe text format (UAX #15) allows as many.
_MORE_MARKS = regex.compile(r"(\p{M}{30})\p{M}+")


def cut_marks(text: str) -> str:
    """Leave at most 30 combining marks in a row, as Unicode's stream-safe format does.

    No language stacks as many; but sorting them takes Python's ``unicodedata`` a time that grows with their square.
    """
    cut: str = _MORE_MARKS.sub(r"\1", text)
    return cut


def normalise(text: str, form: Literal["NFC", "NFKC"]) -> str:
    """Return ``text`` in a Unicode normal form; NFC writes a letter and its accent as one character where it can."""
    return text if unicodedata.is_normalized(form, text) else unicodedata.normalize(form, text)


def remove_controls(text: str) -> str:
    """Remove control and format characters, lone surrogates and noncharacters.

    What stays: line feed, tab (and the line ends that ``whitespace`` replaces); the joiners U+200C and U+200D, which
    Persian, Indic scripts and emoji need; format characters that can be seen, such as the signs around Arabic numbers;
    the Mongolian vowel separator; private use, which some orthographies rely on. The zero-width space U+200B stays
    between two characters of scripts that write no spaces (Thai, Khmer, Myanmar, Tibetan, Javanese ...), where it marks
    words or line breaks. What goes: soft hyphens, byte order marks, word joiners, and marks of writing direction, which
    say how a text is laid out, not what it says.
    """
    text = _CONTROLS.sub("", text)
    if _ZERO_WIDTH_SPACE in text:
        text = _OUT_OF_PLACE.sub("", _SEVERAL.sub(_ZERO_WIDTH_SPACE, text))
    return text
