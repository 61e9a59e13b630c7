"""Which documents of a corpus are held out for validation: a function of their texts alone.

Every text gets a keyed hash; the smallest hashes are held out. So the choice does not depend on the order of documents
or files, most of it stays when documents are added, and copies of a held-out text are held out too.
"""

from __future__ import annotations

import xxhash

_KEY = 0x5EED
_SPARE_ENTRIES = 1024


def text_hash(data: bytes) -> int:
    """Return the keyed 64-bit hash of a text's UTF-8 bytes."""
    return xxhash.xxh3_64_intdigest(data, seed=_KEY)


class HeldOutChooser:
    """Is shown every document of a corpus once, then names the texts to hold out.

    Texts are taken in the order of their hashes until they reach ``valid_bytes`` or ``valid_fraction`` of the corpus,
    whichever is less. A text that (with its copies) is more than half of the corpus is passed over. So a corpus of at
    least two different texts always has some on both sides.

    Memory grows with ``valid_bytes``, not with the corpus.

    Args:
        valid_bytes: enough UTF-8 bytes to hold out; 0 to hold out nothing.
        valid_fraction: enough of the corpus to hold out, above 0 and at most 0.5.
    """

    def __init__(self, *, valid_bytes: int, valid_fraction: float) -> None:
        if valid_bytes < 0 or not 0 < valid_fraction <= 0.5:
            raise ValueError(
                f"valid_bytes {valid_bytes} must not be negative, and valid_fraction {valid_fraction} must be above 0 "
                "and at most 0.5; to hold out nothing give valid_bytes 0"
            )
        self.valid_bytes = valid_bytes
        self.valid_fraction = valid_fraction
        self.total_bytes = 0
        self._bytes_of: dict[int, int] = {}  # the smallest hashes, with the bytes of all copies
        self._bound = 1 << 64  # hashes from here on can no longer be chosen
        self._limit = _SPARE_ENTRIES

    def add(self, text: int, *, size_bytes: int) -> None:
        """Count one document.

        Args:
            text: its :func:`text_hash`.
            size_bytes: its UTF-8 bytes.
        """
        self.total_bytes += size_bytes
        if text >= self._bound:
            return
        self._bytes_of[text] = self._bytes_of.get(text, 0) + size_bytes
        if len(self._bytes_of) > self._limit:
            self._forget()

    def choose(self) -> frozenset[int]:
        """Return the hashes of the texts to hold out."""
        wanted = min(self.valid_bytes, self.total_bytes * self.valid_fraction)
        chosen: set[int] = set()
        held_bytes = 0
        for text in sorted(self._bytes_of):
            if held_bytes >= wanted or len(self._bytes_of) < 2:
                break
            if 2 * self._bytes_of[text] <= self.total_bytes:
                chosen.add(text)
                held_bytes += self._bytes_of[text]
        return frozenset(chosen)

    def _forget(self) -> None:
        """Drop the hashes that cannot be chosen: the smaller ones suffice even if the largest text is passed over."""
        ordered = sorted(self._bytes_of)
        sum_bytes = largest_bytes = kept = 0
        for text in ordered:
            if kept >= 2 and sum_bytes - largest_bytes >= self.valid_bytes:
                break
            sum_bytes += self._bytes_of[text]
            largest_bytes = max(largest_bytes, self._bytes_of[text])
            kept += 1
        for text in ordered[kept:]:
            del self._bytes_of[text]
        if kept < len(ordered):
            self._bound = ordered[kept]
        self._limit = 2 * kept + _SPARE_ENTRIES
