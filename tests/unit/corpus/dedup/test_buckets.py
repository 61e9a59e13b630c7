from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.corpus.dedup.buckets import duplicates

LARGE = (1 << 64) - 1
NUMBERS = st.one_of(st.integers(0, 12), st.integers(LARGE - 3, LARGE))
ENTRIES = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=60)


def run(entries):
    array = np.array(entries, dtype=np.uint64).reshape(-1, 2)
    keys, items = array[:, 0].copy(), array[:, 1].copy()
    before = array.copy()
    found, exact = duplicates(keys, items)
    np.testing.assert_array_equal(np.stack([keys, items], axis=1), before)  # the arguments stay as they were
    assert found.dtype == np.uint64
    assert exact.dtype == np.bool_
    assert found.shape == exact.shape
    return dict(zip(found.tolist(), exact.tolist(), strict=True))


def buckets_of(entries):
    buckets = defaultdict(set)
    for key, item in entries:
        buckets[key].add(item)
    return buckets


@given(ENTRIES)
def test_an_item_goes_when_it_is_not_the_smallest_of_a_bucket(entries):
    expected = {}
    for key, items in buckets_of(entries).items():
        for item in items - {min(items)}:
            expected[item] = expected.get(item, False) or key % 2 == 1
    found = run(entries)
    assert found == expected
    assert list(found) == sorted(found)


@given(ENTRIES)
def test_who_goes_has_a_smaller_one_beside_it_and_who_stays_is_alone(entries):
    found, buckets = run(entries), buckets_of(entries)
    for item in found:
        assert any(item in items and min(items) < item for items in buckets.values())
    for items in buckets.values():
        assert len(items - set(found)) <= 1


@given(ENTRIES, st.randoms(use_true_random=False), st.integers(1, 4))
def test_neither_the_order_nor_the_spread_over_workers_matters(entries, random, workers):
    expected = run(entries)
    random.shuffle(entries)
    parts = [run([entry for entry in entries if entry[0] % workers == worker]) for worker in range(workers)]
    joined = {}
    for part in parts:
        for item, exact in part.items():
            joined[item] = joined.get(item, False) or exact
    assert joined == expected


def test_nothing_repeated_or_nothing_at_all():
    assert run([]) == {}
    assert run([(1, 5), (2, 5), (3, 4)]) == {}
    assert run([(1, 5), (1, 5)]) == {}  # an item that has a key twice is no double of itself


def test_a_text_that_resembles_two_different_ones_goes_but_they_stay():
    assert run([(2, 1), (4, 2), (2, 3), (4, 3)]) == {3: False}


def test_arrays_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"keys \(3,\) and items \(2,\)"):
        duplicates(np.zeros(3, dtype=np.uint64), np.zeros(2, dtype=np.uint64))
