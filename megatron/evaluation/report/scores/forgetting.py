"""What a model has forgotten: the pivot languages, the languages that lost most, and how many lost in each tier."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from megatron.evaluation.report.scores.intervals import Own
from megatron.evaluation.report.scores.statistics import ALL
from megatron.evaluation.report.scores.values import Language, Row, Table, first_tier

MOST_LOSERS = 20


@dataclasses.dataclass(frozen=True)
class Pair:
    """A language's value with the base and with a model, and the change between them (:meth:`Table.change`)."""

    language: Language
    base: float
    value: float
    change: float


@dataclasses.dataclass(frozen=True)
class LostShare:
    """How many languages of a tier, or of all, a model is worse in than the base.

    Attributes:
        name: of the tier.
        languages: of it.
        worse: those with a worse value.
        surely: those whose own interval is worse than no change; None where no language has an interval.
    """

    name: str
    languages: int
    worse: int
    surely: int | None = None

    @property
    def share(self) -> float:
        """Worse of all."""
        return self.worse / self.languages


@dataclasses.dataclass(frozen=True)
class Forgetting:
    """One model against the base, over every language that both can be compared in.

    Attributes:
        model: its place among the models.
        pivots: the pivot languages, those that were asked for first, then those of the first tier by code.
        missing: codes of pivots that were asked for and that one of the two has no comparable value of.
        losers: the languages that lost most, the worst first, at most :data:`MOST_LOSERS`.
        shares: by tier, all languages last.
    """

    model: int
    pivots: tuple[Pair, ...]
    missing: tuple[str, ...]
    losers: tuple[Pair, ...]
    shares: tuple[LostShare, ...]


def forgetting_of(
    table: Table, model: int, *, pivots: Sequence[str], tiers: Sequence[str],
    own: Mapping[tuple[str, int], Own] | None = None,
) -> Forgetting:  # fmt: skip
    """Compare a model with the base.

    Args:
        table: of a benchmark.
        model: place among the models, above 0.
        pivots: codes of languages that must not get worse.
        tiers: in their order; the languages of the first are pivots, too.
        own: intervals of single languages by code and model, where they are known.
    """
    pairs = {row.language.code: _pair(table, row, model) for row in table.compared([0, model])}
    first = first_tier(tiers)
    chosen = dict.fromkeys([
        *(code for code in pivots if code in pairs),
        *(code for code, pair in pairs.items() if pair.language.tier == first),
    ])  # fmt: skip
    worse = [pair for pair in pairs.values() if table.is_worse(pair.change)]
    worse.sort(key=lambda pair: (-abs(pair.change), pair.language.code))
    groups = [(name, [pair for pair in pairs.values() if pair.language.tier == name]) for name in tiers]
    sure = {code: found for (code, of), found in (own or {}).items() if of == model}
    shares = [_share(table, name, group, sure) for name, group in [*groups, (ALL, list(pairs.values()))] if group]
    return Forgetting(
        model,
        tuple(pairs[code] for code in chosen),
        tuple(code for code in pivots if code not in pairs),
        tuple(worse[:MOST_LOSERS]),
        tuple(shares),
    )


def _pair(table: Table, row: Row, model: int) -> Pair:
    return Pair(row.language, row.values[0], row.values[model], table.change(row, model))


def _share(table: Table, name: str, pairs: Sequence[Pair], sure: Mapping[str, Own]) -> LostShare:
    signs = [sure[pair.language.code].sign for pair in pairs if pair.language.code in sure]
    worse = sum(table.is_worse(pair.change) for pair in pairs)
    return LostShare(name, len(pairs), worse, sum(map(table.is_worse, signs)) if sure else None)
