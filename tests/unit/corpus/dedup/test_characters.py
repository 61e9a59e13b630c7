import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.corpus.dedup import characters
from megatron.corpus.dedup.characters import PUNCTUATION, batches, fold, letters

TEXTS = st.lists(st.text(max_size=30), max_size=6)


def naive(text, punctuation):
    kept = []
    for character in text:
        category = unicodedata.category(character)
        if category in ("Cc", "Cf") or category[0] == "Z":
            continue
        if category[0] in "PS" or category == "Cs":
            if punctuation:
                kept.append(ord(character) + PUNCTUATION)
        else:
            folded = character.casefold()
            kept.append(ord(folded) if len(folded) == 1 else ord(character))
    return kept


def split(folded):
    return [folded.values[a:b].tolist() for a, b in zip(folded.starts, folded.starts[1:], strict=False)]


@given(TEXTS, st.booleans())
def test_folding_agrees_with_one_character_at_a_time(texts, punctuation):
    folded = fold(texts, punctuation=punctuation)
    assert split(folded) == [naive(text, punctuation) for text in texts]
    assert folded.values.dtype == np.uint32
    assert folded.lengths.tolist() == [len(naive(text, punctuation)) for text in texts]


@given(TEXTS, st.integers(1, 9))
def test_folding_in_pieces_changes_nothing(texts, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(characters, "_PIECE_CHARACTERS", size)
        with_punctuation = fold(texts, punctuation=True)
        without = fold(texts, punctuation=False)
        taken_off = letters(with_punctuation)
    assert split(with_punctuation) == [naive(text, True) for text in texts]
    assert split(without) == split(taken_off) == [naive(text, False) for text in texts]


@pytest.mark.parametrize(
    ("one", "other", "punctuation"),
    [
        ("All Human\n\tbeings ", "all humanbeings", True),
        ("ΟΔΟΣ οδος", "οδοσ ΟΔΟΣ", True),  # final sigma
        ("ភាសា\u200bខ្មែរ", "ភាសាខ្មែរ", True),  # blanks of no width between words
        ("co\u00adoperate\ufeff", "cooperate", True),
        ("人人 生而\n自由", "人人生而自由", True),
        ("\u201cFree\u201d \u2013 and equal \U0001f642", '"free", and equal!', False),
        ("བོད་ཡིག", "བོད ཡིག", False),  # the mark between Tibetan syllables is punctuation
        ("በመብትም፡እኩልነት", "በመብትም እኩልነት", False),  # so is the one between Amharic words
    ],
)
def test_what_does_not_matter(one, other, punctuation):
    one, other = (fold([text], punctuation=punctuation).values.tolist() for text in (one, other))
    assert one == other
    assert one


@pytest.mark.parametrize(("one", "other"), [("year 1948", "year 1949"), ("a-b", "a+b"), ("हिंदी", "हिदी")])
def test_what_does_matter(one, other):
    assert fold([one], punctuation=True).values.tolist() != fold([other], punctuation=True).values.tolist()


@given(st.lists(st.integers(0, 40)), st.integers(1, 60))
def test_batches_cover_all_texts_in_order_and_end_where_they_are_large_enough(lengths, size):
    texts = ["x" * length for length in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(characters, "_BATCH_CHARACTERS", size)
        found = list(batches(texts))
    assert [number for first, last in found for number in range(first, last)] == list(range(len(texts)))
    for first, last in found:
        assert sum(lengths[first : last - 1]) < size
        assert last == len(texts) or sum(lengths[first:last]) >= size
