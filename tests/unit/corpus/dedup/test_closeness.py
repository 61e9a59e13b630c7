import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.corpus_schema import DedupConfig
from megatron.corpus.dedup import characters, closeness
from megatron.corpus.dedup.closeness import HeldOutGuard

SHORT_NGRAMS = DedupConfig(ngram_characters=4)
HELD_OUT = "No one shall be held in slavery or servitude; slavery and the slave trade shall be prohibited."
OTHER = "Everyone has the right to recognition everywhere as a person before the law, without distinction."


def guard(texts, settings=None, script="Latn"):
    return HeldOutGuard(texts, settings or DedupConfig(), script=script)


def naive(held, text, size):
    def ngrams(text):
        letters = "".join(character for character in text.casefold() if character.isalnum())
        return [letters[i : i + size] for i in range(len(letters) - size + 1)]

    known = {ngram for one in held for ngram in ngrams(one)}
    found = ngrams(text)
    if not found:
        return float("".join(text.split()).casefold() in {"".join(one.split()).casefold() for one in held})
    counts = Counter(found)
    return sum(count for ngram, count in counts.items() if ngram in known) / len(found)


TEXTS = st.lists(st.text(st.sampled_from("abA ."), max_size=30), max_size=5)


@given(TEXTS, TEXTS, st.integers(1, 60), st.integers(2, 5))
def test_the_share_is_that_of_sets_of_ngrams(held, texts, batch, bits):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(characters, "_BATCH_CHARACTERS", batch)
        patch.setattr(closeness, "_MIN_TABLE_BITS", bits)
        patch.setattr(
            closeness, "_MAX_TABLE_BITS", bits
        )  # most places of the table are taken: only the search can tell
        one = guard(held, SHORT_NGRAMS)
        found = one.shares(texts)
        assert found.tolist() == [one.share(text) for text in texts]
    assert found.tolist() == [naive(held, text, 4) for text in texts]


def test_shares_of_real_sentences():
    one = guard([OTHER[:30], HELD_OUT])
    assert one.share(HELD_OUT.upper().replace(" ", "\n")) == 1.0
    assert one.share(HELD_OUT[20:60]) == 1.0
    assert one.share("The weather was fine, and all of us went down to the river to swim.") == 0.0
    assert 0.4 < one.share(f"{HELD_OUT} {OTHER}") < 0.8


def test_texts_shorter_than_an_ngram_must_be_equal():
    one = guard(["Article 5", "5.1", HELD_OUT, "\U0001f642"])
    shares = one.shares(["ARTICLE  5", "Article 6", "51", "slavery", "\U0001f642", "!", ""])
    assert shares.tolist() == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]


def test_a_guard_that_holds_nothing():
    assert guard([]).shares([HELD_OUT, "", "short"]).tolist() == [0.0, 0.0, 0.0]
    assert guard([HELD_OUT]).shares([]).shape == (0,)


def test_the_script_decides_the_length_of_ngrams():
    held, text = "人人生而自由在尊嚴和權利上一律平等", "人人生而自由是好的"
    assert guard([held], script="Hani").share(text) == pytest.approx(2 / 5)
    assert guard([held], script="Latn").share(text) == 0.0


def test_it_can_be_pickled():
    one = guard([HELD_OUT])
    again = pickle.loads(pickle.dumps(one))
    assert again.share(f"{HELD_OUT} {OTHER}") == one.share(f"{HELD_OUT} {OTHER}") > 0


def test_memory_is_bounded():
    random = np.random.default_rng(0)
    text = "".join(map(chr, random.integers(0x4E00, 0x9FFF, 1_000_000)))
    assert len(pickle.dumps(guard([text], script="Hani"))) < 8 * len(text) + (16 << 20) + 4096
