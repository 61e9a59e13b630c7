from __future__ import annotations

import math
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.evaluation.metrics.classification import accuracy, exact_match, macro_f1
from megatron.evaluation.metrics.texts import Texts, warn_once

LABELS = st.sampled_from(["science", "travel", "ธรรมชาติ", "", "sports"])
PAIRS = st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40)


def texts(*pairs: tuple[str, list[str]]) -> Texts:
    return Texts([output for output, _ in pairs], [answers for _, answers in pairs], "swh_Latn")


@pytest.fixture(scope="module")
def peer() -> ModuleType:
    return pytest.importorskip("sklearn.metrics", reason="the peer scikit-learn is not installed")


def macro_f1_by_definition(chosen: list[str], wanted: list[str]) -> float:
    scores = []
    for label in {*chosen, *wanted}:
        both = sum(c == w == label for c, w in zip(chosen, wanted, strict=True))
        precision = both / chosen.count(label) if label in chosen else 0.0
        recall = both / wanted.count(label) if label in wanted else 0.0
        scores.append(2 * precision * recall / (precision + recall) if both else 0.0)
    return sum(scores) / len(scores)


@settings(deadline=None)
@given(PAIRS)
def test_macro_f1_is_its_definition(pairs: list[tuple[str, str]]) -> None:
    ours = macro_f1(texts(*((chosen, [wanted]) for chosen, wanted in pairs)))
    assert ours == pytest.approx(macro_f1_by_definition(*map(list, zip(*pairs, strict=True))))


@settings(deadline=None)
@given(PAIRS)
def test_labels_agree_with_scikit_learn(peer: ModuleType, pairs: list[tuple[str, str]]) -> None:
    given_texts = texts(*((chosen, [wanted]) for chosen, wanted in pairs))
    chosen, wanted = map(list, zip(*pairs, strict=True))
    f1 = peer.f1_score(wanted, chosen, average="macro", zero_division=0, labels=sorted({*chosen, *wanted}))
    assert macro_f1(given_texts) == pytest.approx(f1)
    assert accuracy(given_texts) == pytest.approx(peer.accuracy_score(wanted, chosen))


def test_any_right_answer_is_right() -> None:
    both = texts(("a", ["b", "a"]), ("c", ["b", "a"]))
    assert accuracy(both) == 0.5
    # The first item counts as an a, the second as a b that was taken for a c.
    assert macro_f1(both) == pytest.approx(1 / 3)


def test_exact_match_forgives_blanks_at_the_ends_and_nothing_else() -> None:
    matches = texts((" 42\n", ["42"]), ("4 2", ["42"]), ("Yes", ["yes"]), ("\u0065\u0301", ["\u00e9"]), ("", [" "]))
    assert exact_match(matches) == pytest.approx(2 / 5)
    assert accuracy(matches) == 0.0


def test_items_without_an_answer_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    warn_once.cache_clear()
    for _ in range(2):
        assert accuracy(texts(("a", ["a"]), ("b", []), ("c", ["a"]))) == 0.5
    assert [record.message for record in caplog.records] == [
        "swh_Latn: 1 of 3 items have no right answer; metrics that compare with one leave them out"
    ]
    for metric in (accuracy, exact_match, macro_f1):
        assert math.isnan(metric(texts(("a", [])))) and math.isnan(metric(texts()))
