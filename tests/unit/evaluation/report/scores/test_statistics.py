from __future__ import annotations

import math
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.evaluation.report.scores.inputs import load_evaluation
from megatron.evaluation.report.scores.statistics import group_lines, mean_ranks, total_line
from megatron.evaluation.report.scores.summary import Summary, summarise
from megatron.evaluation.report.scores.tiers import read_tiers
from megatron.evaluation.report.scores.values import Language, Row, Table
from megatron.evaluation.results import LOSSY

BASE, EMMA = "Llama 2 7B", "EMMA-500 Llama 2 7B"
# Of the published tables: n, mean of ratios, exp of the mean log-ratio, ratio of sums, mean EMMA, mean base, worse.
GOLDEN = {
    "glot500": {
        "high": (27, 0.6625, 0.6322, 0.5585, 81.7803, 146.4309, 2),
        "medium-high": (78, 0.6610, 0.6342, 0.5723, 100.8910, 176.3028, 1),
        "medium": (60, 0.6228, 0.6091, 0.5952, 122.5285, 205.8578, 0),
        "medium-low": (127, 0.4861, 0.4721, 0.4719, 99.2831, 210.4067, 0),
        "low": (110, 0.5288, 0.4977, 0.5092, 101.7703, 199.8494, 0),
        "unseen": (25, 0.7753, 0.7553, 0.7834, 142.1670, 181.4818, 0),
        "unmapped": (107, 0.8112, 0.7939, 0.8192, 141.4002, 172.6017, 2),
    },
    "pbc": {
        "high": (24, 0.5989, 0.5755, 0.5489, 50.1170, 91.3000, 1),
        "medium-high": (67, 0.5946, 0.5749, 0.5595, 55.6233, 99.4128, 0),
        "medium": (45, 0.5893, 0.5755, 0.5768, 64.7790, 112.3053, 0),
        "medium-low": (76, 0.4660, 0.4456, 0.4548, 60.5306, 133.0791, 0),
        "low": (87, 0.4507, 0.4091, 0.4359, 59.8515, 137.3065, 0),
        "unseen": (17, 0.7596, 0.7357, 0.7624, 95.5321, 125.2964, 0),
        "unmapped": (54, 0.8369, 0.8151, 0.8368, 109.7409, 131.1389, 1),
    },
}
MEANS = {"glot500": 112.2040, "pbc": 68.1137}  # of EMMA over all languages, as the tables themselves say
LOST = {
    "glot500": {"enm_Latn": (79.0826, 90.0970), "eng_Latn": (30.4504, 32.2490), "jpn_Jpan": (136.2557, 139.9676),
                "deu_Latn": (37.4581, 38.1209), "ita_Latn": (39.3512, 39.5312)},
    "pbc": {"eng_Latn": (28.4001, 33.1923), "enm_Latn": (45.4281, 51.0553)},
}  # fmt: skip


@pytest.fixture(scope="module")
def emma(shared: Path) -> Summary:
    """The published tables of EMMA-500 and its base, with the tiers of its training text."""
    paths = [shared / "data" / "emma_results" / f"nll_{name}.csv" for name in GOLDEN]
    tiers = read_tiers(shared / "data" / "mala" / "languages.tsv")
    evaluation = load_evaluation(paths, tiers=tiers, models=[BASE, EMMA])
    return summarise(evaluation, pivots=["eng_Latn"])


def test_the_published_tables_by_tier(emma: Summary) -> None:
    assert [entry.table.benchmark for entry in emma.tables] == list(GOLDEN)
    for entry in emma.tables:
        golden = GOLDEN[entry.table.benchmark]
        assert [line.name for line in entry.tiers] == list(golden)
        for line in entry.tiers:
            change = line.changes[1]
            assert change is not None
            found = (
                line.languages, change.mean_ratio, math.exp(change.change), change.ratio_of_sums, line.means[1],
                line.means[0], change.worse,
            )  # fmt: skip
            assert found == tuple(pytest.approx(value, abs=5.01e-5) for value in golden[line.name]), line.name
            assert line.left_out == 0
            assert change.improved + change.worse == line.languages
            assert change.low < change.change < change.high
        assert entry.total.means[1] == pytest.approx(MEANS[entry.table.benchmark], abs=5.01e-5)
        assert entry.total.languages == sum(row[0] for row in golden.values())


def test_the_languages_that_the_published_model_lost_are_all_named(emma: Summary) -> None:
    for entry in emma.tables:
        (found,) = entry.forgetting
        lost = LOST[entry.table.benchmark]
        assert {pair.language.code: (pair.base, pair.value) for pair in found.losers} == lost
        order = [pair.value / pair.base for pair in found.losers]
        assert order == sorted(order, reverse=True)
        assert (found.shares[-1].worse, found.shares[-1].languages) == (len(lost), entry.total.languages)
        assert {share.name: share.worse for share in found.shares[:-1]} == {
            name: row[-1] for name, row in GOLDEN[entry.table.benchmark].items()
        }
        assert found.pivots[0].language.code == "eng_Latn"
        assert len(found.pivots) == GOLDEN[entry.table.benchmark]["high"][0]  # English is one of the tier
        assert found.missing == ()


_VALUE = st.one_of(st.floats(0.01, 100), st.just(math.nan))
_ROW = st.tuples(_VALUE, _VALUE, _VALUE, st.booleans(), st.sampled_from(["high", "low"]))
_ROWS = st.lists(_ROW, min_size=1, max_size=30)


def table_of(rows: list, *, higher: bool, loss: bool) -> Table:
    made = []
    for number, (*values, lossy, tier) in enumerate(rows):
        flags = (frozenset[str](), frozenset({LOSSY}) if lossy else frozenset[str](), frozenset({"contaminated"}))
        made.append(Row(Language(f"a{number:02}", tier), tuple(values), flags))
    return Table("b", "m", True, higher, loss, tuple(made))


@given(_ROWS, st.booleans(), st.booleans())
def test_every_language_is_counted_once_and_means_are_of_those_that_all_have(
    rows: list, higher: bool, loss: bool
) -> None:
    table = table_of(rows, higher=higher, loss=loss and not higher)
    present = table.present
    usable = [r for r in rows if present and all(math.isfinite(r[m]) for m in present) and not (r[3] and 1 in present)]
    lines = group_lines(table, by=lambda language: language.tier, order=["high"])
    total = total_line(table)
    assert sum(line.languages + line.left_out for line in lines) == len(rows)
    assert (total.languages, total.left_out) == (len(usable), len(rows) - len(usable))
    for model in range(3):
        if model in present and usable:
            assert total.means[model] == pytest.approx(statistics.fmean(row[model] for row in usable))
        else:
            assert math.isnan(total.means[model])
        change = total.changes[model]
        assert (change is not None) == (model > 0 and bool(usable) and {0, model} <= set(present))
        if change is None:
            continue
        better = sum(row[model] > row[0] if higher else row[model] < row[0] for row in usable)
        equal = sum(row[model] == row[0] for row in usable)
        assert (change.improved, change.worse) == (better, len(usable) - better - equal)
        if table.is_loss:
            ratios = [row[model] / row[0] for row in usable]
            sums = sum(row[model] for row in usable) / sum(row[0] for row in usable)
            assert math.exp(change.change) == pytest.approx(statistics.geometric_mean(ratios))
            assert (change.mean_ratio, change.ratio_of_sums) == (
                pytest.approx(statistics.fmean(ratios)), pytest.approx(sums),
            )  # fmt: skip
        else:
            assert change.change == pytest.approx(statistics.fmean(row[model] - row[0] for row in usable), abs=1e-9)


def test_ranks_share_where_values_are_equal() -> None:
    rows = [(1.0, 2.0, 3.0, False, "low"), (2.0, 2.0, 1.0, False, "low"), (1.0, 9.0, 9.0, True, "low")]
    assert mean_ranks(table_of(rows, higher=True, loss=False)) == [pytest.approx(2.25), pytest.approx(1.75), 2.0]
    assert mean_ranks(table_of(rows, higher=False, loss=True)) == [pytest.approx(1.75), pytest.approx(2.25), 2.0]


def test_an_interval_is_of_the_changes_and_is_always_the_same() -> None:
    rows = [(1.0, 2.0 + number % 2, 1.0, False, "low") for number in range(400)]
    table = table_of(rows, higher=True, loss=False)
    change = total_line(table, intervals=True).changes[1]
    assert change is not None
    assert change == total_line(table, intervals=True).changes[1]
    assert change.low < change.change == 1.5 < change.high
    assert change.high - change.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(400), rel=0.15)
    alone = total_line(table_of(rows[:1], higher=True, loss=False), intervals=True).changes[1]
    assert alone is not None
    assert (alone.change, math.isnan(alone.low), math.isnan(alone.high)) == (1.0, True, True)
