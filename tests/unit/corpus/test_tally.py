from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from megatron.corpus.tally import Key, Tally

KEYS = st.builds(
    Key,
    st.sampled_from(["clean", "filters"]),
    st.sampled_from(["eng_Latn", "tha_Thai"]),
    st.sampled_from(["in", "out", "dropped"]),
    st.sampled_from(["", "short", "digits"]),
)
EVENTS = st.lists(st.tuples(KEYS, st.integers(0, 1000), st.text(st.characters(exclude_categories=["Cs"]), max_size=5)))


def tally_of(events: list[tuple[Key, int, str]], keep: int) -> Tally:
    tally = Tally(keep)
    for key, size_bytes, text in events:
        tally.add(key, size_bytes)
        tally.show(key, "id", text, "detail")
    return tally


@given(events=EVENTS, keep=st.integers(0, 3), order=st.randoms(use_true_random=False), parts=st.integers(1, 4))
def test_sums_do_not_depend_on_the_order(
    events: list[tuple[Key, int, str]], keep: int, order: object, parts: int
) -> None:
    whole = tally_of(events, keep).to_json()
    shuffled = list(events)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    merged = Tally(keep)
    for part in range(parts):
        merged.merge(tally_of(shuffled[part::parts], keep))
    assert merged.to_json() == whole
    assert sum(merged.documents.values()) == len(events)
    assert sum(merged.bytes.values()) == sum(size for _, size, _ in events)


@given(events=EVENTS, keep=st.integers(0, 3))
def test_json_keeps_everything(events: list[tuple[Key, int, str]], keep: int) -> None:
    content = tally_of(events, keep).to_json()
    assert Tally.from_json(json.loads(json.dumps(content)), keep=keep).to_json() == content


def test_examples_are_few_short_and_the_same_ones() -> None:
    events = [(Key("clean", "eng_Latn", "dropped", "short"), 1, f"text {number} " * 100) for number in range(50)]
    kept = tally_of(events, 3).examples[("clean", "short")]
    assert len(kept) == 3
    assert all(len(example.text) < 310 for example in kept.values())
    assert tally_of(events[::-1], 3).examples[("clean", "short")] == kept
