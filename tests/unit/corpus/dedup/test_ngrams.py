import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.corpus_schema import DedupConfig
from megatron.corpus.dedup import ngrams
from megatron.corpus.dedup.characters import fold
from megatron.corpus.dedup.ngrams import NGRAM_CHARACTERS, ngram_characters, ngram_counts, ngram_hashes
from megatron.languages.script import OTHER_SCRIPTS, UNICODE_SCRIPTS

MODULUS = 1 << 64


def naive(text, size):
    """Every n-gram's sum, term by term, then mixed."""
    values = fold([text], punctuation=False).values.tolist()
    hashes = []
    for start in range(len(values) - size + 1):
        total = (
            sum(v * pow(ngrams._MULTIPLIER, j, MODULUS) for j, v in enumerate(values[start : start + size])) % MODULUS
        )
        total ^= total >> 32
        hashes.append(total * int(ngrams._MIXER) % MODULUS)
    return hashes


def by_text(texts, size):
    found = [[] for _ in range(len(texts) + 1)]
    for hashes, owners in ngram_hashes(fold(texts, punctuation=False), size):
        assert hashes.dtype == np.uint64
        assert hashes.shape == owners.shape
        for value, owner in zip(hashes.tolist(), owners.tolist(), strict=True):
            found[owner].append(value)
    return found[:-1]


TEXTS = st.lists(st.text(st.sampled_from("aBc 自ก.\u0301"), max_size=25), max_size=6)


@given(TEXTS, st.integers(1, 8), st.integers(1, 20))
def test_the_running_sum_gives_the_sum_of_every_ngram(texts, size, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "_PIECE_NGRAMS", piece)
        found = by_text(texts, size)
    assert found == [naive(text, size) for text in texts]
    assert [len(hashes) for hashes in found] == ngram_counts(fold(texts, punctuation=False), size).tolist()


def test_a_text_of_several_pieces():
    random = np.random.default_rng(3)
    text = "".join(map(chr, random.integers(ord("a"), ord("z") + 1, 3 * ngrams._PIECE_NGRAMS // 2)))
    hashes = by_text(["short", text, "also short"], 12)[1]
    for start in (0, ngrams._PIECE_NGRAMS - 12, ngrams._PIECE_NGRAMS - 5, len(hashes) - 1):
        assert hashes[start] == naive(text[start : start + 12], 12)[0]
    assert len(hashes) == len(text) - 11


def test_hashes_are_spread_evenly():
    """Similar n-grams, such as numbers that count up, fill the values' range: no gaps and no heaps."""
    texts = [f"{number:012d}" for number in range(50_000)]
    hashes = np.array([hashes[0] for hashes in by_text(texts, 12)], dtype=np.uint64)
    assert len(np.unique(hashes)) == len(texts)
    counts = np.bincount((hashes >> np.uint64(57)).astype(np.int64), minlength=128)
    expected = len(texts) / 128
    assert np.sum((counts - expected) ** 2 / expected) < 128 + 6 * np.sqrt(2 * 128)  # chi squared


def test_the_length_for_a_script():
    settings = DedupConfig(ngram_characters=16, script_ngram_characters={"Jpan": 8, "Thai": 10})
    lengths = {script: ngram_characters(settings, script) for script in ("Latn", "Jpan", "Thai", "Hani")}
    assert lengths == {"Latn": 16, "Jpan": 8, "Thai": 10, "Hani": NGRAM_CHARACTERS["Hani"]}


def test_the_table_names_scripts_of_iso_15924():
    assert set(NGRAM_CHARACTERS) <= {*UNICODE_SCRIPTS, *OTHER_SCRIPTS}
