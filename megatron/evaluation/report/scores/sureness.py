"""How the intervals of single languages are shown, and what the reader must know of all intervals of a metric."""

from __future__ import annotations

from collections.abc import Sequence

from megatron.evaluation.report.scores.forms import interval_text
from megatron.evaluation.report.scores.intervals import LEAST_DOCUMENTS, Own
from megatron.evaluation.report.scores.statistics import OVER_BOTH, OVER_LANGUAGES
from megatron.evaluation.report.scores.summary import TableSummary
from megatron.evaluation.report.scores.values import Language
from megatron.evaluation.report.tables import Column

MARK = " *"
"""Behind a change that the language's own interval is sure of."""

SURE_COLUMNS = (
    Column("Surely better", "n", hint="languages whose own 95% interval, over their documents, is better than none"),
    Column("Surely worse", "n", hint="languages whose own 95% interval is worse than no change"),
    Column("Undecided", "n", hint="languages whose own 95% interval has no change in it"),
)


def own_of(entry: TableSummary, language: Language, model: int) -> Own | None:
    """Return the interval of a language's own change; None where its documents are not known."""
    return entry.own.get((language.code, model))


def mark_of(own: Own | None) -> str:
    """Return what stands behind the change of a language."""
    return MARK if own is not None and own.sign else ""


def is_undecided(own: Own | None) -> bool:
    """Return whether a language's own interval is known, and says neither better nor worse."""
    return own is not None and not own.sign


def verdict(entry: TableSummary, own: Own | None) -> str:
    """Say whether a language is surely ``better``, surely ``worse`` or ``undecided``; nothing where it is not known."""
    if own is None:
        return ""
    return "better" if entry.table.is_better(own.sign) else "worse" if own.sign else "undecided"


def own_text(entry: TableSummary, own: Own | None, digits: int) -> str:
    """Write the interval of a language's own change."""
    return "–" if own is None else interval_text(entry.table, own.low, own.high, digits)


def interval_notes(entry: TableSummary, names: Sequence[str]) -> list[str]:
    """Say what the intervals are over, what the mark means, and which languages have no interval of their own."""
    lines = [*entry.tiers, *entry.sources, entry.total]
    kinds = {change.over for line in lines for change in line.changes if change is not None and change.over}
    if not entry.own:
        told = ["Intervals are over languages only: how sure a single language is, is not known."] if kinds else []
        return [*told, *_reasons(entry, names)]
    notes = [
        "Intervals of groups draw languages and their documents again." if kinds == {OVER_BOTH}
        else "Intervals of groups draw languages again, not their documents." if kinds == {OVER_LANGUAGES}
        else "Intervals of groups draw languages and their documents again; of groups in which a language has no "
        "interval of its own, languages only.",
        f"Intervals of languages draw the documents that both models were asked.{MARK} marks a change that such an "
        f"interval is sure of; of languages that did not change, about one in 15 is marked by chance. What is not "
        f"decided has no colour, as have all languages with fewer than {LEAST_DOCUMENTS} documents.",
    ]  # fmt: skip
    return [*notes, *_reasons(entry, names)]


def _reasons(entry: TableSummary, names: Sequence[str]) -> list[str]:
    """Say why languages have no interval of their own; models with the same reasons share a sentence."""
    by_text: dict[str, list[str]] = {}
    for model, reasons in entry.without.items():
        told = ", ".join(f"{reason} ({count:,})" for reason, count in sorted(reasons.items()))
        if told:
            by_text.setdefault(told, []).append(names[model])
    said = "languages without an interval of their own"
    return [f"{', '.join(models)}: {said}: {told}." for told, models in by_text.items()]
