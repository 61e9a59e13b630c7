"""One look at all characters of a text, which tells the rules that have nothing to do there.

A table gives every code point its traits; a text is viewed as UTF-32, looked up in the table, and the traits are
joined. It runs at some 500 MB/s, so that clean text costs hardly more than this look.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import regex

#: Traits of characters: what begins markup, is removed by the rule ``control``, ends a line in another way than a line
#: feed, is a blank other than a space ...
MARKUP, CONTROL, LINE_END, BLANK = 1, 2, 4, 8
#: ... is a mark on the letter before it, may be changed by NFC, begins mojibake, or is a sign that menus, addresses and
#: copyright lines have.
MARK, UNORDERED, SUSPECT, SIGN = 16, 32, 64, 128
#: Traits of the text as a whole: 31 marks in a row.
MANY_MARKS = 256

#: Blanks that become a space. The narrow no-break space U+202F is not one of them: Mongolian joins suffixes with it.
ODD_BLANKS = "\u00a0\u2000-\u200a\u205f"
#: All blanks, as the inside of a character class.
BLANKS = " \t\u3000" + ODD_BLANKS

# Visible or meaningful in spite of their category: the joiners, signs that enclose Arabic, Syriac and Kaithi numbers,
# the Mongolian vowel separator, the layout of hieroglyphs and of shorthand.
_KEPT_FORMATS = (
    r"\u200c\u200d\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u180e"
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
)
#: The characters that the rule ``control`` removes wherever they stand, as a character class of the ``regex`` package.
CONTROLS = (
    r"[[\p{Cc}\p{Cf}\p{Cs}\p{Noncharacter_Code_Point}]"
    rf"--[\n\t\r\v\f\u0085\u200b{_KEPT_FORMATS}]]"
)

#: See SIGN.
SIGNS = "|>»›·•→@©/"

_CODEPOINTS = 0x110000
_PIECE_CHARACTERS = 1 << 20
_OVERLAP = 30  # so that marks in a row that lie across the border of two pieces are seen


def scan(text: str) -> int:
    """Return the traits that ``text`` has, joined by ``|``."""
    traits = 0
    for start in range(0, len(text), _PIECE_CHARACTERS):
        piece = text[max(start - _OVERLAP, 0) : start + _PIECE_CHARACTERS].encode("utf-32-le", "surrogatepass")
        characters = _traits().take(np.frombuffer(piece, dtype="<u4"))
        traits |= int(np.bitwise_or.reduce(characters))
        if traits & MARK and _holds_many_marks(characters & np.uint8(MARK)):
            traits |= MANY_MARKS
    return traits


def _holds_many_marks(marks: npt.NDArray[np.uint8]) -> bool:
    """Whether 31 places in a row are not 0; each step looks at runs of 2, 4, 8, 16 and 31."""
    for shift in (1, 2, 4, 8, 15):
        marks = marks[:-shift] & marks[shift:]
        if not np.count_nonzero(marks):
            return False
    return True


@functools.cache
def _traits() -> npt.NDArray[np.uint8]:
    """Map code point -> traits; built once per process, in 0.2 s."""
    from megatron.corpus.cleaning.mojibake import first_characters

    table = np.zeros(_CODEPOINTS, dtype=np.uint8)
    characters = "".join(map(chr, range(_CODEPOINTS)))
    for trait, members in {
        MARKUP: "[<&]",
        CONTROL: rf"{CONTROLS}|\u200b",
        LINE_END: r"[\r\v\f\u0085\u2028\u2029]",
        BLANK: rf"[\t\u3000{ODD_BLANKS}]",
        MARK: r"\p{M}",
        SUSPECT: f"[{first_characters()}]",
        UNORDERED: r"[\P{NFC_Quick_Check=Yes}\P{Canonical_Combining_Class=0}]",
        SIGN: f"[{SIGNS}]",
    }.items():
        for run in regex.finditer(f"(?V1)(?:{members})+", characters):
            table[run.start() : run.end()] |= trait
    table.flags.writeable = False
    return table
