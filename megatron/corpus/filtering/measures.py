"""What is measured of a text, on one view of its code points.

A table maps every code point to one of five classes. Repeated n-grams are found by the rolling hash that
:mod:`megatron.corpus.dedup.ngrams` explains, over all characters of one text.
"""

from __future__ import annotations

import functools
import re

import numpy as np
import numpy.typing as npt
import regex

from megatron.corpus.dedup.ngrams import rolling_sums
from megatron.languages.script import script_profile

#: Classes of characters. Punctuation and symbols of one script alone (Tibetan's mark between syllables, Braille) are
#: ``OTHER``, as are format characters and what Unicode does not know.
OTHER, LETTER, DIGIT, PUNCTUATION, SPACE = range(5)

#: Shorter texts have no share of the most frequent character, and texts with fewer lines none of repeated lines.
MIN_CHARACTERS_OF_SHARE, MIN_LINES = 100, 4
#: Texts with fewer characters of any script are in every script.
MIN_SCRIPT_LETTERS = 10
#: n-grams are compared within pieces of so many characters, so that memory does not grow with the text.
PIECE_CHARACTERS = 1 << 20

_CODEPOINTS = 0x110000
_COUNTED_CODEPOINTS = 0x2000
_MOST_BUCKET_BITS = 22
_URL = re.compile(r"(?:https?://|www\.)[!-;=?-~]+", re.IGNORECASE)
_URL_MARKS = ("://", "www.", "WWW.", "Www.")


class Measures:
    """The measures of one text; each but the view itself is taken when it is asked for.

    Args:
        text: the text; lone surrogates are allowed.

    Attributes:
        text: the text.
        points: code points, uint32, shape ``[characters]``.
        classes: class of each character, uint8, of the same shape.
        visible: characters that are no white space.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.points: npt.NDArray[np.uint32] = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        self.classes: npt.NDArray[np.uint8] = _classes().take(self.points)
        self.visible = len(text) - int(np.count_nonzero(self.classes == SPACE))

    @property
    def characters(self) -> int:
        """Code points."""
        return len(self.text)

    @functools.cached_property
    def size_bytes(self) -> int:
        """UTF-8 bytes."""
        return len(self.text) if self.text.isascii() else len(self.text.encode("utf-8", "surrogatepass"))

    def share(self, kind: int) -> float:
        """Return the share of characters of one class among those that are no white space."""
        return int(np.count_nonzero(self.classes == kind)) / self.visible if self.visible else 0.0

    def longest_run(self) -> int:
        """Return the length of the longest run of one character that is no white space."""
        points = self.points
        same = points[1:] == points[:-1]
        same &= self.classes[1:] != SPACE
        places = np.flatnonzero(same)
        if not len(places):
            return min(self.visible, 1)
        return _longest(np.flatnonzero(places[1:] - places[:-1] != 1), len(places)) + 1

    def largest_share(self) -> float:
        """Return the share of the most frequent character that is no white space; 0 for less than 100 characters."""
        if self.characters < MIN_CHARACTERS_OF_SHARE or not self.visible:
            return 0.0
        if int(self.points.max()) < _COUNTED_CODEPOINTS:  # as in most scripts but those of East Asia; twice as fast
            counts = np.bincount(self.points, minlength=_COUNTED_CODEPOINTS)
            counts[_counted_spaces()] = 0
            return int(counts.max()) / self.visible
        points = self.points[self.classes != SPACE]
        points.sort()
        return _longest(np.flatnonzero(points[1:] != points[:-1]), len(points)) / self.visible

    def repeated_lines(self) -> float:
        """Return the share of characters in lines that came before; 0 for less than 4 lines. Empty ones do not count.

        Lines are compared without the blanks around them, and count with their line feed.
        """
        lines = [line for line in map(str.strip, self.text.split("\n")) if line]
        if len(lines) < MIN_LINES:
            return 0.0
        distinct = set(lines)
        if len(distinct) == len(lines):
            return 0.0
        total = sum(map(len, lines)) + len(lines)
        return 1 - (sum(map(len, distinct)) + len(distinct)) / total

    def repeated_ngrams(self, size: int) -> float:
        """Return the share of characters that lie in n-grams of ``size`` characters that came before."""
        if self.characters <= size:
            return 0.0
        covered = sum(
            _covered(self.points[first : first + PIECE_CHARACTERS], size)
            for first in range(0, self.characters, PIECE_CHARACTERS)
        )
        return covered / self.characters

    def script_share(self, script: str) -> float:
        """Return the share of a script (ISO 15924) among the characters of any; 1 for less than 10 of them."""
        profile = script_profile(self.text)
        return profile.share(script) if profile.letters >= MIN_SCRIPT_LETTERS else 1.0

    def url_share(self) -> float:
        """Return the share of characters that are part of a URL."""
        if not any(mark in self.text for mark in _URL_MARKS):
            return 0.0
        return sum(map(len, _URL.findall(self.text))) / self.characters


def _longest(borders: npt.NDArray[np.int64], length: int) -> int:
    """Return the length of the longest run, where ``borders`` are the last places of all runs but the last."""
    if not len(borders):
        return length
    inner = int((borders[1:] - borders[:-1]).max(initial=0))
    return max(int(borders[0]) + 1, inner, length - 1 - int(borders[-1]))


def _covered(points: npt.NDArray[np.uint32], size: int) -> int:
    """Count the characters of a piece that lie in n-grams that came before in it."""
    if len(points) <= size:
        return 0
    hashes = rolling_sums(points, size, most=PIECE_CHARACTERS)
    places = _suspects(hashes)
    hashes = hashes[places]
    order = hashes.argsort(kind="stable")
    ordered = hashes[order]
    again = places[order[1:][ordered[1:] == ordered[:-1]]]
    if not len(again):
        return 0
    edges = np.zeros(len(points) + 1, dtype=np.int32)
    edges[again] += 1
    edges[again + size] -= 1
    return int(np.count_nonzero(edges.cumsum()))


def _suspects(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return the places of all hashes that are not unique, in order, and a few others; far faster than sorting.

    Every place is written into the bucket of its hash; where another one stands there afterwards, both are suspects.
    """
    bits = min((16 * len(hashes)).bit_length(), _MOST_BUCKET_BITS)
    buckets = (hashes >> np.uint64(64 - bits)).view(np.int64)
    places = np.arange(len(hashes))
    owners = np.empty(1 << bits, dtype=np.int64)
    owners[buckets] = places
    winners = owners[buckets]
    lost = np.flatnonzero(winners != places)
    suspect = np.zeros(len(hashes), dtype=np.bool_)
    suspect[lost] = True
    suspect[winners[lost]] = True
    return np.flatnonzero(suspect)


@functools.cache
def _counted_spaces() -> npt.NDArray[np.int64]:
    """Return the code points of white space below _COUNTED_CODEPOINTS."""
    return np.flatnonzero(_classes()[:_COUNTED_CODEPOINTS] == SPACE)


@functools.cache
def _classes() -> npt.NDArray[np.uint8]:
    """Map code point -> class; built once per process, in 0.1 s."""
    table = np.zeros(_CODEPOINTS, dtype=np.uint8)
    characters = "".join(map(chr, range(_CODEPOINTS)))
    for kind, members in {
        LETTER: r"[\p{L}\p{M}]",
        DIGIT: r"\p{N}",
        PUNCTUATION: r"[[\p{P}\p{S}]&&[\p{Script=Common}\p{Script=Inherited}]]",
        SPACE: r"[\s\p{Z}]",
    }.items():
        for run in regex.finditer(f"(?V1)(?:{members})+", characters):
            table[run.start() : run.end()] = kind
    table.flags.writeable = False
    return table
