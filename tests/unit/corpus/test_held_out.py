from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.corpus import held_out as module
from megatron.corpus.held_out import HeldOutChooser, text_hash

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), max_size=60)
WANTED = st.integers(1, 200)
FRACTION = st.floats(0.001, 0.5)


def choose(texts: list[str], *, valid_bytes: int = 16384, max_fraction: float = 0.1) -> set[str]:
    chooser = HeldOutChooser(valid_bytes=valid_bytes, max_fraction=max_fraction)
    for text in texts:
        chooser.add(text_hash(text.encode()), size_bytes=len(text.encode()))
    hashes = chooser.choose()
    return {text for text in texts if text_hash(text.encode()) in hashes}


@settings(max_examples=300, deadline=None)
@given(texts=TEXTS, valid_bytes=WANTED, max_fraction=FRACTION, order=st.randoms())
def test_rules(texts: list[str], valid_bytes: int, max_fraction: float, order: object) -> None:
    chosen = choose(texts, valid_bytes=valid_bytes, max_fraction=max_fraction)
    sizes = Counter()
    for text in texts:
        sizes[text] += len(text.encode())
    total = sum(sizes.values())
    # Both sides get something as soon as there are two different texts.
    assert (len(chosen) >= 1) == (len(sizes) >= 2)
    assert chosen < set(texts) or not texts
    # The smallest hashes first, passing over only texts that are more than half of the corpus.
    wanted = min(valid_bytes, max_fraction * total)
    expected, held = set(), 0
    for text in sorted(sizes, key=lambda text: text_hash(text.encode())):
        if held < wanted and 2 * sizes[text] <= total and len(sizes) > 1:
            expected.add(text)
            held += sizes[text]
    assert chosen == expected
    # The order of documents does not matter.
    shuffled = list(texts)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(shuffled, valid_bytes=valid_bytes, max_fraction=max_fraction) == chosen


@settings(max_examples=200, deadline=None)
@given(texts=TEXTS, valid_bytes=WANTED, max_fraction=FRACTION)
def test_forgetting_changes_nothing(texts: list[str], valid_bytes: int, max_fraction: float) -> None:
    expected = choose(texts, valid_bytes=valid_bytes, max_fraction=max_fraction)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SPARE_ENTRIES", 1)
        assert choose(texts, valid_bytes=valid_bytes, max_fraction=max_fraction) == expected


def test_forgetting_allows_for_a_text_that_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SPARE_ENTRIES", 1)
    chooser = HeldOutChooser(valid_bytes=10, max_fraction=0.5)
    for text in [30, 31, 32, *range(2, 20), 1]:
        chooser.add(text, size_bytes=1000 if text == 1 else 3)
    for text in range(40, 80):
        chooser.add(text, size_bytes=3)
    assert chooser.choose() == dict.fromkeys([2, 3, 4, 5], "valid")


def test_memory_does_not_grow_with_the_corpus() -> None:
    chooser = HeldOutChooser(valid_bytes=1000, max_fraction=0.1)
    for number in range(50_000):
        chooser.add(text_hash(b"%d" % number), size_bytes=10)
    assert len(chooser._bytes_of) < 2000
    assert len(chooser.choose()) == 100


def test_a_big_corpus_gives_valid_bytes_and_a_small_one_a_fraction() -> None:
    big = [f"document {number:06}" for number in range(20_000)]
    assert 16384 <= sum(map(len, choose(big))) < 16384 + 15
    small = [f"document {number:06}" for number in range(100)]
    assert len(choose(small)) == 10


def test_most_of_the_choice_stays_when_documents_are_added() -> None:
    texts = [f"document {number}" for number in range(20_000)]
    before, after = choose(texts), choose([*texts, *(f"new {number}" for number in range(2000))])
    assert len(before & after) > 0.8 * len(before)


def test_nothing_is_held_out_when_nothing_is_asked_for() -> None:
    assert choose(["a", "b", "c"], valid_bytes=0) == set()


@pytest.mark.parametrize(("valid_bytes", "max_fraction"), [(-1, 0.1), (5, 0.0), (5, 0.6), (5, -0.1)])
def test_impossible_settings_are_refused(valid_bytes: int, max_fraction: float) -> None:
    with pytest.raises(ValueError, match="max_fraction"):
        HeldOutChooser(valid_bytes=valid_bytes, max_fraction=max_fraction)


@settings(max_examples=200, deadline=None)
@given(texts=TEXTS, wanted=st.tuples(WANTED, WANTED), fraction=FRACTION, parts=st.integers(1, 4))
def test_parts_of_a_corpus_can_be_looked_at_one_by_one(
    texts: list[str], wanted: tuple[int, int], fraction: float, parts: int
) -> None:
    def chooser() -> HeldOutChooser:
        return HeldOutChooser(valid_bytes=wanted[0], test_bytes=wanted[1], max_fraction=fraction)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SPARE_ENTRIES", 1)
        whole, merged = chooser(), chooser()
        for text in texts:
            whole.add(text_hash(text.encode()), size_bytes=len(text.encode()))
        for part in range(parts):
            one = chooser()
            for text in texts[part::parts]:
                one.add(text_hash(text.encode()), size_bytes=len(text.encode()))
            merged.merge(one.candidates(), total_bytes=one.total_bytes)
    assert merged.total_bytes == whole.total_bytes
    assert merged.choose() == whole.choose()
    # Something is always left to train on, and a text is held out for one thing.
    assert len(whole.choose()) < max(1, len(set(texts)))


def test_a_test_set_comes_after_the_validation_set() -> None:
    def chosen(test_bytes: int) -> dict[int, str]:
        chooser = HeldOutChooser(valid_bytes=100, test_bytes=test_bytes, max_fraction=0.1)
        for number in range(1000):
            chooser.add(text_hash(b"%d" % number), size_bytes=10)
        return dict(chooser.choose())

    without, both = chosen(0), chosen(50)
    assert {text for text, split in both.items() if split == "valid"} == set(without)
    assert sum(split == "test" for split in both.values()) == 5
