"""The report of a run: one self-contained HTML page, drawn from the record that training wrote."""

from __future__ import annotations

from pathlib import Path

from megatron.evaluation.report_data import SAMPLES_NAME, load_run, load_samples
from megatron.evaluation.report_page import render
from megatron.monitor.summary import format_table, tier_table
from megatron.utils.files import write_text


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
