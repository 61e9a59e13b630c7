"""The report of scores as Markdown, to be put into a paper's notes or an issue: overview, tiers and what was lost."""

from __future__ import annotations

import math
from collections.abc import Sequence

from megatron.evaluation.report.data import language_name
from megatron.evaluation.report.scores.benchmark_section import missing_notes
from megatron.evaluation.report.scores.forms import (
    change_text,
    digits_of,
    interval_text,
    items_text,
    title_of,
    value_text,
)
from megatron.evaluation.report.scores.statistics import Change, Line
from megatron.evaluation.report.scores.summary import Summary, TableSummary
from megatron.evaluation.report.scores.sureness import SURE_COLUMNS, interval_notes, mark_of, own_of, own_text
from megatron.evaluation.report.scores.trials import trial_sentences

_SPECIAL = "\\`*_{}[]<>|#~$&!"


def scores_markdown(summary: Summary) -> str:
    """Return the report in short: the main metric of every benchmark, the numbers as the page shows them."""
    names = summary.evaluation.names
    parts = [f"# Evaluation: {_plain(', '.join(names[1:]))} against {_plain(names[0])}"]
    if summary.evaluation.trials:
        told = "\n".join(f"- {_plain(sentence)}" for sentence in trial_sentences(summary.evaluation.trials))
        parts.append(f"**Trial run: these scores are no results.** Only the first items were asked.\n\n{told}")
    parts.append(_overview(summary, names))
    for entry in summary.main:
        parts.append(f"## {_plain(entry.table.benchmark)}, {_plain(title_of(entry.table))}")
        notes = [
            *missing_notes(entry, names), *summary.evaluation.notes.get(entry.table.benchmark, ()),
            *interval_notes(entry, names),
        ]  # fmt: skip
        parts += [f"- {_plain(note)}" for note in notes]
        parts += [_tiers(entry, names, model) for model, change in enumerate(entry.total.changes) if change is not None]
        parts += [_losers(entry, names, number) for number in range(len(entry.forgetting))]
    return "\n\n".join(parts) + "\n"


def _overview(summary: Summary, names: Sequence[str]) -> str:
    head = ["benchmark", "metric", "languages", "left out", "items of a language", names[0]]
    for name in names[1:]:
        head += [name, "change"]
    rows = []
    for entry in summary.main:
        total, digits = entry.total, digits_of(entry.table)
        row = [entry.table.benchmark, title_of(entry.table), f"{total.languages:,}", f"{total.left_out:,}"]
        row += [items_text(entry.table.item_counts), value_text(total.means[0], digits)]
        for mean, change in zip(total.means[1:], total.changes[1:], strict=True):
            row += [value_text(mean, digits)]
            row += [change_text(entry.table, math.nan if change is None else change.change, digits)]
        rows.append(row)
    return _table(head, rows, texts=2)


def _tiers(entry: TableSummary, names: Sequence[str], model: int) -> str:
    head = ["tier", "languages", "left out", names[0], names[model], "change", "95% interval"]
    head += ["geometric mean ratio", "mean ratio", "ratio of sums"] if entry.table.is_loss else []
    rows = [_line(entry, line, model) for line in [*entry.tiers, entry.total]]
    sure = [column.label.lower() for column in SURE_COLUMNS] if entry.own else []
    return _table([*head, "improved", "worse", *sure], rows, texts=1)


def _line(entry: TableSummary, line: Line, model: int) -> list[str]:
    digits, change = digits_of(entry.table), line.changes[model]
    row = [line.name, f"{line.languages:,}", f"{line.left_out:,}"]
    row += [value_text(line.means[0], digits), value_text(line.means[model], digits)]
    return row + (_change(entry, change, digits) if change else _nothing(entry))


def _nothing(entry: TableSummary) -> list[str]:
    return ["–"] * (4 + 3 * entry.table.is_loss + 3 * bool(entry.own))


def _change(entry: TableSummary, change: Change, digits: int) -> list[str]:
    row = [change_text(entry.table, change.change, digits), interval_text(entry.table, change.low, change.high, digits)]
    if entry.table.is_loss:
        row += [value_text(ratio, 4) for ratio in (math.exp(change.change), change.mean_ratio, change.ratio_of_sums)]
    counts = [change.improved, change.worse]
    counts += [change.surely_better, change.surely_worse, change.undecided] if entry.own else []
    return [*row, *(f"{count:,}" for count in counts)]


def _losers(entry: TableSummary, names: Sequence[str], number: int) -> str:
    found, digits = entry.forgetting[number], digits_of(entry.table)
    name = _plain(names[found.model])
    if not found.losers:
        return f"No language got worse with {name}."
    worse = found.shares[-1]
    items = {row.language.code: items_text(row.items) for row in entry.table.rows}
    head = ["language", "code", "items", names[0], names[found.model], "change"]
    head += ["95% interval"] if entry.own else []
    rows = [
        [
            language_name(pair.language.code) or "–", pair.language.code, items[pair.language.code],
            value_text(pair.base, digits), value_text(pair.value, digits),
            change_text(entry.table, pair.change, digits) + mark_of(own_of(entry, pair.language, found.model)),
            *([own_text(entry, own_of(entry, pair.language, found.model), digits)] if entry.own else []),
        ]
        for pair in found.losers
    ]  # fmt: skip
    told = f"{worse.worse:,} of {worse.languages:,} languages got worse with {name}"
    told += "" if worse.surely is None else f", {worse.surely:,} surely"
    return f"{told}; those that lost most:\n\n{_table(head, rows, texts=2)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int) -> str:
    """Lay out a table whose first columns are texts and whose others are numbers."""
    rule = ["---" if place < texts else "---:" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [[*map(_plain, head)], rule, *(
        [_plain(cell) for cell in row] for row in rows
    )])  # fmt: skip


def _plain(text: str) -> str:
    """Keep the characters of a text from being taken for Markdown."""
    joined = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in joined)
