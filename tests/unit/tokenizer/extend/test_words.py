"""Words that new tokens may lie in, and their weights."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.tokenizer.extend.words import count_words, shares_of, weighed, words_of_one_script


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" the cat's 3rd", ["▁the", "▁cat's", "rd"]),
        ("a, b(c)", ["a", "▁b", "c"]),
        (" Москваmoscow", ["▁Москва", "moscow"]),
        ("яabc éa", ["я", "abc", "▁éa"]),
        ("「食べる」", ["食", "べる"]),
        (" स्वतन्त्रता 2026।", ["▁स्वतन्त्रता"]),
        ("می‌خواهم", ["می‌خواهم"]),
        ("'tis 'n' rock’n’roll'", ["tis", "n", "▁rock’n’roll"]),
        ("  x", ["▁x"]),
        ("é e\u0301", ["é", "▁e\u0301"]),
        ("12 !? \n", []),
    ],
)
def test_words_are_letters_of_one_script_with_their_space(text: str, words: list[str]) -> None:
    assert list(words_of_one_script(text)) == words


def test_a_table_that_is_full_drops_the_rarest_and_says_how_many() -> None:
    texts = ["a a a b b c", "d a e f g", "b b b h"]
    counts = count_words(texts, str.split, max_words=2)
    assert counts.words == Counter(a=4, b=5)
    assert counts.dropped == 6
    assert counts.text_bytes == sum(map(len, texts))
    whole = count_words(texts, str.split, max_words=100)
    assert whole.words.total() == 15
    assert whole.dropped == 0


def test_shares_follow_bytes_to_the_power_and_factors() -> None:
    equal = shares_of([100, 300, 0], ["a", "b", "c"], alpha=0.0, factors={})
    assert equal == [0.5, 0.5, 0.0]
    assert shares_of([100, 300], ["a", "b"], alpha=1.0, factors={}) == [0.25, 0.75]
    assert shares_of([100, 300], ["a", "b"], alpha=0.0, factors={"b": 3}) == [0.25, 0.75]
    # Two corpora of one language are one language.
    assert shares_of([100, 300, 400], ["a", "a", "b"], alpha=0.5, factors={}) == pytest.approx([0.125, 0.375, 0.5])
    small, large = shares_of([10, 10_000_000], ["a", "b"], alpha=0.3, factors={})
    assert large / small == pytest.approx(1e6**0.3)


Rows = st.lists(st.tuples(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(1, 1 << 40)), max_size=6)


@given(st.lists(st.tuples(st.floats(0, 1), Rows), max_size=4), st.randoms())
@settings(max_examples=50, deadline=None)
def test_weights_fit_and_do_not_depend_on_order(corpora: list[tuple[float, list]], draw) -> None:
    total = sum(share for share, _ in corpora) or 1.0
    parts = [(share / total, [row for row, _ in rows], [count for _, count in rows]) for share, rows in corpora]
    words, weights = weighed(parts)
    assert len(set(words)) == len(words) == len(weights)
    assert all(weight >= 1 for weight in weights)
    assert sum(int(weight) * len(word) for word, weight in zip(words, weights, strict=True)) < 1 << 52
    shuffled = list(parts)
    draw.shuffle(shuffled)
    others, same = weighed(shuffled)
    assert others == words
    assert same.tolist() == weights.tolist()


def test_a_weight_is_the_part_of_a_corpus_that_a_pair_is() -> None:
    words, weights = weighed([(0.5, [[1, 2], [3]], [10, 20]), (0.5, [[1, 2], [1, 2, 3]], [1, 1])])
    assert words == [(1, 2), (1, 2, 3)]
    assert weights.tolist() == [(1 << 49) * 10 // 40 + (1 << 49) // 5, (1 << 49) // 5]
