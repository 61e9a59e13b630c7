"""The report of tokenizers in a terminal: side by side, by script and tier, and the languages that fare worst."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from megatron.evaluation.report.data import language_name
from megatron.evaluation.report.scores.values import UNMAPPED
from megatron.evaluation.report.tokenizers.forms import FORMS
from megatron.evaluation.report.tokenizers.summary import BYTES_FROM, Summary
from megatron.tokenizer.measure.figures import Figures, Group
from megatron.tokenizer.measure.measured import Measured
from megatron.utils.table import text_table

_NAME_CHARACTERS = 24
_TOKENIZER_CHARACTERS = 14
_TITLE_CHARACTERS = 20  # of the longest name of a figure that stands above its columns
_LINE_CHARACTERS = 100
_NAMED = 5


def console_lines(summary: Summary, *, shown: int) -> Iterator[str]:
    """Yield the lines.

    Args:
        summary: the numbers.
        shown: how many languages to list; 0 lists all.
    """
    yield from _tokenizers(summary)
    yield ""
    yield from _groups(summary, summary.scripts, "script")
    if summary.tiers:
        yield ""
        yield from _groups(summary, summary.tiers, "tier")
    if unmapped := [row.language.code for row in summary.languages if row.tier == UNMAPPED]:
        yield f"no tier in {summary.tiers_origin}: {_some(sorted(unmapped))}; codes must be the same, xxx_Ssss"
    yield ""
    for number, name in enumerate(summary.names):
        found = [group.name for group in summary.written_in_bytes() if group.figures[number].byte_share >= BYTES_FROM]
        yield f"{name} writes in bytes: {' '.join(found) or 'no script'}"
    yield ""
    yield from _languages(summary, shown)
    yield from (f"left out: {line}" for line in left_out_lines(summary.measured))


def left_out_lines(measured: Measured) -> Iterator[str]:
    """Yield what was left out, with the corpora that most of it is of."""
    for reason, count in sorted(measured.left_out.items()):
        of = sorted(measured.left_out_of.get(reason, {}).items(), key=lambda item: (-item[1], item[0]))
        names = _some([f"{corpus} {number:,}" for corpus, number in of])
        yield f"{count:,} {reason}{f' ({names})' if names else ''}"


def _tokenizers(summary: Summary) -> Iterator[str]:
    figures = ["bytes_per_token", "tokens_per_word", "byte_share", "unk_share", "whole_words", "windows"]
    tokenizers, total, ruler = summary.measured.tokenizers, summary.total, summary.ruler
    rows = [["", *_names(summary)], ["vocabulary", *(f"{facts.vocab_size:,}" for facts in tokenizers)]]
    if summary.is_compared:
        figures.insert(0, "premium")
        rows.append(["highest premium", *(FORMS["premium"].text(value) for value in total.highest)])
    ginis = [of[ruler] for of in summary.ginis]
    gini = [f"Gini of {_title(ruler)}", *(f"{value:.3f}" if math.isfinite(value) else "–" for value in ginis)]
    rows.append(gini)
    rows += [[_title(name), *(FORMS[name].text(getattr(each, name)) for each in total.figures)] for name in figures]
    failures = [sum(row.language.counts.tokens[at].failures for row in summary.rows) for at in range(len(tokenizers))]
    rows.append(["not given back", *(f"{count:,}" for count in failures)])
    yield f"means over {total.languages:,} languages, each with the same weight"
    yield from text_table(rows).splitlines()


def _groups(summary: Summary, groups: Sequence[Group], heading: str) -> Iterator[str]:
    found = [*groups, summary.total]
    heads = [[group.name, f"{group.languages:,}"] for group in found]
    yield from _side_by_side(summary, [heading, "languages"], heads, [group.figures for group in found], left=1)


def _languages(summary: Summary, shown: int) -> Iterator[str]:
    ordered = summary.worst_first
    rows = ordered[:shown] if shown else ordered
    names = [language_name(row.language.code) for row in rows]
    heads = [
        [row.language.code, _short(name, _NAME_CHARACTERS)] for row, name in zip(rows, names, strict=True)
    ]
    yield "the languages that fare worst"
    yield from _side_by_side(summary, ["language", "name"], heads, [row.figures for row in rows], left=2)
    if shown and shown < len(ordered):
        yield f"... and {len(ordered) - shown:,} more"


def _side_by_side(
    summary: Summary, heading: Sequence[str], heads: Sequence[Sequence[str]], figures: Sequence[Sequence[Figures]], *,
    left: int,
) -> Iterator[str]:  # fmt: skip
    """Yield a table of as many figures as a line has room for, the names of the tokenizers below that of the figure."""
    names = [name.rjust(_TITLE_CHARACTERS // min(2, len(summary.names))) for name in _names(summary)]
    first = [max(map(len, column)) + 2 for column in zip(heading, *heads, strict=True)]
    width = sum(len(name) + 2 for name in names)
    columns = [summary.ruler, "byte_share", "bytes_per_token"][: max(1, (_LINE_CHARACTERS - sum(first)) // width)]
    yield (" " * sum(first) + "".join(_title(name).rjust(width - 2).ljust(width) for name in columns)).rstrip()
    rows = [[*heading, *names * len(columns)]]
    for head, each in zip(heads, figures, strict=True):
        cells = [FORMS[name].text(getattr(of, name)) for name in columns for of in each]
        rows.append([*head, *cells])
    yield from text_table(rows, left=left).splitlines()


def _names(summary: Summary) -> list[str]:
    return [_short(name, _TOKENIZER_CHARACTERS) for name in summary.names]


def _short(name: str, characters: int) -> str:
    return name if len(name) <= characters else f"{name[: characters - 1]}…"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _title(name: str) -> str:
    return FORMS[name].title.lower()
