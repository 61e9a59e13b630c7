"""Learning new tokens on top of a finished BPE vocabulary: byte-pair encoding that goes on where the old one ended.

SentencePiece and tiktoken agree on when two neighbours merge: exactly when the concatenation of their texts is a token,
the earlier token first. Here all old tokens are earlier than all new ones. So a text is cut as before up to the end of
the old merges, and only then do new tokens form, out of neighbours which the old vocabulary left apart. Two things
follow. A text keeps its old ids exactly when no two neighbours of its old ids concatenate to a new token: whoever wants
that for a text forbids those concatenations. And a new token is found again when its text stands alone, since what
formed it inside a word needed nothing outside of it.

The idea of continued byte-pair encoding is that of Purason et al., "Teaching Old Tokenizers New Words" (2025,
arXiv:2512.03989); the guard, the merging by text and the arrays are this project's.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Text = TypeVar("Text", str, bytes)
_Ints = npt.NDArray[np.int64]
_NOWHERE = -1


def grow(
    words: Sequence[Sequence[int]],
    weights: npt.NDArray[np.int64],
    texts: Sequence[Text],
    *,
    forbidden: Collection[Text],
    count: int,
    longest: int,
    least: int = 1,
    advance: Callable[[int], object] | None = None,
) -> list[Text]:
    """Return the new tokens, in the order in which they merge.

    Each is the concatenation of the two neighbours that weigh most at that time, summed over all ways to cut it; of
    equals, the first in order of text. The same input gives the same tokens.

    Memory is some hundred bytes for each symbol of the words.

    Args:
        words: distinct words as old symbols, cut as the old tokenizer does; new tokens lie within a word.
        weights: int64 ``[words]``, at least 0: how much each word counts; the sum over all symbols is below 2^63.
        texts: the text of each symbol, ``str`` for SentencePiece and ``bytes`` for byte-level vocabularies. Those are
            the tokens that there are: a concatenation that is one of them merges to it, as it does when encoding.
        forbidden: texts that must not become tokens.
        count: how many tokens to learn; fewer come back where the words give no more.
        longest: the most characters (bytes) of a new token.
        least: concatenations that weigh less do not become tokens.
        advance: called with 1 for each token.
    """
    chain = _Chain(words, weights, texts, forbidden=forbidden, longest=longest, least=max(least, 1))
    learnt: list[Text] = []
    while len(learnt) < count and (text := chain.heaviest()) is not None:
        learnt.append(text)
        chain.add(text)
        if advance is not None:
            advance(1)
    return learnt


class _Chain(Generic[Text]):
    """All words as one chain of symbols, and what each two neighbours would become.

    A place is an index into the chain; a merged symbol stays at the place of its left part, and its right part is
    nowhere. A pair of symbols is one
    number, ``left << 32 | right``.
    """

    def __init__(
        self,
        words: Sequence[Sequence[int]],
        weights: npt.NDArray[np.int64],
        texts: Sequence[Text],
        *,
        forbidden: Collection[Text],
        longest: int,
        least: int,
    ) -> None:
        self.texts: list[Text] = list(texts)
        self.symbol_of: dict[Text, int] = {text: symbol for symbol, text in reversed(list(enumerate(texts)))}
        self.forbidden: Collection[Text] = forbidden
        self.longest = longest
        self.least = least
        lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
        ends = np.cumsum(lengths)
        size = int(ends[-1]) if len(ends) else 0
        self.symbols = np.fromiter((symbol for word in words for symbol in word), dtype=np.int64, count=size)
        self.words = np.repeat(np.arange(len(words)), lengths)
        self.weights = weights
        self.next = np.arange(1, size + 1)
        self.previous = np.arange(-1, size - 1)
        self.next[ends[lengths > 0] - 1] = _NOWHERE
        self.previous[(ends - lengths)[lengths > 0]] = _NOWHERE
        self.places: dict[int, list[_Ints]] = {}  # of each pair, where it is or was
        self.weight: dict[int, int] = {}  # of each pair
        self.pairs_of: dict[Text, list[int]] = defaultdict(list)  # by the text that they become
        self.heap: list[tuple[int, Text]] = []  # what texts weighed at some time, negative
        self.due: list[tuple[int, Text]] = []  # tokens that neighbours have become, the earliest first
        self._appear(np.flatnonzero(self.next != _NOWHERE))
        self._settle()

    def heaviest(self) -> Text | None:
        """Return the text that weighs most of those that may become tokens."""
        while self.heap:
            told, text = heapq.heappop(self.heap)
            weight = self._weight(text)
            if weight == -told:
                return text
            # It was heavier once. Had it grown since, the greater weight would stand before this one.
            if self.least <= weight < -told:
                heapq.heappush(self.heap, (-weight, text))
        return None

    def add(self, text: Text) -> None:
        """Make a text a token, and merge wherever it and what follows from it can be merged."""
        symbol = len(self.texts)
        self.texts.append(text)
        self.symbol_of[text] = symbol
        self._merge(text, symbol)
        self._settle()

    def _settle(self) -> None:
        """Merge neighbours whose text is a token already: ``a b`` of ``a b c`` may be new while ``abc`` is old."""
        while self.due:
            symbol, text = heapq.heappop(self.due)
            self._merge(text, symbol)

    def _weight(self, text: Text) -> int:
        return sum(self.weight.get(pair, 0) for pair in self.pairs_of.get(text, ()))

    def _merge(self, text: Text, symbol: int) -> None:
        """Merge neighbours that have this text, the first of each word; the others come after what is due earlier."""
        places = self._places_of(text)
        if not len(places):
            return
        left = places[np.unique(self.words[places], return_index=True)[1]]
        if len(left) < len(places):
            heapq.heappush(self.due, (symbol, text))
        right = self.next[left]
        after = self.next[right]
        before = self.previous[left]
        self._disappear(np.concatenate([before[before != _NOWHERE], left, right[after != _NOWHERE]]))
        self.symbols[left] = symbol
        self.symbols[right] = _NOWHERE
        self.next[left] = after
        self.previous[after[after != _NOWHERE]] = left[after != _NOWHERE]
        self._appear(np.concatenate([before[before != _NOWHERE], left[after != _NOWHERE]]))

    def _places_of(self, text: Text) -> _Ints:
        """Return the places of the left parts, in order, and forget those that are no longer."""
        found: list[_Ints] = []
        for pair in self.pairs_of.get(text, ()):
            places = np.concatenate(self.places[pair])
            places = places[self.symbols[places] == pair >> 32]
            places = places[self.next[places] != _NOWHERE]
            places = np.unique(places[self.symbols[self.next[places]] == (pair & 0xFFFFFFFF)])
            self.places[pair] = [places]
            found.append(places)
        return np.sort(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)

    def _disappear(self, places: _Ints) -> None:
        """Take away the weight of the pairs that begin at these places."""
        for pair, weight, _ in self._by_pair(places):
            if pair in self.weight:
                self.weight[pair] -= weight

    def _appear(self, places: _Ints) -> None:
        """Add the pairs that begin at these places."""
        changed: set[Text] = set()
        for pair, weight, where in self._by_pair(places):
            text = self.texts[pair >> 32] + self.texts[pair & 0xFFFFFFFF]
            symbol = self.symbol_of.get(text)
            if symbol is None and (len(text) > self.longest or text in self.forbidden):
                continue
            if pair not in self.weight:
                self.weight[pair] = 0
                self.places[pair] = []
                self.pairs_of[text].append(pair)
            self.weight[pair] += weight
            self.places[pair].append(where)
            if symbol is None:
                changed.add(text)
            else:
                heapq.heappush(self.due, (symbol, text))
        for text in changed:
            if (total := self._weight(text)) >= self.least:
                heapq.heappush(self.heap, (-total, text))

    def _by_pair(self, places: _Ints) -> list[tuple[int, int, _Ints]]:
        """Return each pair that begins at these places, its weight there, and the places."""
        if not len(places):
            return []
        pairs = self.symbols[places] << 32 | self.symbols[self.next[places]]
        order = np.argsort(pairs, kind="stable")
        places, pairs = places[order], pairs[order]
        starts = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]]))
        weights = np.add.reduceat(self.weights[self.words[places]], starts)
        return list(zip(pairs[starts].tolist(), weights.tolist(), np.split(places, starts[1:]), strict=True))
