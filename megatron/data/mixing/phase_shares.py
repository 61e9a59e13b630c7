"""The share of every corpus in one phase of a mixture, as its section asks for it: before limits on epochs."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from megatron.data.mixing.phases import PhaseSection
from megatron.data.mixing.selection import selected, selection_problems, unknown_names
from megatron.data.mixing.tiers import BELOW, Powers, alpha_of, has_language, max_epochs_of, rate_of, tiers_of

if TYPE_CHECKING:
    from megatron.config.mixture_schema import MixtureConfig, SourceConfig
    from megatron.data.manifest import ShardInfo

BELOW_LOWEST = "below the lowest tier"
RATE_ZERO = "rate 0"
NO_WEIGHT = "no weight"
SHARE_ZERO = "share 0 of its source"


class MixtureError(ValueError):
    """The mixture cannot be made from the corpora at hand; ``problems`` holds every reason."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclasses.dataclass(frozen=True)
class PhaseShares:
    """What one phase asks for; every sequence has one entry per corpus.

    Attributes:
        shares: parts of the phase's tokens; they add up to 1.
        tiers: names of tiers.
        reasons: why a corpus is left out; empty for those that are trained on.
        max_epochs: most epochs, or None.
    """

    shares: Sequence[float]
    tiers: Sequence[str]
    reasons: Sequence[str]
    max_epochs: Sequence[float | None]


def phase_shares(shards: Sequence[ShardInfo], phase: PhaseSection, powers: Powers) -> PhaseShares:
    """Give every shard its tier and share in one phase.

    Raises:
        MixtureError: listing everything in the phase's section that does not fit the corpora.
    """
    section = phase.section
    tiers = tiers_of(shards, section)
    chosen = selected(shards, tiers, section)
    amounts, reasons = _amounts(shards, tiers, chosen, section, powers)
    problems = [*selection_problems(shards, tiers, section, phase.key)]
    if section is not None:
        problems += _weight_problems(shards, section, phase)
        problems += _source_problems(shards, chosen, reasons, section, phase)
    if not problems and not any(amounts):
        problems.append(_nothing_left(reasons, phase))
    if problems:
        raise MixtureError(*problems)
    return PhaseShares(
        shares=_shares(shards, amounts, section),
        tiers=tiers,
        reasons=reasons,
        max_epochs=[max_epochs_of(shard, tier, section) for shard, tier in zip(shards, tiers, strict=True)],
    )


def _amounts(
    shards: Sequence[ShardInfo],
    tiers: Sequence[str],
    chosen: Sequence[str],
    section: MixtureConfig | None,
    powers: Powers,
) -> tuple[list[float], list[str]]:
    """Return how much of each corpus is wanted in relation to the others, and why nothing is of some."""
    weights = section.weights if section is not None else None
    without = {source for source, share in (source_shares(section) or {}).items() if share == 0}
    alphas = {source: alpha_of(section, source) for source in {shard.source for shard in shards}}
    amounts, reasons = [], list(chosen)
    for number, (shard, tier) in enumerate(zip(shards, tiers, strict=True)):
        if chosen[number]:
            amounts.append(0.0)
            continue
        if weights is not None:
            amount, nothing = weights.get(shard.name, 0.0), NO_WEIGHT
        elif shard.source in without:
            amount, nothing = 0.0, SHARE_ZERO
        else:
            rate = rate_of(shard, tier, section)
            amount = powers.of(shard.tokens, alphas[shard.source]) * rate if rate else 0.0
            nothing = BELOW_LOWEST if tier == BELOW else RATE_ZERO
        amounts.append(amount)
        reasons[number] = "" if amount > 0 else nothing
    return amounts, reasons


def _shares(shards: Sequence[ShardInfo], amounts: Sequence[float], section: MixtureConfig | None) -> list[float]:
    sources = source_shares(section)
    if sources is None:
        total = _sum(amounts)
        return [amount / total for amount in amounts]
    of_source: dict[str, list[float]] = {}
    for shard, amount in zip(shards, amounts, strict=True):
        if amount > 0:
            of_source.setdefault(shard.source, []).append(amount)
    totals = {source: _sum(values) for source, values in of_source.items()}
    # Sources that are left out on purpose may keep their share; it goes to the others.
    whole = _sum(share for source, share in sources.items() if source in totals)
    return [
        sources[shard.source] / whole * (amount / totals[shard.source]) if amount > 0 else 0.0
        for shard, amount in zip(shards, amounts, strict=True)
    ]


def source_shares(section: MixtureConfig | None) -> Mapping[str, float] | None:
    """Return the sources' shares, or None when they count by what is wanted of their corpora."""
    if section is None or section.sources is None or section.weights is not None:
        return None
    shares = {source: config.share for source, config in section.sources.items() if config.share is not None}
    return shares or None


def _sum(values: Iterable[float]) -> float:
    """Add up exactly and round once: ``sum`` rounds otherwise from Python 3.12 on, and shares are part of a run."""
    try:
        total = math.fsum(values)
    except OverflowError:
        total = math.inf
    if math.isinf(total):
        raise MixtureError("the mixture's numbers are too large to add up; lower the rates or the shares of sources")
    return total


def _weight_problems(shards: Sequence[ShardInfo], section: MixtureConfig, phase: PhaseSection) -> Iterator[str]:
    """Refuse weights for what is not there."""
    names = {shard.name for shard in shards}
    unknown = [name for name in section.weights or () if name not in names]
    yield from unknown_names(phase.key("weights"), unknown, sorted(names))


def _source_problems(
    shards: Sequence[ShardInfo],
    chosen: Sequence[str],
    reasons: Sequence[str],
    section: MixtureConfig,
    phase: PhaseSection,
) -> Iterator[str]:
    """Refuse entries for sources that cannot be trained on, and sources to be trained on that have no share."""
    if section.sources is None or section.weights is not None:
        return
    key = phase.key("sources")
    corpora = Counter(shard.source for shard in shards)
    kept = {shard.source for shard, reason in zip(shards, chosen, strict=True) if not reason}
    trainable = {shard.source for shard, reason in zip(shards, reasons, strict=True) if not reason}
    spoken = {shard.source for shard in shards if has_language(shard)}
    for source, config in section.sources.items():
        if source not in corpora:
            yield (
                f"{key} names {source!r}, but the data has no such source "
                f"(it has: {', '.join(sorted(corpora))}); take it out"
            )
        elif config.share and source in kept - trainable:
            yield (
                f"{key} gives {source!r} a share, but all its {corpora[source]} corpora are below the lowest tier or "
                f"in a tier of rate 0; take it out, exclude it, or lower `above` in {_tiers_key(config, source, phase)}"
            )
        elif source not in kept and "sources" in phase.replaced:
            yield (
                f"{key} names {source!r}, but {phase.key('include')} and {phase.key('exclude')} leave all of it out; "
                f"take it out, or give the phase its own selection (`exclude: {{}}` takes everything back)"
            )
        if config.tiers is not None and source in corpora and source not in spoken:
            yield f"{key}.{source}.tiers has no effect: the source has no text in a language; take it out"
    yield from _shares_missing(section.sources, trainable, key)


def _tiers_key(config: SourceConfig, source: str, phase: PhaseSection) -> str:
    return phase.key("tiers") if config.tiers is None else f"{phase.key('sources')}.{source}.tiers"


def _shares_missing(sources: Mapping[str, SourceConfig], trainable: set[str], key: str) -> Iterator[str]:
    if all(config.share is None for config in sources.values()):
        return
    for source, config in sources.items():
        if config.share is None:
            yield f"{key}.{source} has no share, but other sources have one; give all of them a share, or none"
    for source in sorted(trainable - sources.keys()):
        yield (
            f"the data has the source {source!r}, but {key} gives it no share; add one, which may be 0"
        )


def _nothing_left(reasons: Sequence[str], phase: PhaseSection) -> str:
    counts = ", ".join(f"{count:,} {reason}" for reason, count in Counter(reasons).most_common())
    what = f"of {len(reasons):,} corpora, {counts}" if reasons else "the data has no training shards"
    by_weights = phase.section is not None and phase.section.weights is not None
    keys = ("weights",) if by_weights else ("tiers", "unit")
    where = ", ".join(phase.key(key) for key in (*keys, "include", "exclude"))
    say = "" if by_weights else ": say, lower `above` of the tiers, or choose the unit that your sizes are in"
    return f"{phase.name}: no corpus is left to train on ({what}); change {where}{say}"
