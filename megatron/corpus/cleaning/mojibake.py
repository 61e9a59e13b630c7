"""Text that was UTF-8 once, but was decoded as something else: ``Ã©`` for ``é``.

The repair is ftfy's. It reads 2 to 7 MB/s, so it only sees lines that hold what UTF-8 looks like in one of the
encodings it knows, or one of the control characters U+0080 to U+009F, which no text means. ftfy's guess that a space
was once a no-break space (``voilÃ le``) is switched off: it turns the letter Ã of Ewe and other languages into à.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

_CODEPOINTS = 0x110000
_PIECE_CHARACTERS = 1 << 20
_LONGEST_SEQUENCE = 4

# Encodings that agree in all letters but a few share a bit: the test may suspect too much, not too little.
_ENCODINGS = (
    ("latin-1", "sloppy-windows-1252", "sloppy-windows-1254"),
    ("sloppy-windows-1250", "iso-8859-2"),
    ("sloppy-windows-1251",),
    ("sloppy-windows-1253",),
    ("sloppy-windows-1257",),
    ("macroman",),
    ("cp437",),
)
# First bytes of sequences in Mac OS Roman, but common before accented letters in French, Italian and Occitan. They are
# the first bytes of Armenian and rare Cyrillic, which other letters give away as well.
_QUOTATION_MARKS = "‘’“”"
# Fields of the table's entries, one bit for each row above: the character is the first byte of a sequence of 2, 3 or 4
# bytes in this encoding, or a further byte.
_LEADS = (0, 8, 16)
_FURTHER = 24
_FIELD = np.uint32(0x7F)
_CONTROL = np.uint32(0x80)  # the control characters U+0080 to U+009F, in the field that the eighth row would have


def mend(text: str) -> str:
    """Return ``text`` with the lines mended that were decoded with the wrong encoding."""
    if text.isascii() or not is_suspect(text):
        return text
    from ftfy import fix_encoding

    lines = text.split("\n")
    mended = [
        line if line.isascii() or not is_suspect(line) else fix_encoding(line, restore_byte_a0=False) for line in lines
    ]
    return text if mended == lines else "\n".join(mended)


def is_suspect(text: str) -> bool:
    """Whether ``text`` holds what a character beyond ASCII becomes when its UTF-8 is decoded wrongly."""
    step = _PIECE_CHARACTERS
    return any(
        _holds_sequence(text[start : start + step + _LONGEST_SEQUENCE - 1]) for start in range(0, len(text), step)
    )


def _holds_sequence(piece: str) -> bool:
    entries = _sequence_table().take(np.frombuffer(piece.encode("utf-32-le", "surrogatepass"), dtype="<u4"))
    places = np.flatnonzero(entries >> np.uint32(_FURTHER))
    if not len(places):
        return False
    # At the ends of the piece the character before or after is a wrong one: it may be suspected for nothing.
    before = entries[places - 1]
    following = entries[places]
    if (following & _CONTROL).any():
        return True
    following = following >> np.uint32(_FURTHER)
    for length, shift in enumerate(_LEADS, start=1):
        if ((before >> np.uint32(shift)) & following & _FIELD).any():
            return True
        following = following & (entries.take(places + length, mode="clip") >> np.uint32(_FURTHER))
    return False


def lead_characters() -> str:
    """Return all characters that a sequence may begin with, and the control characters U+0080 to U+009F."""
    leads = np.uint32((1 << _FURTHER) - 1)
    return "".join(map(chr, np.flatnonzero(_sequence_table() & leads)))


@functools.cache
def _sequence_table() -> npt.NDArray[np.uint32]:
    """Map code point -> its fields, see _LEADS; built once per process."""
    import ftfy.bad_codecs  # noqa: F401  (registers some of the encodings)

    table = np.zeros(_CODEPOINTS, dtype=np.uint32)
    for bit, encodings in enumerate(_ENCODINGS):
        for first, last, shift in (
            (0xC2, 0xDF, _LEADS[0]), (0xE0, 0xEF, _LEADS[1]), (0xF0, 0xF4, _LEADS[2]), (0x80, 0xBF, _FURTHER)
        ):  # fmt: skip
            for character in "".join(bytes(range(first, last + 1)).decode(encoding) for encoding in encodings):
                table[ord(character)] |= np.uint32(1 << (bit + shift))
    table[[ord(mark) for mark in _QUOTATION_MARKS]] &= ~np.uint32((1 << _FURTHER) - 1)
    table[0x80:0xA0] |= _CONTROL
    table.flags.writeable = False
    return table
