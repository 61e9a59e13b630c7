"""What an extension of the vocabulary cost before the run: its first validation is of a model that had it already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from megatron.config.compare import top_setting
from megatron.evaluation.report.data import Run, language_name
from megatron.evaluation.report.tables import Column, cell, name_cell, note, section, signed_percent, table
from megatron.monitor.run_steps import configuration_path
from megatron.monitor.summary import macro_mean

TITLE = "Before the extension"
_NAME = "bits_per_byte.json"  # as megatron.evaluation.extend.compare writes it; that needs torch
_MAX_BYTES = 64 << 20
_LEAD = (
    "The model was given new tokens before this run. Here are its bits per byte before and after that, as "
    "tools/extend_model.py measured them, on other text than the run's. What the run calls before is after the "
    "extension."
)


def before_extension_section(run: Run) -> str:
    """Return the section, with the pivots and the mean of all; empty where the run's model has no such record."""
    path = _record(run)
    if path is None:
        return ""
    try:
        content: Any = orjson.loads(path.read_bytes()) if path.stat().st_size <= _MAX_BYTES else None
        rows = [_row(row["code"], [row]) for row in content["languages"] if row["code"] in content["pivots"]]
        rows.append(_row(f"all {len(content['languages']):,}", content["languages"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        return section("extension", TITLE, "", note(f"{path} is not what tools/extend_model.py writes."))
    columns = [Column("Language"), Column("Code"), *(Column(name, "n") for name in ("Before", "After", "Change"))]
    return section("extension", TITLE, _LEAD, table(columns, rows))


def _record(run: Run) -> Path | None:
    """Return the record in the folder that the run's configuration names as ``hf_model``."""
    path = configuration_path(run.folder, [run.start] if run.start else [])
    if path is None:
        return None
    try:
        folder = top_setting(path.read_text(encoding="utf-8", errors="replace"), "hf_model")
    except ValueError:
        return None
    found = Path(folder) / _NAME if isinstance(folder, str) else None
    return found if found is not None and found.is_file() else None


def _row(name: str, languages: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    before, after = (macro_mean(float(language[key]) for language in languages) for key in ("before", "after"))
    numbers = cell(f"{before:.4f}", before) + cell(f"{after:.4f}", after)
    change = after / before - 1
    names = name_cell(language_name(name)) + name_cell(name, code=True)
    return "", names + numbers + cell(signed_percent(change), change)
