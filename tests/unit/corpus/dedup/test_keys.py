import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.corpus_schema import DedupConfig
from megatron.corpus.dedup import characters
from megatron.corpus.dedup.keys import NO_KEY, DocumentKeys, exact_keys, paragraph_keys, split_paragraphs

SETTINGS = DedupConfig()
ARTICLE = (
    "Everyone has the right to a standard of living adequate for the health and well-being of himself and of his "
    "family, including food, clothing, housing and medical care and necessary social services."
)
TITLE = "Universal Declaration of Human Rights"


def keys(texts, script="Latn", **settings):
    return DocumentKeys(DedupConfig(**settings), script=script).keys(texts)


@pytest.mark.parametrize(("exact", "near", "columns"), [(True, True, 6), (True, False, 1), (False, True, 5)])
def test_the_lowest_bit_says_what_kind_of_key_it_is(exact, near, columns):
    maker = DocumentKeys(DedupConfig(exact=exact, near=near, bands=5), script="Latn")
    found = maker.keys([ARTICLE, TITLE, ""])
    assert maker.columns == columns
    assert found.shape == (3, columns)
    assert found.dtype == np.uint64
    assert (found & np.uint64(1)).tolist() == [[1] * exact + [0] * (5 * near)] * 3


def test_the_bands_are_the_same_with_and_without_the_exact_key():
    np.testing.assert_array_equal(keys([ARTICLE, TITLE])[:, 1:], keys([ARTICLE, TITLE], exact=False))


@pytest.mark.parametrize("text", [ARTICLE, TITLE, "\U0001f642 !", "自由"])
def test_case_and_white_space_change_no_key(text):
    one, other = keys([text, f"  {text.upper()}\u200b\n".replace(" ", "\n\t")])
    np.testing.assert_array_equal(one, other)


def test_punctuation_changes_the_exact_key_only():
    one, other = keys([ARTICLE, f"«{ARTICLE.replace(',', ' –')}» \U0001f642"])
    assert one[0] != other[0]
    np.testing.assert_array_equal(one[1:], other[1:])


@pytest.mark.parametrize("change", [lambda text: text + "!", lambda text: text + " 1948", lambda text: "The " + text])
def test_short_texts_meet_only_equal_ones(change):
    one, other, same = keys([TITLE, change(TITLE), TITLE.upper()])
    assert not (one == other).any()
    np.testing.assert_array_equal(one, same)
    assert len(np.unique(one)) == len(one)


def test_texts_of_punctuation_alone_are_not_all_alike():
    found = keys(["\U0001f642", "\U0001f643", "!", "? ?"])
    assert len(np.unique(found)) == found.size


def test_texts_without_characters_are_equal():
    one, other = keys(["", " \u200b"])
    np.testing.assert_array_equal(one, other)


@given(st.lists(st.text(st.sampled_from("abc 自.\n"), max_size=200), max_size=8), st.integers(1, 300))
def test_the_keys_of_a_text_do_not_depend_on_its_neighbours(texts, size):
    maker = DocumentKeys(DedupConfig(bands=4, rows=3, ngram_characters=4), script="Latn")
    alone = [maker.keys([text])[0].tolist() for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(characters, "_BATCH_CHARACTERS", size)
        together = maker.keys(texts)
    assert together.tolist() == alone
    assert exact_keys(texts).tolist() == [row[0] for row in alone]


GOLDEN_ARTICLE = ["0x508f8d2a30fbf111", "0xcfc91cfe50006ef8", "0x202346f9b5f1691c"]
GOLDEN_HAN = ["0x290e31a0c15b9e91", "0xc4737e9a90ae856e", "0x8de47cd6da3d104"]


def test_keys_are_the_same_on_every_machine_and_in_every_version():
    """Fails when a key changes: then raise the recipe's number in passes/dedup.py, so that no old key is used again."""
    assert [hex(key) for key in keys([ARTICLE])[0, :3].tolist()] == GOLDEN_ARTICLE
    assert [
        hex(key) for key in keys(["人人生而自由在尊嚴和權利上一律平等" * 2], script="Hani")[0, :3].tolist()
    ] == GOLDEN_HAN


def test_the_script_decides_the_length_of_ngrams():
    text = "人人生而自由,在尊嚴和權利上一律平等。他們賦有理性和良心,並應以兄弟關係的精神相對待。"
    assert not (keys([text], script="Hani")[0, 1:] == keys([text], script="Latn")[0, 1:]).any()
    own = {"script_ngram_characters": {"Latn": 5}}
    np.testing.assert_array_equal(keys([text], script="Hani"), keys([text], script="Latn", **own))


def test_one_ngram_repeated_is_no_trouble():
    one, other, third = keys(["a" * 500, "a" * 900, "ab" * 500])
    np.testing.assert_array_equal(one[1:], other[1:])
    assert not (one == third).any()


@pytest.mark.parametrize("text", ["x" * 4_000_000, "word " * 800_000])
def test_memory_of_a_long_text(text):
    maker = DocumentKeys(SETTINGS, script="Latn")
    maker.keys(["tables are made once"])
    tracemalloc.start()
    maker.keys([text])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(text) + (8 << 20)


# ---- paragraphs ------------------------------------------------------------------------------------------------------


@given(st.text(st.sampled_from("ab \n\r\u2028\x85")), st.integers(1, 5))
def test_paragraphs_join_to_the_text_and_only_long_ones_have_a_key(text, least):
    paragraphs, found = paragraph_keys(text, DedupConfig(min_paragraph_characters=least))
    assert "".join(paragraphs) == text
    assert paragraphs == split_paragraphs(text)
    assert found.shape == (len(paragraphs),)
    assert [key != NO_KEY for key in found.tolist()] == [len(line.strip()) >= least for line in paragraphs]


def test_equal_paragraphs_have_equal_keys_and_others_do_not():
    text = f"{ARTICLE}\n\n  {ARTICLE.upper()} \nshort\n{ARTICLE} Indeed.\r\n{ARTICLE}"
    paragraphs, found = paragraph_keys(text, SETTINGS)
    assert len(paragraphs) == 6
    assert found[0] == found[2] == found[5] != found[4]
    assert found[1] == found[3] == NO_KEY
    assert (found[[0, 4]] & np.uint64(1)).all()
    assert found[0] == exact_keys([ARTICLE])[0]
