"""What models gained and lost over groups of languages: means, ratios, how many improved, and ranks. Pure functions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from megatron.evaluation.metrics.bootstrap import mean_interval
from megatron.evaluation.report.scores.intervals import RESAMPLES, Intervals
from megatron.evaluation.report.scores.values import Language, Row, Table
from megatron.monitor.summary import macro_mean

ALL = "all"

OVER_LANGUAGES, OVER_BOTH = "languages", "languages and documents"
"""What is drawn again for an interval."""

GroupBy = Callable[[Language], str]


@dataclasses.dataclass(frozen=True)
class Change:
    """A model against the base over the languages of a group, each with the same weight.

    Attributes:
        change: mean over the languages of :meth:`Table.change`: of the log-ratio for losses, else of the difference.
        low: lower end of its confidence interval; not a number where there is none.
        high: upper end.
        over: what was drawn for it; empty where there is none.
        mean_ratio: mean of the ratios of the languages, for losses; else not a number.
        ratio_of_sums: ratio of the sums over the languages, likewise: languages with large losses count most.
        improved: languages that the model is better in than the base.
        worse: languages that it is worse in.
        surely_better: languages whose own interval, over their documents, is better than no change.
        surely_worse: languages whose own interval is worse than that.
        undecided: languages whose own interval has no change in it; those without an interval count nowhere.
    """

    change: float
    low: float
    high: float
    over: str
    mean_ratio: float
    ratio_of_sums: float
    improved: int
    worse: int
    surely_better: int = 0
    surely_worse: int = 0
    undecided: int = 0


@dataclasses.dataclass(frozen=True)
class Line:
    """A group of languages.

    Attributes:
        name: of the group, or :data:`ALL`.
        languages: number of those that all models can be compared in; everything else is of these.
        left_out: number of the others: a model has no value, or a lossy one.
        means: of each model's values; not a number where it has none.
        changes: of each model against the base; None for the base, and where either has no value.
    """

    name: str
    languages: int
    left_out: int
    means: tuple[float, ...]
    changes: tuple[Change | None, ...]


def group_lines(
    table: Table, *, by: GroupBy, order: Sequence[str] = (), intervals: bool = False,
    documents: Intervals | None = None,
) -> list[Line]:  # fmt: skip
    """Summarise every group of languages.

    Args:
        table: of a benchmark and metric.
        by: gives the group of a language.
        order: of the groups; others follow, those with most languages first.
        intervals: whether to make confidence intervals of the mean changes.
        documents: what the items say; without, intervals are over languages only.
    """
    groups: dict[str, list[Row]] = {name: [] for name in order}
    for row in table.rows:
        groups.setdefault(by(row.language), []).append(row)
    rest = sorted((name for name in groups if name not in order), key=lambda name: (-len(groups[name]), name))
    return [_line(table, name, groups[name], intervals, documents) for name in [*order, *rest] if groups[name]]


def total_line(table: Table, *, intervals: bool = False, documents: Intervals | None = None) -> Line:
    """Summarise all languages."""
    return _line(table, ALL, table.rows, intervals, documents)


def mean_ranks(table: Table) -> list[float]:
    """Return the mean rank of each model over the languages that all can be compared in; 1 is best, equals share."""
    present, rows = table.present, table.compared()
    ranks: dict[int, list[float]] = {model: [] for model in present}
    for row in rows:
        for model in present:
            value = row.values[model]
            better = sum(table.is_better(row.values[other] - value) for other in present)
            equal = sum(row.values[other] == value for other in present)
            ranks[model].append(better + (equal + 1) / 2)
    return [macro_mean(ranks.get(model, ())) for model in range(len(table.rows[0].values))]


def _line(
    table: Table, name: str, rows: Sequence[Row], intervals: bool, documents: Intervals | None
) -> Line:
    present = table.present
    compared = [row for row in rows if table.is_usable(row, present)]
    models = range(len(rows[0].values))
    means = tuple(
        macro_mean(row.values[model] for row in compared) if model in present else math.nan for model in models
    )
    with_base = [model for model in present if model and compared and 0 in present]
    changes = tuple(
        _change(table, compared, model, intervals, documents) if model in with_base else None for model in models
    )
    return Line(name, len(compared), len(rows) - len(compared), means, changes)


def _change(
    table: Table, rows: Sequence[Row], model: int, intervals: bool, documents: Intervals | None
) -> Change:
    changes = [table.change(row, model) for row in rows]
    codes = [row.language.code for row in rows]
    low, high, over = math.nan, math.nan, ""
    if intervals and (both := documents.of_group(codes, model) if documents else None):
        (low, high), over = both, OVER_BOTH
    elif intervals:
        (_, low, high), over = mean_interval(changes, resamples=RESAMPLES), OVER_LANGUAGES
    ratio = sums = math.nan
    if table.is_loss:
        ratio = macro_mean(row.values[model] / row.values[0] for row in rows)
        sums = math.fsum(row.values[model] for row in rows) / math.fsum(row.values[0] for row in rows)
    return Change(
        macro_mean(changes), low, high, over if math.isfinite(low) else "", ratio, sums,
        sum(map(table.is_better, changes)), sum(map(table.is_worse, changes)),
        *(_sure(table, codes, model, documents) if documents else ()),
    )  # fmt: skip


def _sure(table: Table, codes: Sequence[str], model: int, documents: Intervals) -> tuple[int, int, int]:
    """Count the languages that are surely better, surely worse, and undecided."""
    signs = [documents.own[code, model].sign for code in codes if (code, model) in documents.own]
    better, worse = (sum(map(judge, signs)) for judge in (table.is_better, table.is_worse))
    return better, worse, len(signs) - better - worse
