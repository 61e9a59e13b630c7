"""MinHash signatures and their bands: texts whose n-grams agree for the most part get an equal key.

One permutation instead of one for each hash (Li, Owen and Zhang, 2012): the n-grams' hashes are dealt into bins by
their value, and the smallest of every bin is one hash of the signature. Two texts agree in a bin with a probability of
about their Jaccard similarity. Bins that stay empty borrow from others, in an order that is the same for all texts
(densification: Shrivastava, 2017). The bins are then cut into bands: texts that agree in a whole band share its key,
which happens to texts of similarity s with probability ``1 - (1 - s^rows)^bands``.

All of it is whole-number arithmetic modulo 2^64, so that every machine and every numpy get the same keys.
"""

from __future__ import annotations

import functools

import numpy as np

from megatron.corpus.dedup.characters import Characters
from megatron.corpus.dedup.ngrams import Hashes, ngram_hashes

#: A bin that holds nothing.
EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)

_HALF = np.uint64(32)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(values: Hashes) -> Hashes:
    """Return ``values`` with every bit depending on all bits (the finaliser of SplitMix64); it loses nothing."""
    mixed: Hashes = values + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def signatures(characters: Characters, size: int, hashes: int) -> Hashes:
    """Return the smallest n-gram hash of every bin.

    Args:
        characters: the texts.
        size: characters of an n-gram.
        hashes: bins.

    Returns:
        uint64, shape ``[texts, hashes]``; :data:`EMPTY` in bins without n-grams, so everywhere for too short a text.
    """
    texts = len(characters.starts) - 1
    smallest = np.full((texts + 1) * hashes, EMPTY, dtype=np.uint64)  # the last row: n-grams that belong to no text
    for values, owners in ngram_hashes(characters, size):
        places = ((values >> _HALF) * np.uint64(hashes)) >> _HALF
        owners *= hashes
        owners += places.view(np.int64)
        np.minimum.at(smallest, owners, values)
    return smallest[: texts * hashes].reshape(texts, hashes)


def densify(signatures: Hashes) -> None:
    """Fill the empty bins in place; a row without any hash stays as it is.

    Bin ``b`` takes the hash of the first filled bin among ``b + o``, for the offsets ``o`` in a fixed random order.
    """
    hashes = signatures.shape[1]
    rows, bins = np.nonzero((signatures == EMPTY) & (signatures != EMPTY).any(axis=1, keepdims=True))
    sparse = signatures.copy() if len(rows) else signatures
    for offset in _offsets(hashes):
        if not len(rows):
            return
        donated = sparse[rows, (bins + offset) % hashes]
        signatures[rows, bins] = donated
        missing = donated == EMPTY
        rows, bins = rows[missing], bins[missing]


def band_keys(signatures: Hashes, bands: int, rows: int) -> Hashes:
    """Return one key for every band.

    Args:
        signatures: uint64, shape ``[texts, bands * rows]``.
        bands: bands of a signature.
        rows: hashes of a band.

    Returns:
        uint64, shape ``[texts, bands]``; texts that agree in all hashes of a band get the same key there.
    """
    factors, salts = _band_constants(bands, rows)
    sums = (signatures.reshape(-1, bands, rows) * factors).sum(axis=2, dtype=np.uint64)
    return mix(sums + salts)


@functools.cache
def _offsets(hashes: int) -> tuple[int, ...]:
    """Return 1 ... hashes - 1 in a fixed random order."""
    order = np.argsort(mix(np.arange(1, hashes, dtype=np.uint64)), kind="stable")
    return tuple((order + 1).tolist())


@functools.cache
def _band_constants(bands: int, rows: int) -> tuple[Hashes, Hashes]:
    """Return odd factors, shape ``[bands, rows]``, and one salt for each band, shape ``[bands]``."""
    numbers = mix(np.arange(bands * (rows + 1), dtype=np.uint64))
    return (numbers[bands:] | np.uint64(1)).reshape(bands, rows), numbers[:bands]
