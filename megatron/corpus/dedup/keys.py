"""Keys of documents and of paragraphs: texts that share a key are equal or nearly so.

The lowest bit of a key says which: 1 for texts that are equal but for case, white space and invisible characters, 0 for
texts that share a band of their MinHash signatures. So one list of keys can hold both.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import xxhash

from megatron.config.corpus_schema import DedupConfig
from megatron.corpus.dedup.characters import Characters, batches, fold, letters
from megatron.corpus.dedup.minhash import band_keys, densify, mix, signatures
from megatron.corpus.dedup.ngrams import Hashes, ngram_characters, ngram_counts

#: A paragraph without a key.
NO_KEY = 0

# Texts with fewer n-grams than this times the length of one are not compared by their n-grams. Where a word more or
# less makes another sentence, sharing most n-grams says little: among the sentences of the sample corpus, which follow
# a few patterns, 2e-5 to 5e-5 of all pairs below this limit would be taken for duplicates, and 5e-7 above it.
_MIN_NGRAMS = 4

_EXACT = np.uint64(1)


class DocumentKeys:
    """Makes the keys of documents of one script.

    A document has :attr:`columns` keys: the exact one first when ``settings.exact``, then one for each band when
    ``settings.near``. Documents too short for a comparison by n-grams (about 12 words) get band keys that are made of
    the exact one, so that they meet nothing but equal texts.

    Args:
        settings: the stage's settings.
        script: ISO 15924 code; it decides the length of n-grams.
    """

    def __init__(self, settings: DedupConfig, *, script: str) -> None:
        self._exact, self._near = settings.exact, settings.near
        self._bands, self._rows = settings.bands, settings.rows
        self._size = ngram_characters(settings, script)

    @property
    def columns(self) -> int:
        """Keys of each document."""
        return self._exact + self._near * self._bands

    def keys(self, texts: Sequence[str]) -> Hashes:
        """Return the keys of each text: uint64, shape ``[len(texts), columns]``.

        They do not depend on what else is in ``texts``. Memory: a few MB, and 8 bytes a character of a longer text.
        """
        keys = np.empty((len(texts), self.columns), dtype=np.uint64)
        for first, last in batches(texts):
            self._fill(keys[first:last], fold(texts[first:last], punctuation=True))
        return keys

    def _fill(self, keys: Hashes, characters: Characters) -> None:
        exact = _exact_keys(characters)
        if self._exact:
            keys[:, 0] = exact
        if self._near:
            keys[:, int(self._exact) :] = self._bands_of(letters(characters), exact) & ~_EXACT

    def _bands_of(self, characters: Characters, exact: Hashes) -> Hashes:
        """Return the keys of all bands, shape ``[texts, bands]``."""
        hashes = signatures(characters, self._size, self._bands * self._rows)
        densify(hashes)
        keys = band_keys(hashes, self._bands, self._rows)
        short = ngram_counts(characters, self._size) < _MIN_NGRAMS * self._size
        keys[short] = mix(np.add.outer(exact[short], np.arange(self._bands, dtype=np.uint64)))
        return keys


def exact_keys(texts: Sequence[str]) -> Hashes:
    """Return one key for each text, uint64, shape ``[len(texts)]``.

    Texts that are equal but for case, white space and invisible characters have the same.
    """
    keys = np.empty(len(texts), dtype=np.uint64)
    for first, last in batches(texts):
        keys[first:last] = _exact_keys(fold(texts[first:last], punctuation=True))
    return keys


def split_paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text: its lines, each with its line end, so that ``"".join(paragraphs) == text``."""
    return text.splitlines(keepends=True)


def paragraph_keys(text: str, settings: DedupConfig) -> tuple[list[str], Hashes]:
    """Cut a text into paragraphs, and make a key for each that is long enough.

    Returns:
        The paragraphs, as :func:`split_paragraphs` cuts them; and their exact keys, uint64, shape ``[paragraphs]``:
        :data:`NO_KEY` for a paragraph with fewer than ``settings.min_paragraph_characters`` characters, white space at
        its ends not counted.
    """
    paragraphs = split_paragraphs(text)
    keys = np.full(len(paragraphs), NO_KEY, dtype=np.uint64)
    long = [i for i, line in enumerate(paragraphs) if len(line.strip()) >= settings.min_paragraph_characters]
    keys[long] = exact_keys([paragraphs[i] for i in long])
    return paragraphs, keys


def _exact_keys(characters: Characters) -> Hashes:
    """Return the XXH3 64-bit hash of each text's characters, with the lowest bit set."""
    data = memoryview(characters.values.astype("<u4", copy=False).data).cast("B")
    places = (characters.starts * 4).tolist()
    digest = xxhash.xxh3_64_intdigest
    keys = np.array([digest(data[start:end]) for start, end in pairwise(places)], dtype=np.uint64)
    keys |= _EXACT
    return keys
