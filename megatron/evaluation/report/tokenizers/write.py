"""The report of tokenizers in one folder: the page, the table of all numbers, and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from megatron.evaluation.report.data import ReportError
from megatron.evaluation.report.scores.tiers import Tiers
from megatron.evaluation.report.tokenizers.console import console_lines
from megatron.evaluation.report.tokenizers.export import tokens_json, tokens_tsv
from megatron.evaluation.report.tokenizers.page import render_tokenizers
from megatron.evaluation.report.tokenizers.summary import summarise
from megatron.tokenizer.measure.measured import Measured
from megatron.utils.files import write_bytes, write_text
from megatron.utils.log import get_logger

_FILES = ("report.html", "tokens.tsv", "tokens.json")
_logger = get_logger(__name__)


def check_output(output: Path) -> None:
    """See that the folder is new, empty or an earlier report, which is then replaced and said to be.

    Raises:
        ReportError: it is a file, or a folder of other things.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise ReportError(f"{output}: is a file; give a folder")
    others = sorted(path.name for path in output.iterdir() if path.name not in _FILES)
    if others and not all((output / name).exists() for name in _FILES):
        shown = ", ".join(others[:5])
        raise ReportError(f"{output}: is no report of tokenizers, it has {shown}; give a new folder, or an empty one")
    if (output / _FILES[0]).exists():
        _logger.warning("%s: the report there will be replaced", output)


def write_tokenizer_report(
    measured: Measured, output: Path, *, tiers: Tiers | None = None, shown: int = 20
) -> Iterator[str]:
    """Write ``report.html``, ``tokens.tsv`` and ``tokens.json``; the same counts give the same bytes.

    Args:
        measured: the counts.
        output: the folder; files of an earlier report are replaced.
        tiers: of the languages.
        shown: languages to list in the terminal; 0 for all.

    Yields:
        The report in short, for a terminal, and the names of the files.
    """
    summary = summarise(measured, tiers)
    write_text(output / "report.html", render_tokenizers(summary))
    write_text(output / "tokens.tsv", tokens_tsv(summary))
    write_bytes(output / "tokens.json", tokens_json(summary))
    yield from console_lines(summary, shown=shown)
    for name in _FILES:
        yield str(output / name)
