from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.data import mixture
from megatron.monitor.summary import (
    NO_TIER,
    bits_per_byte,
    compare,
    format_table,
    group_lines,
    macro_means,
    num_unscored,
    order_tiers,
    tier_table,
)

DATA = Path(__file__).parents[4] / "shared" / "data"


def _row(corpus: str, value: float, *, tier: str | None = "high", source: str = "monolingual", size: int = 100) -> dict:
    return {"corpus": corpus, "code": corpus[:8], "tier": tier, "source": source,
            "nats": value * math.log(2) * size, "bytes": size, "tokens": 10}  # fmt: skip


def test_a_uniform_model_over_bytes_needs_eight_bits() -> None:
    assert bits_per_byte(1000 * math.log(256), 1000) == pytest.approx(8.0)
    with pytest.raises(ValueError, match="0 bytes"):
        bits_per_byte(1.0, 0)


def test_every_corpus_counts_the_same_whatever_its_size() -> None:
    rows = [_row("eng_Latn", 1.0, size=1_000_000), _row("hau_Latn", 3.0, size=10)]
    assert macro_means(rows, by="tier") == {"high": pytest.approx(2.0)}


def test_means_per_source_and_per_code() -> None:
    rows = [_row("eng_Latn", 1.0), _row("eng_Latn-books", 2.0, source="books"), _row("hau_Latn", 3.0)]
    assert macro_means(rows, by="source") == {"monolingual": pytest.approx(2.0), "books": pytest.approx(2.0)}
    assert macro_means(rows, by="code") == {"eng_Latn": pytest.approx(1.5), "hau_Latn": pytest.approx(3.0)}


def test_a_corpus_without_bytes_is_counted_and_changes_no_mean() -> None:
    rows = [_row("eng_Latn", 1.0), {**_row("hau_Latn", 0.0), "bytes": 0}]
    assert macro_means(rows, by="tier") == {"high": pytest.approx(1.0)}
    assert num_unscored(rows) == 1


def _tiers(sizes: dict[str, int], source: str = "monolingual") -> list[dict]:
    """Rows of a mixture, two corpora for each tier."""
    return [{"tier": tier, "source": source, "tokens": size // 2} for tier, size in sizes.items() for _ in range(2)]


MALA = ["high", "medium-high", "medium", "medium-low", "low"]
OUTSIDE = [mixture.BELOW, mixture.UNTIERED, NO_TIER]


@given(st.permutations([*MALA, "code", "book", *OUTSIDE]))
def test_malas_tiers_go_from_large_to_small_whatever_they_hold(names: list[str]) -> None:
    sizes = {"low": 10**9, "code": 10**6, "book": 100, mixture.BELOW: 10**8}
    rows = [row for name in names for row in _tiers({name: sizes.get(name, 8)}, source=name)]
    assert order_tiers(rows) == [*MALA, "code", "book", *OUTSIDE]


@given(st.permutations(["big", "medium", "tiny", "code", *OUTSIDE]))
def test_own_tiers_are_ordered_by_all_of_their_corpora(names: list[str]) -> None:
    sizes = {"big": 500, "code": 400, "medium": 300, "tiny": 200, mixture.UNTIERED: 900}
    rows = [row for name in names for row in _tiers({name: sizes.get(name, 100)})]
    assert order_tiers(rows) == ["big", "code", "medium", "tiny", *OUTSIDE]


def test_tables_have_the_order_of_their_rows_or_the_one_they_are_given() -> None:
    many = [_row(f"c{number}", 1.0, tier="many", size=40) for number in range(3)]
    rows = [_row("one", 1.0, tier="one", size=100), *many, _row("late", 1.0, tier="late", size=1)]
    assert list(macro_means(rows, by="tier")) == ["many", "one", "late"]
    assert [line.name for line in tier_table(rows, rows)] == ["many", "one", "late", "all"]
    # What is held out says little about a corpus; a mixture's rows say more.
    given_order = order_tiers(_tiers({"one": 500, "many": 90}))
    assert list(macro_means(rows, by="tier", tiers=given_order)) == ["one", "many", "late"]
    assert [line.name for line in tier_table(rows, rows, tiers=given_order)] == ["one", "many", "late", "all"]


def test_before_and_after_are_joined_by_name_not_by_position() -> None:
    first = [_row("eng_Latn", 1.0), _row("hau_Latn", 4.0, tier="low"), _row("gone_Latn", 9.0)]
    last = [_row("new_Latn", 9.0), _row("hau_Latn", 2.0, tier="low"), _row("eng_Latn", 1.1)]
    changes = {change.corpus: change for change in compare(first, last)}
    assert set(changes) == {"eng_Latn", "hau_Latn"}
    assert changes["hau_Latn"].relative == pytest.approx(-0.5)
    lines = {line.name: line for line in tier_table(first, last)}
    assert list(lines) == ["high", "low", "all"]
    assert (lines["high"].improved, lines["high"].worse) == (0, 1)
    assert (lines["all"].improved, lines["all"].worse, lines["all"].corpora) == (1, 1, 2)
    assert lines["all"].before == pytest.approx(2.5)
    assert lines["all"].relative == pytest.approx(1.55 / 2.5 - 1)
    assert lines["all"].ratio == pytest.approx(math.sqrt(0.5 * 1.1))


def test_nothing_in_common_gives_no_lines() -> None:
    assert tier_table([_row("eng_Latn", 1.0)], [_row("hau_Latn", 1.0)]) == []


def test_a_diverged_corpus_shows_in_its_tier_and_in_no_count() -> None:
    (line, _) = tier_table([_row("eng_Latn", 1.0)], [_row("eng_Latn", math.nan)])
    assert math.isnan(line.after)
    assert (line.improved, line.worse) == (0, 0)


def test_the_table_is_aligned_and_signed() -> None:
    text = format_table(tier_table([_row("eng_Latn", 2.0)], [_row("eng_Latn", 1.0)]))
    assert text.splitlines()[0].split() == ["tier", "corpora", "before", "after", "change", "improved", "worse"]
    assert text.splitlines()[2].split() == ["high", "1", "2.0000", "1.0000", "-50.0%", "1", "0"]
    assert len({len(line) for line in text.splitlines()}) == 1


@pytest.mark.parametrize(
    ("table", "tier", "corpora", "ratio", "after", "before", "worse"),
    [
        ("nll_glot500.csv", "high", 27, 0.6322, 81.7803, 146.4309, 2),
        ("nll_glot500.csv", "medium-low", 127, 0.4721, 99.2831, 210.4067, 0),
        ("nll_pbc.csv", "low", 87, 0.4091, 59.8515, 137.3065, 0),
        ("nll_pbc.csv", NO_TIER, 54, 0.8151, 109.7409, 131.1389, 1),
    ],
)
def test_published_emma_results_by_tier(
    table: str, tier: str, corpora: int, ratio: float, after: float, before: float, worse: int
) -> None:
    scores, tiers = DATA / "emma_results" / table, DATA / "mala" / "languages.tsv"
    if not scores.exists() or not tiers.exists():
        pytest.skip(f"{scores} and {tiers} are not here: the published results cannot be compared")
    with tiers.open(encoding="utf-8") as file:
        tier_of = {row["code"]: row["tier"] for row in csv.DictReader(file, delimiter="\t")}
    with scores.open(encoding="utf-8") as file:
        models = {row.pop("model"): row for row in csv.DictReader(file)}

    def rows(model: str) -> list[dict]:
        return [
            _row(code, float(value), tier=tier_of.get(code)) | {"code": code}
            for code, value in models[model].items()
            if "_" in code
        ]

    lines = group_lines(compare(rows("Llama 2 7B"), rows("EMMA-500 Llama 2 7B")), by="tier")
    line = next(line for line in lines if line.name == tier)
    assert line.corpora == corpora
    assert line.ratio == pytest.approx(ratio, abs=5e-5)
    assert line.after == pytest.approx(after, abs=5e-5)
    assert line.before == pytest.approx(before, abs=5e-5)
    assert line.worse == worse
