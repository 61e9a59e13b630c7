"""The report of scores as data: CSV with a row for each value of a language, and JSON with every number of the page."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterator
from typing import Any

import orjson

from megatron.evaluation.report.data import language_name
from megatron.evaluation.report.scores.forgetting import Forgetting, Pair
from megatron.evaluation.report.scores.intervals import Own
from megatron.evaluation.report.scores.statistics import Line
from megatron.evaluation.report.scores.summary import Summary, TableSummary
from megatron.evaluation.report.scores.sureness import interval_notes, own_of, verdict
from megatron.evaluation.report.scores.values import Row

_VERSION = 1
# A cell that begins so is a formula to programs that open tables.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def scores_csv(summary: Summary) -> str:
    """Return a row for each benchmark, metric and language: values of every model, and changes against the base."""
    file = io.StringIO()
    names = summary.evaluation.names
    writer = csv.writer(file, lineterminator="\n")
    fixed = ("benchmark", "metric", "language", "name", "script", "tier", "source", "training_tokens", "flags")
    changes = [f"change: {name}" for name in names[1:]]
    writer.writerow([*fixed, *map(_text, names), *changes, *(f"items: {name}" for name in names), *_heads(names)])
    for entry in summary.tables:
        for row in entry.table.rows:
            language = row.language
            writer.writerow([
                _text(entry.table.benchmark), _text(entry.table.metric), _text(language.code),
                language_name(language.code), language.script, _text(language.tier), _text(language.source),
                "" if language.tokens is None else language.tokens, _text(" ".join(row.all_flags)),
                *map(_plain, row.values), *(_plain(_shown(entry, row, model)) for model in range(1, len(names))),
                *(count or "" for count in row.items), *_ends(entry, row),
            ])  # fmt: skip
    return file.getvalue()


def _heads(names: list[str]) -> list[str]:
    return [f"{what}: {name}" for name in names[1:] for what in ("low", "high", "verdict")]


def _ends(entry: TableSummary, row: Row) -> Iterator[str]:
    """Yield the interval of each model's change in a language, over its documents, and whether that decides."""
    for model in range(1, len(row.values)):
        own = own_of(entry, row.language, model)
        for end in (math.nan, math.nan) if own is None else (own.low, own.high):
            yield _plain(as_read(entry, end))
        yield verdict(entry, own)


def scores_json(summary: Summary) -> bytes:
    """Return every number of the report as one JSON object; what is not a number is null.

    Changes are as people read them: of losses the ratio less 1, else the difference.
    """
    evaluation = summary.evaluation
    data = {
        "version": _VERSION,
        "models": [{"name": model.name, "from": model.origin, "facts": model.facts} for model in evaluation.models],
        "base": evaluation.models[0].name,
        "tiers": {"from": evaluation.tiers_origin, "order": evaluation.tiers},
        "trials": [dataclasses.asdict(trial) for trial in evaluation.trials],
        "pivots": summary.pivots,
        "ignored": evaluation.ignored,
        "other_scripts": evaluation.other_scripts,
        "tables": [_table(summary, entry) for entry in summary.tables],
    }
    return orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def _table(summary: Summary, entry: TableSummary) -> dict[str, Any]:
    names, values = summary.evaluation.names, entry.table
    return {
        "benchmark": values.benchmark,
        "metric": values.metric,
        "main": values.is_main,
        "higher_is_better": values.higher_is_better,
        "compared_by": "ratio" if values.is_loss else "difference",
        "items": values.item_counts,
        "notes": [*summary.evaluation.notes.get(values.benchmark, ()), *interval_notes(entry, names)],
        "without_interval": {names[model]: reasons for model, reasons in entry.without.items()},
        "lacking": dict(zip(names, entry.lacking, strict=True)),
        "lossy": dict(zip(names, entry.lossy, strict=True)),
        "mean_ranks": dict(zip(names, entry.ranks, strict=True)),
        "all": _line(entry, entry.total, names),
        **{
            group: [_line(entry, line, names) for line in lines]
            for group, lines in (("tiers", entry.tiers), ("scripts", entry.scripts), ("sources", entry.sources))
        },
        "forgetting": {names[found.model]: _forgetting(entry, found) for found in entry.forgetting},
        "languages": [_row(entry, row, names) for row in values.rows],
    }


def _line(entry: TableSummary, line: Line, names: list[str]) -> dict[str, Any]:
    changes = {}
    for name, change in zip(names, line.changes, strict=True):
        if change is not None:
            ends = {key: as_read(entry, getattr(change, key)) for key in ("change", "low", "high")}
            ratios = {"mean_ratio": change.mean_ratio, "ratio_of_sums": change.ratio_of_sums}
            if entry.table.is_loss:
                ratios["geometric_mean_ratio"] = math.exp(change.change)
            counted = ("improved", "worse", *(("surely_better", "surely_worse", "undecided") if entry.own else ()))
            counts = {key: getattr(change, key) for key in counted}
            changes[name] = {**ends, "interval_over": change.over or None, **ratios, **counts}
    return {
        "name": line.name,
        "languages": line.languages,
        "left_out": line.left_out,
        "means": dict(zip(names, line.means, strict=True)),
        "changes": changes,
    }


def _forgetting(entry: TableSummary, found: Forgetting) -> dict[str, Any]:
    return {
        "pivots": [_pair(entry, pair) for pair in found.pivots],
        "missing": found.missing,
        "losers": [_pair(entry, pair) for pair in found.losers],
        "shares": [{**dataclasses.asdict(share), "share": share.share} for share in found.shares],
    }


def _pair(entry: TableSummary, pair: Pair) -> dict[str, Any]:
    change = as_read(entry, pair.change)
    return {"language": pair.language.code, "base": pair.base, "value": pair.value, "change": change}


def _row(entry: TableSummary, row: Row, names: list[str]) -> dict[str, Any]:
    language = row.language
    return {
        "language": language.code,
        "script": language.script,
        "tier": language.tier,
        "source": language.source,
        "training_tokens": language.tokens,
        "flags": {name: sorted(flags) for name, flags in zip(names, row.flags, strict=True) if flags},
        "items": dict(zip(names, row.items, strict=True)),
        "values": dict(zip(names, row.values, strict=True)),
        "changes": {name: _shown(entry, row, model) for model, name in enumerate(names) if model},
        "intervals": {
            names[model]: _interval(entry, own)
            for model in range(1, len(names))
            if (own := own_of(entry, language, model)) is not None
        },
    }


def _interval(entry: TableSummary, own: Own) -> dict[str, Any]:
    ends = {"low": as_read(entry, own.low), "high": as_read(entry, own.high)}
    return {**ends, "documents": own.documents, "verdict": verdict(entry, own)}


def _shown(entry: TableSummary, row: Row, model: int) -> float:
    return as_read(entry, entry.table.change(row, model))


def as_read(entry: TableSummary, change: float) -> float:
    """Return a change as people read it: of losses the ratio less 1, else the difference."""
    return math.expm1(change) if entry.table.is_loss else change


def _plain(value: float) -> str:
    return repr(value) if math.isfinite(value) else ""


def _text(text: str) -> str:
    """Keep a name from being taken for a formula by a program that opens the table."""
    return f"'{text}" if text.startswith(_FORMULA) else text
