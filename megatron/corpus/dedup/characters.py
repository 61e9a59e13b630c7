"""Texts as one array of code points, folded so that what does not matter is equal.

A table gives every code point the one that stands for it, or marks it:

* letters, marks, numbers, and everything that Unicode does not know: their simple case folding;
* punctuation, symbols and emoji: kept for the comparison of whole texts, left out of n-grams, because copies of a text
  differ in quotation marks, dashes and bullets;
* white space, control and format characters: left out everywhere. Line breaks, blanks between the words of Khmer or
  Thai, zero-width spaces and soft hyphens are layout, and a blank tells n-grams of characters little.

Digits count as they are: tables and reports that differ in their numbers are different texts.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Marks a code point that n-grams leave out: added to it.
PUNCTUATION = 1 << 31

_DROPPED = 0xFFFFFFFF
_CODEPOINTS = 0x110000
# Planes 4 to 16 hold no character but tags and variation selectors.
_ASSIGNED = (range(0x40000), range(0xE0000, 0xE0200))
_PIECE_CHARACTERS = 1 << 16
_BATCH_CHARACTERS = 1 << 16


@dataclass(frozen=True)
class Characters:
    """The characters of several texts, back to back.

    Attributes:
        values: folded code points, uint32, shape ``[characters]``.
        starts: where each text begins, and the end of the last, int64, shape ``[texts + 1]``.
    """

    values: npt.NDArray[np.uint32]
    starts: npt.NDArray[np.int64]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Characters of each text, int64, shape ``[texts]``."""
        return self.starts[1:] - self.starts[:-1]


def batches(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the borders, first and last, of batches of texts that are worth a pass of numpy and stay in the caches."""
    first, characters = 0, 0
    for number, text in enumerate(texts, start=1):
        characters += len(text)
        if characters >= _BATCH_CHARACTERS or number == len(texts):
            yield first, number
            first, characters = number, 0


def fold(texts: Sequence[str], *, punctuation: bool) -> Characters:
    """Return the folded characters of ``texts``, with or without punctuation and symbols.

    Memory: four bytes a character, whatever the texts' lengths, beside the texts themselves.
    """
    joined = "".join(texts)
    table, limit = _folding(), np.uint32(_DROPPED if punctuation else PUNCTUATION)
    starts = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in texts], out=starts[1:])
    values = np.empty(len(joined), dtype=np.uint32)
    ends = np.empty_like(starts)
    filled = 0
    for first in range(0, len(joined), _PIECE_CHARACTERS):
        piece = joined[first : first + _PIECE_CHARACTERS].encode("utf-32-le", "surrogatepass")
        folded = table.take(np.frombuffer(piece, dtype="<u4"))
        filled = _compact(folded, limit, starts, first, values, filled, ends)
    ends[starts == len(joined)] = filled
    return Characters(values[:filled], ends)


def letters(characters: Characters) -> Characters:
    """Return the characters without punctuation and symbols."""
    starts, ends = characters.starts, np.empty_like(characters.starts)
    values = np.empty_like(characters.values)
    filled, limit = 0, np.uint32(PUNCTUATION)
    for first in range(0, len(values), _PIECE_CHARACTERS):
        piece = characters.values[first : first + _PIECE_CHARACTERS]
        filled = _compact(piece, limit, starts, first, values, filled, ends)
    ends[starts == len(values)] = filled
    return Characters(values[:filled], ends)


def _compact(
    piece: npt.NDArray[np.uint32],
    limit: np.uint32,
    starts: npt.NDArray[np.int64],
    first: int,
    values: npt.NDArray[np.uint32],
    filled: int,
    ends: npt.NDArray[np.int64],
) -> int:
    """Append the part of ``piece`` below ``limit`` to ``values[:filled]``; return how many are filled now.

    ``piece`` begins at place ``first`` of all; the new places of the ``starts`` that lie in it go to ``ends``.
    """
    kept = (piece < limit).nonzero()[0]
    values[filled : filled + len(kept)] = piece.take(kept)
    low, high = starts.searchsorted((first, first + len(piece)))
    ends[low:high] = filled + kept.searchsorted(starts[low:high] - first)
    return filled + len(kept)


@functools.cache
def _folding() -> npt.NDArray[np.uint32]:
    """Map code point -> folded code point, that plus PUNCTUATION, or _DROPPED; built once per process, in 0.2 s."""
    table = np.arange(_CODEPOINTS, dtype=np.uint32)
    for codepoint in (codepoint for block in _ASSIGNED for codepoint in block):
        character = chr(codepoint)
        category = unicodedata.category(character)
        if category in ("Cc", "Cf") or category[0] == "Z":
            table[codepoint] = _DROPPED
        elif category[0] in "PS" or category == "Cs":
            table[codepoint] = codepoint + PUNCTUATION
        else:
            folded = character.casefold()
            table[codepoint] = ord(folded) if len(folded) == 1 else codepoint
    table.flags.writeable = False
    return table
