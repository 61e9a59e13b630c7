import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.corpus.dedup.characters import Characters, fold
from megatron.corpus.dedup.minhash import EMPTY, band_keys, densify, mix, signatures
from megatron.corpus.dedup.ngrams import ngram_hashes

HASHES = 112


def texts_of(similarity, count, *, length, seed):
    """Pairs of random texts that share their beginning, so that about this share of all their n-grams is common."""
    random = np.random.default_rng(seed)
    shared = round(length * 2 * similarity / (1 + similarity))
    pairs = random.integers(ord("a"), ord("z") + 1, (2, count, length), dtype=np.uint32)
    pairs[1, :, :shared] = pairs[0, :, :shared]
    starts = np.arange(count + 1, dtype=np.int64) * length
    return [Characters(side.ravel(), starts) for side in pairs]


def ngram_sets(characters, size):
    sets = [set() for _ in range(len(characters.starts))]
    for hashes, owners in ngram_hashes(characters, size):
        for value, owner in zip(hashes.tolist(), owners.tolist(), strict=True):
            sets[owner].add(value)
    return sets[:-1]


@given(st.lists(st.text(st.sampled_from("abcd"), max_size=40), max_size=5), st.integers(1, 6), st.integers(1, 30))
def test_a_signature_holds_the_smallest_hash_of_every_bin(texts, size, hashes):
    characters = fold(texts, punctuation=False)
    expected = np.full((len(texts), hashes), int(EMPTY), dtype=np.uint64)
    for row, values in zip(expected, ngram_sets(characters, size), strict=True):
        for value in values:
            place = (value >> 32) * hashes >> 32
            row[place] = min(int(row[place]), value)
    np.testing.assert_array_equal(signatures(characters, size, hashes), expected)


@given(st.integers(0, 1 << 32), st.integers(1, 40))
def test_densifying_fills_every_bin_with_a_hash_of_the_text_and_leaves_the_full_ones(seed, hashes):
    random = np.random.default_rng(seed)
    sparse = random.integers(0, 1 << 63, (6, hashes), dtype=np.uint64)
    sparse[random.random(sparse.shape) < 0.8] = EMPTY
    dense = sparse.copy()
    densify(dense)
    for before, after in zip(sparse, dense, strict=True):
        filled = before != EMPTY
        np.testing.assert_array_equal(after[filled], before[filled])
        assert set(after.tolist()) <= set(before[filled].tolist()) | (set() if filled.any() else {int(EMPTY)})


@pytest.mark.parametrize("length", [60, 150, 1500])  # with many empty bins, with some, with none
@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.8, 0.95])
def test_texts_agree_in_a_bin_as_often_as_they_are_similar(similarity, length):
    size, count = 12, 400
    sides = texts_of(similarity, count, length=length, seed=7)
    sets = [ngram_sets(side, size) for side in sides]
    exact = np.array([len(a & b) / len(a | b) for a, b in zip(*sets, strict=True)])
    dense = [signatures(side, size, HASHES) for side in sides]
    for side in dense:
        densify(side)
    agreement = (dense[0] == dense[1]).mean(axis=1)
    spread = np.sqrt(0.25 / min(HASHES, length - size + 1))
    assert abs((agreement - exact).mean()) < 4 * spread / np.sqrt(count)
    assert (agreement - exact).std() < 1.3 * spread


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8, 0.9])
def test_texts_share_a_band_as_often_as_the_formula_says(similarity):
    sides = texts_of(similarity, 1500, length=1500, seed=11)
    keys = [band_keys(signatures(side, 12, HASHES), 14, 8) for side in sides]
    found = (keys[0] == keys[1]).any(axis=1).mean()
    assert found == pytest.approx(1 - (1 - similarity**8) ** 14, abs=0.05)


def test_a_key_depends_on_every_hash_of_its_band_and_on_no_other():
    signature = np.random.default_rng(0).integers(0, 1 << 63, (1, 12), dtype=np.uint64)
    before = band_keys(signature, 3, 4)
    for place in range(12):
        changed = signature.copy()
        changed[0, place] ^= np.uint64(1)
        assert (band_keys(changed, 3, 4) != before)[0].tolist() == [place // 4 == band for band in range(3)]


def test_equal_hashes_do_not_make_equal_keys_of_different_bands():
    assert len(np.unique(band_keys(np.full((1, 112), 5, dtype=np.uint64), 14, 8))) == 14


def test_mixing_is_that_of_splitmix64():
    # The reference implementation's first numbers from the seed 1234567.
    step = np.uint64(0x9E3779B97F4A7C15)
    states = np.uint64(1234567) + step * np.arange(3, dtype=np.uint64)
    assert mix(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]
