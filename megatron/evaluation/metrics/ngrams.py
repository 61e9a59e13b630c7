"""The n-grams of many texts as numbers: millions of them take no more than a few arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class NGrams(NamedTuple):
    """All n-grams of one order, text after text.

    Attributes:
        number: int64, of each n-gram a number: equal ones have the same; below how many there are.
        text: int64, index of the text that it lies in.
    """

    number: NDArray[np.int64]
    text: NDArray[np.int64]


def ngrams(texts: Sequence[Sequence[str]], max_order: int) -> Iterator[NGrams]:
    """Yield the n-grams of tokenised texts, from single tokens to ``max_order`` of them; none crosses two texts."""
    known: dict[str, int] = {}
    lengths = np.array([len(tokens) for tokens in texts], dtype=np.int64)
    tokens = np.fromiter(
        (known.setdefault(token, len(known)) for text in texts for token in text), np.int64, int(lengths.sum())
    )
    text = np.repeat(np.arange(len(texts)), lengths)
    # Tokens of the same text from here on, this one included.
    left = np.repeat(lengths.cumsum(), lengths) - np.arange(len(tokens))
    number, start = tokens, np.arange(len(tokens))
    yield NGrams(number, text)
    for order in range(2, max_order + 1):
        goes_on = left[start] >= order
        number, start = number[goes_on], start[goes_on]
        longer = number * len(known) + tokens[start + order - 1]
        number = np.unique(longer, return_inverse=True)[1].astype(np.int64, copy=False)
        yield NGrams(number, text[start])
