"""Text that was UTF-8 once, but was decoded as something else: ``Ã©`` for ``é``.

The repair is ftfy's. It reads 2 to 7 MB/s, so it only sees lines that hold what UTF-8 looks like in one of the
encodings it knows, or one of the control characters U+0080 to U+009F, which no text means. ftfy's guess that a space
was once a no-break space (``voilÃ le``) is switched off: it turns the letter Ã of Ewe and other languages into à.
"""

from __future__ import annotations

import functools
import re

# First bytes of sequences in Mac OS Roman, but common before accented letters in French, Italian and Occitan. They are
# the first bytes of Armenian and rare Cyrillic, which other letters give away as well.
_QUOTATION_MARKS = "‘’“”"
# What ftfy calls it when it mends some places of a text that was not decoded wrongly as a whole.
_IN_PLACES = "decode_inconsistent_utf8"


def mend(text: str) -> str:
    """Return ``text`` with the lines mended that were decoded with the wrong encoding.

    Where one line was, and the whole text can have been decoded like that, it is: some lines are too short to be sure
    of by themselves.
    """
    if not is_suspect(text) or (mended := _mend_lines(text)) == text:
        return text
    from ftfy import fix_encoding_and_explain

    whole, steps = fix_encoding_and_explain(text, restore_byte_a0=False)
    return mended if any(step.parameter == _IN_PLACES for step in steps or ()) else _mend_lines(whole)


def _mend_lines(text: str) -> str:
    from ftfy import fix_encoding

    lines = text.split("\n")
    return "\n".join(fix_encoding(line, restore_byte_a0=False) if is_suspect(line) else line for line in lines)


def is_suspect(text: str) -> bool:
    """Whether ``text`` holds what a character beyond ASCII becomes when its UTF-8 is decoded wrongly."""
    return not text.isascii() and _suspicion().search(text) is not None


def first_characters() -> str:
    """Return what mojibake begins with: first bytes of UTF-8 in any encoding, and U+0080 to U+009F."""
    return "".join(sorted({*_characters(0xC2, 0xF4), *map(chr, range(0x80, 0xA0))}))


@functools.cache
def _suspicion() -> re.Pattern[str]:
    """Return a pattern that finds mojibake, and some text that only resembles it.

    It begins with a further byte of a sequence, because most text has few of them, and then looks back. Encodings are
    not told apart: the first byte may be one in another encoding than the second.
    """
    first_of_two, first_of_more = _class(0xC2, 0xDF), _class(0xE0, 0xF4)
    further = _class(0x80, 0xBF)
    return re.compile(f"{further}(?:(?<=[\x80-\x9f])|(?<={first_of_two}.)|(?<={first_of_more}.){further})")


def _class(first: int, last: int) -> str:
    return f"[{re.escape(''.join(sorted(_characters(first, last))))}]"


def _characters(first: int, last: int) -> set[str]:
    """Return what the bytes from ``first`` to ``last`` are in the encodings that ftfy knows."""
    from ftfy.chardata import CHARMAP_ENCODINGS  # importing ftfy registers some of them

    found = {character for name in CHARMAP_ENCODINGS for character in bytes(range(first, last + 1)).decode(name)}
    return found.difference(_QUOTATION_MARKS if first > 0xBF else "")
