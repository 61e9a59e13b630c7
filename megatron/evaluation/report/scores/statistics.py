"""What models gained and lost over groups of languages: means, ratios, how many improved, and ranks. Pure functions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from megatron.evaluation.metrics.bootstrap import mean_interval
from megatron.evaluation.report.scores.values import Language, Row, Table
from megatron.monitor.summary import macro_mean

ALL = "all"

RESAMPLES = 1000
"""How often the languages of a group are drawn again for the interval of a mean over them."""

GroupBy = Callable[[Language], str]


@dataclasses.dataclass(frozen=True)
class Change:
    """A model against the base over the languages of a group, each with the same weight.

    Attributes:
        change: mean over the languages of :meth:`Table.change`: of the log-ratio for losses, else of the difference.
        low: lower end of its confidence interval; not a number where there is none.
        high: upper end.
        mean_ratio: mean of the ratios of the languages, for losses; else not a number.
        ratio_of_sums: ratio of the sums over the languages, likewise: languages with large losses count most.
        improved: languages that the model is better in than the base.
        worse: languages that it is worse in.
    """

    change: float
    low: float
    high: float
    mean_ratio: float
    ratio_of_sums: float
    improved: int
    worse: int


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
    table: Table, *, by: GroupBy, order: Sequence[str] = (), intervals: bool = False
) -> list[Line]:
    """Summarise every group of languages.

    Args:
        table: of a benchmark and metric.
        by: gives the group of a language.
        order: of the groups; others follow, those with most languages first.
        intervals: whether to make confidence intervals of the mean changes.
    """
    groups: dict[str, list[Row]] = {name: [] for name in order}
    for row in table.rows:
        groups.setdefault(by(row.language), []).append(row)
    rest = sorted((name for name in groups if name not in order), key=lambda name: (-len(groups[name]), name))
    return [_line(table, name, groups[name], intervals) for name in [*order, *rest] if groups[name]]


def total_line(table: Table, *, intervals: bool = False) -> Line:
    """Summarise all languages."""
    return _line(table, ALL, table.rows, intervals)


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


def _line(table: Table, name: str, rows: Sequence[Row], intervals: bool) -> Line:
    present = table.present
    compared = [row for row in rows if table.is_usable(row, present)]
    models = range(len(rows[0].values))
    means = tuple(
        macro_mean(row.values[model] for row in compared) if model in present else math.nan for model in models
    )
    changes = tuple(
        _change(table, compared, model, intervals) if model and compared and {0, model} <= set(present) else None
        for model in models
    )
    return Line(name, len(compared), len(rows) - len(compared), means, changes)


def _change(table: Table, rows: Sequence[Row], model: int, intervals: bool) -> Change:
    changes = [table.change(row, model) for row in rows]
    low = high = math.nan
    if intervals:
        _, low, high = mean_interval(changes, resamples=RESAMPLES)
    ratio = sums = math.nan
    if table.is_loss:
        ratio = macro_mean(row.values[model] / row.values[0] for row in rows)
        sums = math.fsum(row.values[model] for row in rows) / math.fsum(row.values[0] for row in rows)
    return Change(
        macro_mean(changes), low, high, ratio, sums,
        sum(map(table.is_better, changes)), sum(map(table.is_worse, changes)),
    )  # fmt: skip
