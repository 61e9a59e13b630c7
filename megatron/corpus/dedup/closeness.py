"""How close a text is to text that was held out of training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from megatron.config.corpus_schema import DedupConfig
from megatron.corpus.dedup.characters import Characters, batches, fold
from megatron.corpus.dedup.keys import exact_keys
from megatron.corpus.dedup.ngrams import Hashes, ngram_characters, ngram_counts, ngram_hashes

# A table with a place for every value of the hashes' upper bits says of most n-grams that they were not held out. It
# has this many places for each n-gram that was, so that few of the others need a search, within these limits.
_PLACES_PER_NGRAM = 32
_MIN_TABLE_BITS, _MAX_TABLE_BITS = 16, 24


class HeldOutGuard:
    """Knows the n-grams of the held-out texts of one language and script, and measures other texts against them.

    It can be pickled. Memory: 8 bytes a character of the held-out texts, and at most 16 MiB.

    Args:
        texts: the held-out texts.
        settings: what decides the length of n-grams, together with the script.
        script: ISO 15924 code.
    """

    def __init__(self, texts: Sequence[str], settings: DedupConfig, *, script: str) -> None:
        self._size = ngram_characters(settings, script)
        self._hashes = _distinct_hashes(texts, self._size)
        bits = (_PLACES_PER_NGRAM * len(self._hashes)).bit_length()
        self._shift = np.uint64(64 - min(max(bits, _MIN_TABLE_BITS), _MAX_TABLE_BITS))
        self._table = np.zeros(1 << (64 - int(self._shift)), dtype=np.bool_)
        self._table[self._hashes >> self._shift] = True
        self._texts = np.unique(exact_keys(texts))

    def share(self, text: str) -> float:
        """Return the share of a text's n-grams that occur in held-out text, as in :meth:`shares`."""
        return float(self.shares([text])[0])

    def shares(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return for each text the share of its n-grams that occur in any held-out text: float64, shape ``[texts]``.

        An n-gram that a text holds several times counts as often. A text that is shorter than one n-gram has share 1
        when it equals a held-out text but for case, white space and invisible characters, and 0 otherwise.
        """
        shares = np.empty(len(texts), dtype=np.float64)
        for first, last in batches(texts):
            batch = texts[first:last]
            characters = fold(batch, punctuation=False)
            counts = ngram_counts(characters, self._size)
            shares[first:last] = self._found(characters) / np.maximum(counts, 1)
            if short := (counts == 0).nonzero()[0].tolist():
                shares[[first + i for i in short]] = np.isin(exact_keys([batch[i] for i in short]), self._texts)
        return shares

    def _found(self, characters: Characters) -> npt.NDArray[np.int64]:
        """Return how many n-grams of each text occur in held-out text, int64, shape ``[texts]``."""
        texts = len(characters.starts) - 1
        found = np.zeros(texts + 1, dtype=np.int64)  # the last: n-grams that belong to no text
        for hashes, owners in ngram_hashes(characters, self._size):
            likely = self._table.take((hashes >> self._shift).view(np.int64)).nonzero()[0]
            sure = likely[_contains(self._hashes, hashes[likely])]
            found += np.bincount(owners[sure], minlength=texts + 1)
        return found[:texts]


def _distinct_hashes(texts: Sequence[str], size: int) -> Hashes:
    """Return the sorted hashes of all n-grams of the texts."""
    parts = [np.zeros(0, dtype=np.uint64)]
    for first, last in batches(texts):
        characters = fold(texts[first:last], punctuation=False)
        for hashes, owners in ngram_hashes(characters, size):
            parts.append(hashes[owners < last - first])
    return np.unique(np.concatenate(parts))


def _contains(ordered: Hashes, values: Hashes) -> npt.NDArray[np.bool_]:
    """Return which values are in a sorted array."""
    if not len(ordered):
        return np.zeros(len(values), dtype=np.bool_)
    places = ordered.searchsorted(values)
    found: npt.NDArray[np.bool_] = ordered[np.minimum(places, len(ordered) - 1)] == values
    return found
