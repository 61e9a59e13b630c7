"""The report of tokenizers in a terminal: side by side, by script and tier, and the languages that fare worst."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from megatron.evaluation.report.data import language_name
from megatron.evaluation.report.tokenizers.forms import FORMS
from megatron.evaluation.report.tokenizers.summary import BYTES_FROM, Summary
from megatron.tokenizer.measure.figures import Figures, Group
from megatron.utils.table import text_table

_NAME_CHARACTERS = 30
_FULL_TOKENIZERS = 3


def console_lines(summary: Summary, *, shown: int) -> Iterator[str]:
    """Yield the lines.

    Args:
        summary: the numbers.
        shown: how many languages to list; 0 lists all.
    """
    yield from _tokenizers(summary)
    columns = ["premium"] if summary.is_compared else ["tokens_per_character"]
    if len(summary.names) <= _FULL_TOKENIZERS:  # a terminal has no room for more
        columns += ["bytes_per_token", "byte_share"]
    yield ""
    yield from _groups(summary, summary.scripts, "script", columns)
    if summary.tiers:
        yield ""
        yield from _groups(summary, summary.tiers, "tier", columns)
    yield ""
    for number, name in enumerate(summary.names):
        found = [group.name for group in summary.written_in_bytes() if group.figures[number].byte_share >= BYTES_FROM]
        yield f"{name} writes in bytes: {' '.join(found) or 'no script'}"
    yield ""
    yield from _languages(summary, columns, shown)
    for reason, count in sorted(summary.measured.left_out.items()):
        yield f"left out: {count:,} {reason}"


def _tokenizers(summary: Summary) -> Iterator[str]:
    figures = ["bytes_per_token", "tokens_per_word", "byte_share", "unk_share", "whole_words", "windows"]
    if summary.is_compared:
        figures.insert(0, "premium")
    gini = "premium" if summary.is_compared else "tokens_per_character"
    rows = [["tokenizer", "vocabulary", f"Gini of {FORMS[gini].title.lower()}", "highest"]]
    rows[0] += [*(FORMS[name].title.lower() for name in figures), "not given back"]
    for number, facts in enumerate(summary.measured.tokenizers):
        failures = sum(row.language.counts.tokens[number].failures for row in summary.rows)
        value, highest = summary.ginis[number][gini], summary.total.highest[number]
        cells = [facts.name, f"{facts.vocab_size:,}", f"{value:.3f}" if math.isfinite(value) else "–"]
        cells += [FORMS["premium"].text(highest), *_figures(summary.total.figures[number], figures), f"{failures:,}"]
        rows.append(cells)
    yield f"means over {summary.total.languages:,} languages, each with the same weight"
    yield from text_table(rows).splitlines()


def _groups(summary: Summary, groups: Sequence[Group], heading: str, columns: Sequence[str]) -> Iterator[str]:
    rows = [[heading, "languages", *_headings(summary, columns)]]
    for group in [*groups, summary.total]:
        rows.append([group.name, f"{group.languages:,}", *_side_by_side(group.figures, columns)])
    yield from text_table(rows).splitlines()


def _languages(summary: Summary, columns: Sequence[str], shown: int) -> Iterator[str]:
    rows = [["language", "name", *_headings(summary, columns)]]
    ordered = summary.worst_first
    for row in ordered[:shown] if shown else ordered:
        name = language_name(row.language.code)
        short = name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"
        rows.append([row.language.code, short, *_side_by_side(row.figures, columns)])
    yield "the languages that fare worst"
    yield from text_table(rows, left=2).splitlines()
    if shown and shown < len(ordered):
        yield f"... and {len(ordered) - shown:,} more"


def _headings(summary: Summary, columns: Sequence[str]) -> list[str]:
    return [f"{name}: {FORMS[column].title.lower()}" for column in columns for name in summary.names]


def _side_by_side(figures: Sequence[Figures], columns: Sequence[str]) -> list[str]:
    return [FORMS[column].text(getattr(each, column)) for column in columns for each in figures]


def _figures(figures: Figures, names: Sequence[str]) -> list[str]:
    return [FORMS[name].text(getattr(figures, name)) for name in names]
