"""New tokens, against a version that counts everything anew for each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from megatron.tokenizer.extend.grow import grow


def cut(word: Sequence[str], tokens: Sequence[str]) -> list[str]:
    """Merge neighbours, the earliest token first, of equals the leftmost: what SentencePiece and tiktoken do."""
    rank = {token: number for number, token in reversed(list(enumerate(tokens)))}
    parts = list(word)
    while True:
        found = [(rank[a + b], place) for place, (a, b) in enumerate(pairwise(parts)) if a + b in rank]
        if not found:
            return parts
        place = min(found)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


def grown_slowly(
    words: dict[str, int], tokens: Sequence[str], *, forbidden: Collection[str], count: int, longest: int
) -> list[str]:
    """Cut all words anew for each token."""
    learnt: list[str] = []
    old = {word: cut(word, tokens) for word in words}
    while len(learnt) < count:
        total: Counter[str] = Counter()
        for word, weight in words.items():
            parts = cut(old[word], [*tokens, *learnt])
            for a, b in pairwise(parts):
                total[a + b] += weight
        allowed = [(-n, text) for text, n in total.items() if n and len(text) <= longest and text not in forbidden]
        if not allowed:
            break
        learnt.append(min(allowed)[1])
    return learnt


def grown(
    words: dict[str, int], tokens: Sequence[str], *, forbidden: Collection[str], count: int, longest: int
) -> list[str]:
    parts = [[tokens.index(part) for part in cut(word, tokens)] for word in words]
    weights = np.array(list(words.values()), dtype=np.int64)
    return grow(parts, weights, tokens, forbidden=forbidden, count=count, longest=longest)


WORDS = st.dictionaries(st.text("abc", min_size=1, max_size=9), st.integers(0, 5), max_size=12)
TOKENS = st.lists(st.text("abc", min_size=2, max_size=4), unique=True, max_size=4)


@given(WORDS, TOKENS, st.sets(st.text("abc", min_size=2, max_size=4), max_size=4))
@example({"aaaaa": 2, "aaaaaaaa": 1}, [], set())
@example({"abcabc": 3, "bcab": 1}, ["bc", "abc"], {"ab"})
@example({"abbbb": 1}, ["bbb"], set())
def test_the_tokens_are_those_that_counting_anew_gives(words: dict[str, int], more: list[str], not_: set[str]) -> None:
    tokens = ["a", "b", "c", *more]
    arguments = {"forbidden": not_, "count": 8, "longest": 5}
    assert grown(words, tokens, **arguments) == grown_slowly(words, tokens, **arguments)  # type: ignore[arg-type]


@given(WORDS, TOKENS, st.text("abc", max_size=30))
def test_a_text_whose_neighbours_are_forbidden_is_cut_as_before(
    words: dict[str, int], more: list[str], text: str
) -> None:
    tokens = ["a", "b", "c", *more]
    before = cut(text, tokens)
    forbidden = {a + b for a, b in pairwise(before)}
    new = grown(words, tokens, forbidden=forbidden, count=20, longest=9)
    assert not forbidden & set(new)
    assert cut(text, [*tokens, *new]) == before


@given(WORDS, TOKENS)
@example({"abbbb": 1}, ["bbb"])
def test_a_new_token_is_found_when_it_stands_alone(words: dict[str, int], more: list[str]) -> None:
    tokens = ["a", "b", "c", *more]
    new = grown(words, tokens, forbidden=(), count=20, longest=9)
    assert [cut(token, [*tokens, *new]) for token in new] == [[token] for token in new]


def test_bytes_grow_as_text_does() -> None:
    words = [[0, 1, 2], [0, 1], [2, 2]]
    weights = np.array([2, 1, 5], dtype=np.int64)
    assert grow(words, weights, [b"a", b"b", b"c"], forbidden=(), count=9, longest=9) == [b"cc", b"ab", b"abc"]
    assert grow(words, weights, "abc", forbidden=(), count=9, longest=9, least=3) == ["cc", "ab"]
    assert grow([], weights[:0], "abc", forbidden=(), count=9, longest=9) == []
