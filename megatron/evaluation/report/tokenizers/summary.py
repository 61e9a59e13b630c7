"""What the report of tokenizers is about: languages with their tiers, and groups of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from megatron.corpus.languages import Label, mala_code
from megatron.evaluation.report.scores.tiers import Tiers
from megatron.evaluation.report.scores.values import UNMAPPED
from megatron.tokenizer.measure.figures import Figures, Group, byte_premium_of, figures_of, ginis, group_of
from megatron.tokenizer.measure.measured import Language, Measured

#: A script is written in bytes when so many of its tokens are pieces of characters.
BYTES_FROM = 0.5


@dataclass(frozen=True)
class Row:
    """One language.

    Attributes:
        language: its counts.
        tier: empty where no tiers were given.
        byte_premium: UTF-8 bytes per byte of the pivot.
        figures: of each tokenizer.
    """

    language: Language
    tier: str
    byte_premium: float
    figures: tuple[Figures, ...]


@dataclass(frozen=True)
class Summary:
    """Everything that the report shows.

    Attributes:
        measured: the counts.
        rows: languages by code, with code and the like.
        scripts: groups of languages by script, the worst first.
        tiers: groups by tier, in their order; empty where no tiers were given.
        total: all languages.
        ginis: of each tokenizer, by the name of the figure.
        tiers_origin: the file that says the tiers.
    """

    measured: Measured
    rows: tuple[Row, ...]
    scripts: tuple[Group, ...]
    tiers: tuple[Group, ...]
    total: Group
    ginis: tuple[Mapping[str, float], ...]
    tiers_origin: str

    @property
    def names(self) -> list[str]:
        """The tokenizers."""
        return [each.name for each in self.measured.tokenizers]

    @property
    def is_compared(self) -> bool:
        """Whether any language has parallel text."""
        return self.total.compared > 0

    @property
    def ruler(self) -> str:
        """The figure that languages are ranked by: the premium where any has one, else tokens per character."""
        return ruler_of(self.total)

    @property
    def worst_first(self) -> list[Row]:
        """The languages, by the tokenizer that treats them worst; last those without the figure that ranks them."""
        return sorted(self.languages, key=lambda row: (-badness(row.figures, self.ruler), row.language.code))

    @property
    def languages(self) -> list[Row]:
        """The rows that are languages."""
        return [row for row in self.rows if row.language.is_language]

    def written_in_bytes(self) -> list[Group]:
        """Return the scripts that any tokenizer writes in bytes, those with the most bytes first."""
        found = [group for group in self.scripts if any(each.byte_share >= BYTES_FROM for each in group.figures)]
        return sorted(found, key=lambda group: (-max(each.byte_share for each in group.figures), group.name))


def summarise(measured: Measured, tiers: Tiers | None = None) -> Summary:
    """Work out the figures of languages and of groups."""
    count = len(measured.tokenizers)
    rows = tuple(
        Row(
            language,
            _tier(language, tiers) if tiers is not None else "",
            byte_premium_of(language),
            tuple(figures_of(language, number) for number in range(count)),
        )
        for language in measured.languages
    )
    languages = [row for row in rows if row.language.is_language]
    by_script = _groups([(row.language.script, row) for row in languages], count)
    by_tier: list[Group] = []
    if tiers is not None:
        order = [*tiers.order, UNMAPPED]
        by_tier = _groups([(row.tier, row) for row in languages], count)
        by_tier.sort(key=lambda group: order.index(group.name) if group.name in order else len(order))
    total = group_of("all", [row.language for row in languages], count)
    ruler = ruler_of(total)
    return Summary(
        measured=measured,
        rows=rows,
        scripts=tuple(sorted(by_script, key=lambda group: (-badness(group.figures, ruler), group.name))),
        tiers=tuple(by_tier),
        total=total,
        ginis=tuple(ginis(measured, number) for number in range(count)),
        tiers_origin=tiers.origin if tiers is not None else "",
    )


def ruler_of(total: Group) -> str:
    """Return the name of the figure that ranks languages, the same for all: figures of two kinds cannot be compared."""
    return "premium" if total.compared else "tokens_per_character"


def badness(figures: Sequence[Figures], ruler: str) -> float:
    """Return the highest of a figure over the tokenizers; -1 where there is none, below every value."""
    values = [getattr(each, ruler) for each in figures]
    return max((value for value in values if not math.isnan(value)), default=-1.0)


def _groups(named: Sequence[tuple[str, Row]], count: int) -> list[Group]:
    members: dict[str, list[Language]] = {}
    for name, row in named:
        members.setdefault(name, []).append(row.language)
    return [group_of(name, languages, count) for name, languages in members.items()]


def _tier(language: Language, tiers: Tiers) -> str:
    """Return the tier of a language, whose code MaLA's tables may write in another way."""
    code, _, script = language.code.partition("_")
    for spelt in (language.code, mala_code(Label(code, script))):
        found = tiers.language(spelt).tier
        if found != UNMAPPED:
            return found
    return UNMAPPED
