"""The report of a run, or of several side by side: one self-contained HTML page, drawn from what training recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from megatron.evaluation.report.data import SAMPLES_NAME, load_run, load_samples
from megatron.evaluation.report.page import render
from megatron.evaluation.report.runs import join, load_runs, tier_means
from megatron.evaluation.report.runs_page import render_comparison
from megatron.monitor.summary import format_table, tier_table
from megatron.utils.files import write_text
from megatron.utils.table import text_table


def write_report(save_folder: Path, *, samples: Path | None, output: Path) -> Path:
    """Write the report of a run. It needs nothing but the file itself: no network, no other file.

    A run that is still going, or that lacks a part (no validation, no samples), gives a page that says so.

    Args:
        save_folder: the run's ``save`` folder, with ``metrics.jsonl``.
        samples: texts that ``generate.py`` wrote; None takes ``samples.jsonl`` of the save folder where there is one.
        output: the page to write; replaced when it exists.

    Returns:
        ``output``.

    Raises:
        MetricsError: the folder holds no record.
        ReportError: the samples cannot be read.
    """
    run = load_run(save_folder)
    if samples is None and (save_folder / SAMPLES_NAME).exists():
        samples = save_folder / SAMPLES_NAME
    write_text(output, render(run, load_samples(samples) if samples is not None else []))
    return output


def before_after_table(save_folder: Path) -> str:
    """Return bits per byte per tier before and after as plain text, or a sentence that says what is missing.

    Raises:
        MetricsError: the folder holds no record.
    """
    run = load_run(save_folder)
    validations = run.validations
    if len(validations) < 2:
        return f"{len(validations)} validation(s) so far: bits per byte before and after need two"
    first, last = validations[0], validations[-1]
    lines = tier_table(first["rows"], last["rows"], tiers=run.tiers())
    if not lines:
        return f"the validations at step {first['step']:,} and {last['step']:,} have no corpus in common"
    title = f"bits per byte of held-out text, before (step {first['step']:,}) and after (step {last['step']:,})"
    return f"{title}\n\n{format_table(lines)}"


def write_comparison(save_folders: Sequence[Path], *, output: Path) -> Path:
    """Write one page that compares several runs; like :func:`write_report` it needs nothing but the file itself.

    Args:
        save_folders: the runs' ``save`` folders. Differences are drawn against the first.
        output: the page to write; replaced when it exists.

    Returns:
        ``output``.

    Raises:
        MetricsError: a folder holds no record.
        ReportError: a folder is given twice.
    """
    write_text(output, render_comparison(load_runs(save_folders)))
    return output


def comparison_table(save_folders: Sequence[Path]) -> str:
    """Return bits per byte per tier as plain text, a column for each run, at the last validation that all share.

    Raises:
        MetricsError: a folder holds no record.
        ReportError: a folder is given twice.
    """
    runs = load_runs(save_folders)
    place = runs.shared_place(runs.runs)
    if place is None:
        return "the runs share no point at which all of them were validated"
    before = [run.validations[0]["rows"] for run in runs.runs]
    lines = tier_means(join([*before, *(runs.validations(run)[place]["rows"] for run in runs.runs)]), runs.tiers())
    if not lines:
        return f"no corpus was scored by all runs before and at {runs.place_text(place)}"
    count = len(runs.runs)
    rows = [
        (line.name, f"{line.corpora:,}", *(f"{value:.4f}" for value in (line.values[0], *line.values[count:])))
        for line in lines
    ]
    title = f"bits per byte of held-out text, before (of {runs.names[0]}) and at {runs.place_text(place)}"
    return f"{title}\n\n{text_table([('tier', 'corpora', 'before', *runs.names), *rows], ruled=True)}"
