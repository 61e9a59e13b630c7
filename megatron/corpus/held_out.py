"""Which documents of a corpus are held out for validation and test: a function of their texts alone.

Every text gets a keyed hash; the smallest hashes are held out. So the choice does not depend on the order of documents
or files, most of it stays when documents are added, and copies of a held-out text are held out too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import xxhash

from megatron.corpus.pieces import CorpusName

#: Key of the hash when nothing else is asked for.
KEY = 0x5EED

HeldOut = Literal["valid", "test"]

_SPARE_ENTRIES = 1024


def text_hash(data: bytes, *, key: int = KEY) -> int:
    """Return the keyed 64-bit hash of a text's UTF-8 bytes."""
    return xxhash.xxh3_64_intdigest(data, seed=key)


def bytes_for(corpus: CorpusName, wanted: Mapping[str, int], *, default: int) -> int:
    """Return how much text of a corpus is to be held out.

    Args:
        corpus: the corpus.
        wanted: bytes by name, code or source, of which the first that is there counts.
        default: bytes for all others.
    """
    return next((wanted[key] for key in (corpus.name, corpus.code, corpus.source) if key in wanted), default)


def names_of_nothing(wanted: Iterable[str], corpora: Iterable[CorpusName]) -> list[str]:
    """Return the names that are neither name nor code nor source of any corpus."""
    known = {key for corpus in corpora for key in (corpus.name, corpus.code, corpus.source)}
    return sorted(set(wanted) - known)


class HeldOutChooser:
    """Is shown every document of a corpus once, then names the texts to hold out.

    Texts are taken in the order of their hashes until they reach ``valid_bytes`` or ``max_fraction`` of the corpus,
    whichever is less; then likewise for the test. A text that (with its copies) is more than half of the corpus is
    passed over. So a corpus of at least two different texts always has some on both sides.

    Memory grows with the bytes to hold out, not with the corpus. Parts of a corpus may be shown to choosers of their
    own, and their :meth:`candidates` to another one, with the same result.

    Args:
        valid_bytes: enough UTF-8 bytes to hold out for validation; 0 to hold out nothing.
        max_fraction: enough of the corpus to hold out for each of the two, above 0 and at most 0.5.
        test_bytes: as ``valid_bytes``, for the test.
    """

    def __init__(self, *, valid_bytes: int, max_fraction: float, test_bytes: int = 0) -> None:
        if min(valid_bytes, test_bytes) < 0 or not 0 < max_fraction <= 0.5:
            raise ValueError(
                f"valid_bytes {valid_bytes} and test_bytes {test_bytes} must not be negative, and max_fraction "
                f"{max_fraction} must be above 0 and at most 0.5; to hold out nothing give valid_bytes 0"
            )
        self._wanted: dict[HeldOut, int] = {"valid": valid_bytes, "test": test_bytes}
        self._max_fraction = max_fraction
        self.total_bytes = 0
        self._bytes_of: dict[int, int] = {}  # the smallest hashes, with the bytes of all copies
        self._bound = 1 << 64  # hashes from here on can no longer be chosen
        self._limit = _SPARE_ENTRIES

    def add(self, text: int, *, size_bytes: int) -> bool:
        """Count one document.

        Args:
            text: its :func:`text_hash`.
            size_bytes: its UTF-8 bytes.

        Returns:
            Whether it may be chosen, as far as is known now.
        """
        self.total_bytes += size_bytes
        if text >= self._bound:
            return False
        self._bytes_of[text] = self._bytes_of.get(text, 0) + size_bytes
        if len(self._bytes_of) > self._limit:
            self._forget()
        return text < self._bound

    def __len__(self) -> int:
        return len(self._bytes_of)

    def candidates(self) -> list[tuple[int, int]]:
        """Return hash and bytes of the texts that may be chosen, in the order of their hashes."""
        self._forget()
        return sorted(self._bytes_of.items())

    def merge(self, candidates: Iterable[tuple[int, int]], *, total_bytes: int) -> None:
        """Count the documents of another part of the corpus.

        Args:
            candidates: the part's :meth:`candidates`.
            total_bytes: UTF-8 bytes of all of its documents.
        """
        for text, size_bytes in candidates:
            self.add(text, size_bytes=size_bytes)
            total_bytes -= size_bytes
        self.total_bytes += total_bytes

    def choose(self) -> Mapping[int, HeldOut]:
        """Return the hashes of the texts to hold out, and what for."""
        chosen: dict[int, HeldOut] = {}
        waiting = sorted(self._bytes_of, reverse=True)
        left = len(waiting)
        for split, bytes_wanted in self._wanted.items():
            wanted = min(bytes_wanted, self.total_bytes * self._max_fraction)
            held_bytes = 0
            while waiting and held_bytes < wanted and left >= 2:
                text = waiting.pop()
                if 2 * self._bytes_of[text] <= self.total_bytes:
                    chosen[text] = split
                    held_bytes += self._bytes_of[text]
                    left -= 1
        return chosen

    def _forget(self) -> None:
        """Drop the hashes that cannot be chosen: the smaller ones suffice even if the largest text is passed over."""
        ordered = sorted(self._bytes_of)
        enough = sum(self._wanted.values())
        # Each split may take one text too many; the last of valid must leave enough for the test.
        spare = len([wanted for wanted in self._wanted.values() if wanted])
        sum_bytes = kept = 0
        largest: list[int] = []
        for text in ordered:
            if kept >= 2 and sum_bytes - sum(largest) >= enough:
                break
            sum_bytes += self._bytes_of[text]
            largest = sorted([*largest, self._bytes_of[text]])[-max(1, spare) :]
            kept += 1
        for text in ordered[kept:]:
            del self._bytes_of[text]
        if kept < len(ordered):
            self._bound = ordered[kept]
        self._limit = 2 * kept + _SPARE_ENTRIES
