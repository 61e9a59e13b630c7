"""Hashes of all n-grams of characters, for many texts at once: no words, so that Thai, Khmer and Chinese work too.

The hash of the characters ``c[0] ... c[n-1]`` is the sum of ``c[j] * M^j`` modulo 2^64, mixed. The sums of all n-grams
come from one running sum: its values n apart differ by the n-gram's sum times ``M^place``, which the power of M's
inverse takes off again (M is odd, so it has one). This is the polynomial of Karp and Rabin (1987), vectorised.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from megatron.config.corpus_schema import DedupConfig
from megatron.corpus.dedup.characters import Characters

Hashes = npt.NDArray[np.uint64]

_MULTIPLIER = 0xD1342543DE82EF95
_MIXER = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
# A piece and its powers stay in the second-level cache of a core.
_PIECE_NGRAMS = 1 << 15

#: Characters of an n-gram in scripts whose characters say more, or less, than a letter of an alphabet does.
#:
#: ``DedupConfig.ngram_characters`` is two to three words of an alphabet. The Universal Declaration of Human Rights
#: takes 0.30 times the letters of its English text in Chinese, 0.34 in Yi, 0.43 in Japanese, 0.49 in Amharic, 0.61 in
#: Vai, 0.72 in Tai Dam and 0.81 in Cherokee, but 1.57 in Burmese and 1.82 in Dhivehi, which write vowels and tones as
#: characters of their own. The names in CLDR say the same of Korean (0.53) and Inuktitut (0.86). In the median language
#: of any other script it takes 0.83 (Arabic) to 1.18 (Greek) times as many, among them Thai (1.02), Lao (1.13), Tibetan
#: (1.01), Devanagari (0.93) and, by CLDR, Khmer (1.06): they have no blanks between words, but their characters are
#: letters.
NGRAM_CHARACTERS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("Hani", "Hans", "Hant", "Hanb", "Bopo", "Yiii", "Nshu", "Tang"), 5),
        **dict.fromkeys(("Jpan", "Hira", "Kana", "Hrkt", "Kore", "Hang", "Jamo"), 6),
        **dict.fromkeys(("Ethi", "Vaii"), 7),
        **dict.fromkeys(("Cans", "Cher", "Tavt"), 9),
        **dict.fromkeys(("Mymr", "Thaa"), 18),
    }
)


def ngram_characters(settings: DedupConfig, script: str) -> int:
    """Return the characters of an n-gram in texts of a script (ISO 15924)."""
    own = settings.script_ngram_characters
    return own.get(script, NGRAM_CHARACTERS.get(script, settings.ngram_characters))


def ngram_counts(characters: Characters, size: int) -> npt.NDArray[np.int64]:
    """Return how many n-grams of ``size`` characters each text has, int64, shape ``[texts]``; 0 for shorter texts."""
    return np.maximum(characters.lengths - (size - 1), 0)


def ngram_hashes(characters: Characters, size: int) -> Iterator[tuple[Hashes, npt.NDArray[np.int64]]]:
    """Yield the hashes of all n-grams, in pieces.

    Args:
        characters: the texts.
        size: characters of an n-gram.

    Yields:
        ``hashes``, uint64, and ``owners``, int64, of the same shape: the text that each n-gram lies in; the number of
        texts for an n-gram that reaches from one text into the next, and so belongs to none.
    """
    places = len(characters.values) - (size - 1)
    for first in range(0, places, _PIECE_NGRAMS):
        last = min(first + _PIECE_NGRAMS, places)
        hashes = _rolling(characters.values[first : last + size - 1], size)
        yield hashes, _owners(characters, size, first, last)


def _rolling(values: npt.NDArray[np.uint32], size: int) -> Hashes:
    """Hash all n-grams of one piece, shape ``[len(values) - size + 1]``."""
    hashes = rolling_sums(values, size, most=_PIECE_NGRAMS + size)
    hashes ^= hashes >> _HALF
    hashes *= _MIXER
    return hashes


def rolling_sums(values: npt.NDArray[np.uint32], size: int, *, most: int) -> Hashes:
    """Return a number for the n-gram at each place, the same for equal ones; its low bits are not mixed.

    Args:
        values: code points.
        size: characters of an n-gram.
        most: as many values as a call may have, which decides the size of a table.

    Returns:
        uint64, shape ``[len(values) - size + 1]``.
    """
    powers, inverses = _powers(most)
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    terms = sums[1:]
    terms[:] = values
    terms *= powers[: len(values)]
    np.cumsum(terms, out=terms)
    hashes = sums[size:] - sums[:-size]
    hashes *= inverses[: len(hashes)]
    return hashes


def _owners(characters: Characters, size: int, first: int, last: int) -> npt.NDArray[np.int64]:
    """Return the text that the n-gram at each place from ``first`` to ``last`` lies in, as in :func:`ngram_hashes`."""
    starts = characters.starts
    low = int(starts.searchsorted(first, side="right")) - 1
    high = int(starts.searchsorted(last, side="left"))
    borders = starts[low : high + 1]
    edges = np.empty(2 * (high - low) + 1, dtype=np.int64)
    edges[0::2] = borders
    edges[1::2] = np.maximum(borders[1:] - (size - 1), borders[:-1])
    owners = np.full(2 * (high - low), len(starts) - 1, dtype=np.int64)
    owners[0::2] = np.arange(low, high)
    edges = np.minimum(np.maximum(edges, first), last)
    return owners.repeat(edges[1:] - edges[:-1])


@functools.cache
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Return the first powers of the multiplier and of its inverse modulo 2^64."""
    tables = []
    for base in (_MULTIPLIER, pow(_MULTIPLIER, -1, 1 << 64)):
        powers = np.full(count, base, dtype=np.uint64)
        powers[0] = 1
        powers = np.multiply.accumulate(powers)
        powers.flags.writeable = False
        tables.append(powers)
    return tables[0], tables[1]
