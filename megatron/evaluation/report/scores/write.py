"""The report of scores: one self-contained HTML page, and the same numbers as CSV, JSON and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from megatron.evaluation.report.scores.export import scores_csv, scores_json
from megatron.evaluation.report.scores.inputs import load_evaluation
from megatron.evaluation.report.scores.markdown import scores_markdown
from megatron.evaluation.report.scores.page import render_scores
from megatron.evaluation.report.scores.summary import summarise
from megatron.evaluation.report.scores.tiers import read_tiers, unmapped_line
from megatron.utils.files import write_bytes, write_text
from megatron.utils.log import get_logger

logger = get_logger(__name__)

PIVOTS = ("eng_Latn",)


def write_scores_report(
    inputs: Sequence[Path], *, output: Path, csv: Path | None = None, json: Path | None = None,
    markdown: Path | None = None, tiers: Path | None = None, pivots: Sequence[str] = PIVOTS, names: Sequence[str] = (),
    models: Sequence[str] = (), table_metric: tuple[str, bool] | None = None,
) -> list[Path]:
    """Write the report; the same inputs give the same bytes. Languages without a tier are told, if tiers are given.

    Args:
        inputs: folders of results, and tables of published results. The first model is the base.
        output: the page; like the other files replaced when it exists.
        csv: every value of every language.
        json: every number.
        markdown: the report in short.
        tiers: a table of tiers or the record of a run (:func:`read_tiers`).
        pivots: languages that must not get worse; those of the first tier are added.
        names: of the models of the folders.
        models: those to show, the base first; by default all.
        table_metric: name, and whether larger values are better, of tables whose name does not tell.

    Returns:
        What was written.

    Raises:
        ReportError: an input cannot be read, or there is nothing to compare.
        ResultsError: a folder holds no results.
        MetricsError: the tiers were to be read from a folder without a record.
    """
    known = read_tiers(tiers) if tiers is not None else None
    evaluation = load_evaluation(inputs, tiers=known, names=names, models=models, table_metric=table_metric)
    if known is not None and (told := unmapped_line(evaluation, known)):
        logger.warning("%s: %s", tiers, told)
    summary = summarise(evaluation, pivots=pivots)
    write_text(output, render_scores(summary))
    if csv is not None:
        write_text(csv, scores_csv(summary))
    if json is not None:
        write_bytes(json, scores_json(summary))
    if markdown is not None:
        write_text(markdown, scores_markdown(summary))
    return [path for path in (output, csv, json, markdown) if path is not None]
