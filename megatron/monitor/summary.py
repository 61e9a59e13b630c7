"""Bits per byte from validation rows: per corpus, as macro means, and before against after. Pure functions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from megatron.utils.table import text_table

Row = Mapping[str, Any]
"""One row of a ``validation`` event: corpus, code, tier, source, nats, bytes, tokens."""

NO_TIER = "no tier"
UNTIERED = "untiered"
"""Tier of every corpus of a run without a mixture."""
TIER_ORDER = ("high", "medium-high", "medium", "medium-low", "low")
LAST_TIERS = ("unseen", UNTIERED, NO_TIER)
"""Tiers of corpora outside the tiers; no size is theirs."""

Grouping = Literal["tier", "source", "code"]


@dataclasses.dataclass(frozen=True)
class Score:
    """Held-out bits per byte of one corpus."""

    corpus: str
    code: str
    tier: str
    source: str
    bits_per_byte: float


@dataclasses.dataclass(frozen=True)
class Change:
    """Bits per byte of one corpus before and after."""

    corpus: str
    code: str
    tier: str
    source: str
    before: float
    after: float

    @property
    def relative(self) -> float:
        """Relative change; negative is better."""
        return self.after / self.before - 1.0 if self.before else math.nan


@dataclasses.dataclass(frozen=True)
class TierLine:
    """Macro means of the corpora of one tier, before and after.

    Attributes:
        name: the tier, or ``all``.
        corpora: number of corpora that both validations scored.
        before: mean over them of bits per byte in the first validation.
        after: the same in the last.
        improved: corpora whose bits per byte fell.
        worse: corpora whose bits per byte rose.
        ratio: geometric mean of after / before, i.e. exp of the mean log-ratio; unlike the ratio of the means it gives
            every corpus the same weight, whatever its bits per byte.
    """

    name: str
    corpora: int
    before: float
    after: float
    improved: int
    worse: int
    ratio: float

    @property
    def relative(self) -> float:
        """Relative change of the macro mean; negative is better."""
        return self.after / self.before - 1.0 if self.before else math.nan


def bits_per_byte(nats: float, num_bytes: int) -> float:
    """Return ``nats / (ln 2 * bytes)``: comparable between tokenizers on the same text, not between languages.

    Raises:
        ValueError: there are no bytes.
    """
    if num_bytes <= 0:
        raise ValueError(f"bits per byte of {num_bytes} bytes is not defined: a held-out set must have text")
    return nats / (math.log(2) * num_bytes)


def scores(rows: Iterable[Row]) -> list[Score]:
    """Return the score of every corpus that has held-out text, in the order of the rows (see :func:`num_unscored`)."""
    return [
        Score(
            str(row["corpus"]), str(row["code"]), row["tier"] or NO_TIER, str(row["source"]),
            bits_per_byte(float(row["nats"]), int(row["bytes"])),
        )
        for row in rows
        if row["bytes"] > 0
    ]  # fmt: skip


def num_unscored(rows: Iterable[Row]) -> int:
    """Count the corpora without any held-out byte, which have no bits per byte."""
    return sum(row["bytes"] <= 0 for row in rows)


def macro_mean(values: Iterable[float]) -> float:
    """Return the plain mean, in which every corpus counts the same; NaN of nothing."""
    numbers = list(values)
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def macro_means(rows: Sequence[Row], *, by: Grouping, tiers: Sequence[str] | None = None) -> dict[str, float]:
    """Return the mean bits per byte over the corpora of every tier, source or language code.

    Args:
        rows: of a validation.
        by: what to group by.
        tiers: the order of the tiers, by default that of the rows (see :func:`order_tiers`). Sources and codes come in
            the order of the rows.
    """
    groups: dict[str, list[float]] = {}
    for score in scores(rows):
        groups.setdefault(getattr(score, by), []).append(score.bits_per_byte)
    names = _sorted_tiers(groups, tiers or order_tiers(rows)) if by == "tier" else list(groups)
    return {name: macro_mean(groups[name]) for name in names}


def order_tiers(rows: Iterable[Row]) -> list[str]:
    """Return the tiers that rows name, from the largest to the smallest.

    MaLA's tiers come first, in MaLA's order, then those that only text without a language has, named after its source.
    Where a mixture has names of its own, all are ordered by the size of all their corpora: a ``medium`` beside ``huge``
    is not MaLA's. Corpora outside the tiers come last.

    Args:
        rows: of a mixture, which give the tokens of every corpus; or of a validation, which give no more than the bytes
            that were held out of it.
    """
    sizes: dict[str, float] = {}
    of_sources = set()
    for row in rows:
        tier = row["tier"] or NO_TIER
        sizes[tier] = sizes.get(tier, 0.0) + float(row["bytes"] if "bytes" in row else row["tokens"])
        if tier == row["source"]:
            of_sources.add(tier)
    own = sizes.keys() - {*TIER_ORDER, *LAST_TIERS} - of_sources
    first = [] if own else [name for name in TIER_ORDER if name in sizes]
    last = [name for name in LAST_TIERS if name in sizes]
    rest = sizes.keys() - {*first, *last}
    return [*first, *sorted(rest, key=lambda name: (-sizes[name], name)), *last]


def compare(first_rows: Iterable[Row], last_rows: Iterable[Row]) -> list[Change]:
    """Join two validations on the corpus name. A corpus that only one of them scored has no change and is left out."""
    before = {score.corpus: score.bits_per_byte for score in scores(first_rows)}
    return [
        Change(score.corpus, score.code, score.tier, score.source, before[score.corpus], score.bits_per_byte)
        for score in scores(last_rows)
        if score.corpus in before
    ]


def group_lines(changes: Sequence[Change], *, by: Grouping, tiers: Sequence[str] = TIER_ORDER) -> list[TierLine]:
    """Summarise changes per tier, source or code, in the order of :func:`macro_means`."""
    names = list(dict.fromkeys(getattr(change, by) for change in changes))
    ordered = _sorted_tiers(names, tiers) if by == "tier" else names
    return [_line(name, [change for change in changes if getattr(change, by) == name]) for name in ordered]


def tier_table(
    first_rows: Sequence[Row], last_rows: Sequence[Row], *, tiers: Sequence[str] | None = None
) -> list[TierLine]:
    """Return one line per tier, and ``all`` last; empty when the two validations share no corpus.

    Args:
        first_rows: of the validation before.
        last_rows: of the validation after.
        tiers: the order of the tiers, by default that of the rows (see :func:`order_tiers`).
    """
    changes = compare(first_rows, last_rows)
    lines = group_lines(changes, by="tier", tiers=tiers or order_tiers(last_rows))
    return [*lines, _line("all", changes)] if changes else []


def format_table(lines: Sequence[TierLine]) -> str:
    """Lay out tier lines as a plain-text table: bits per byte before and after, and what changed."""
    header = ("tier", "corpora", "before", "after", "change", "improved", "worse")
    body = [
        (
            line.name,
            f"{line.corpora:,}",
            f"{line.before:.4f}",
            f"{line.after:.4f}",
            f"{line.relative:+.1%}",
            f"{line.improved:,}",
            f"{line.worse:,}",
        )
        for line in lines
    ]
    return text_table([header, *body], ruled=True)


def _sorted_tiers(names: Iterable[str], tiers: Sequence[str]) -> list[str]:
    """Sort names as ``tiers`` has them; others follow as they come."""
    return sorted(names, key=lambda name: tiers.index(name) if name in tiers else len(tiers))


def _line(name: str, changes: Sequence[Change]) -> TierLine:
    return TierLine(
        name=name,
        corpora=len(changes),
        before=macro_mean(change.before for change in changes),
        after=macro_mean(change.after for change in changes),
        improved=sum(change.after < change.before for change in changes),
        worse=sum(change.after > change.before for change in changes),
        ratio=math.exp(macro_mean(_log_ratio(change) for change in changes)),
    )


def _log_ratio(change: Change) -> float:
    return math.log(change.after / change.before) if change.after > 0 and change.before > 0 else math.nan
