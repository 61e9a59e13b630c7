"""The numbers of the report of scores, made once: the page, JSON, CSV and Markdown show the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from megatron.evaluation.report.scores.forgetting import Forgetting, forgetting_of
from megatron.evaluation.report.scores.intervals import Own, document_intervals
from megatron.evaluation.report.scores.statistics import Line, group_lines, mean_ranks, total_line
from megatron.evaluation.report.scores.values import Evaluation, Table
from megatron.evaluation.results import LOSSY

_UNKNOWN_SOURCE = "not known"


@dataclasses.dataclass(frozen=True)
class TableSummary:
    """One metric of a benchmark.

    Attributes:
        table: the values.
        total: over all languages.
        tiers: by tier; empty where no tiers are known.
        scripts: by script; of the main metric only.
        sources: by source of the training text; of the main metric, where sources are known.
        ranks: mean rank of each model.
        lacking: of each model, the codes that another has and it has not.
        lossy: of each model, the codes that are lossy with it.
        forgetting: what was lost, by model; of the main metric only.
        own: intervals of single languages by code and model, where the items behind the scores are kept; of the main
            metric only.
        without: of each model with results besides published tables, why how many of its languages have none.
    """

    table: Table
    total: Line
    tiers: tuple[Line, ...]
    scripts: tuple[Line, ...]
    sources: tuple[Line, ...]
    ranks: tuple[float, ...]
    lacking: tuple[tuple[str, ...], ...]
    lossy: tuple[tuple[str, ...], ...]
    forgetting: tuple[Forgetting, ...]
    own: Mapping[tuple[str, int], Own]
    without: Mapping[int, Mapping[str, int]]


@dataclasses.dataclass(frozen=True)
class Summary:
    """An evaluation and the summaries of its tables, in their order; and the pivots that were asked for."""

    evaluation: Evaluation
    tables: tuple[TableSummary, ...]
    pivots: tuple[str, ...]

    @property
    def main(self) -> list[TableSummary]:
        """The main metric of every benchmark."""
        return [summary for summary in self.tables if summary.table.is_main]


def summarise(evaluation: Evaluation, *, pivots: Sequence[str]) -> Summary:
    """Make every number of the report.

    Args:
        evaluation: the values.
        pivots: codes of languages that must not get worse. The languages of the first tier are pivots, too.
    """
    return Summary(
        evaluation, tuple(_summary(evaluation, table, pivots) for table in evaluation.tables), tuple(pivots)
    )


def _summary(evaluation: Evaluation, table: Table, pivots: Sequence[str]) -> TableSummary:
    models = range(len(evaluation.models))
    with_source = any(row.language.source for row in table.rows)
    folders = [model.folders for model in evaluation.models] if table.is_main else []
    documents = document_intervals(table, folders)
    tiers = (
        group_lines(
            table, by=lambda language: language.tier, order=evaluation.tiers, intervals=True, documents=documents
        )
        if evaluation.tiers
        else []
    )
    scripts = group_lines(table, by=lambda language: language.script, documents=documents) if table.is_main else []
    sources = (
        group_lines(table, by=lambda language: language.source or _UNKNOWN_SOURCE, intervals=True, documents=documents)
        if table.is_main and with_source
        else []
    )
    compared = [model for model in models[1:] if {0, model} <= set(table.present)] if table.is_main else []
    forgetting = (
        forgetting_of(table, model, pivots=pivots, tiers=evaluation.tiers, own=documents.own) for model in compared
    )
    return TableSummary(
        table, total_line(table, intervals=True, documents=documents), tuple(tiers), tuple(scripts), tuple(sources),
        tuple(mean_ranks(table)),
        tuple(tuple(row.language.code for row in table.rows if _lacks(row.values[model])) for model in models),
        tuple(tuple(row.language.code for row in table.rows if LOSSY in row.flags[model]) for model in models),
        tuple(forgetting), documents.own, documents.without,
    )  # fmt: skip


def _lacks(value: float) -> bool:
    return value != value  # not a number
