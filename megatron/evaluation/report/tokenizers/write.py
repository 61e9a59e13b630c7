"""The report of tokenizers in one folder: the page, the table of all numbers, and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from megatron.evaluation.report.scores.tiers import read_tiers
from megatron.evaluation.report.tokenizers.console import console_lines
from megatron.evaluation.report.tokenizers.export import tokens_json, tokens_tsv
from megatron.evaluation.report.tokenizers.page import render_tokenizers
from megatron.evaluation.report.tokenizers.summary import summarise
from megatron.tokenizer.measure.measured import Measured
from megatron.utils.files import write_bytes, write_text


def write_tokenizer_report(
    measured: Measured, output: Path, *, tiers: Path | None = None, shown: int = 20
) -> Iterator[str]:
    """Write ``report.html``, ``tokens.tsv`` and ``tokens.json``; the same counts give the same bytes.

    Args:
        measured: the counts.
        output: the folder; files of an earlier report are replaced.
        tiers: a table of tiers or the record of a run (see :func:`read_tiers`).
        shown: languages to list in the terminal; 0 for all.

    Yields:
        The report in short, for a terminal, and the names of the files.

    Raises:
        ReportError: the tiers cannot be read.
    """
    summary = summarise(measured, read_tiers(tiers) if tiers is not None else None)
    write_text(output / "report.html", render_tokenizers(summary))
    write_text(output / "tokens.tsv", tokens_tsv(summary))
    write_bytes(output / "tokens.json", tokens_json(summary))
    yield from console_lines(summary, shown=shown)
    for name in ("report.html", "tokens.tsv", "tokens.json"):
        yield str(output / name)
