"""What a run trains on: every corpus's tier and share, planned before a GPU hour is spent and counted afterwards.

The share of a corpus is ``share of its source x (its tokens x rate of its tier) / (the same, summed over the source)``;
without shares for sources, all corpora are one source. Shares are shares of tokens, and since every sample has the same
number of tokens, of samples.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from megatron.data.manifest import Manifest, ShardInfo
from megatron.data.order import SampleOrder

if TYPE_CHECKING:
    from megatron.config.schema import MixtureConfig

BELOW = "unseen"
"""Tier of corpora that are too small to be trained on (MaLA's word for them)."""

UNTIERED = "untiered"
"""Tier of every corpus of a run without a mixture."""

_NO_LANGUAGE = "zxx"


class MixtureError(ValueError):
    """The mixture cannot be made from the corpora at hand."""


@dataclasses.dataclass(frozen=True)
class PlannedCorpus:
    """One corpus and its part of the mixture.

    Attributes:
        shard: the tokens, and how many there are.
        tier: name of the size tier; the source's name for text that has no language, such as code.
        share: part of all tokens trained on, 0 for corpora that are left out.
    """

    shard: ShardInfo
    tier: str
    share: float


@dataclasses.dataclass(frozen=True)
class Mixture:
    """All corpora of a manifest with their shares, which add up to one."""

    corpora: tuple[PlannedCorpus, ...]

    @property
    def trained(self) -> tuple[PlannedCorpus, ...]:
        """The corpora that have a share; sample orders number them in this order."""
        return tuple(corpus for corpus in self.corpora if corpus.share > 0)

    def order(self, *, seed: int, seq_length: int) -> SampleOrder:
        """Return the order of samples of this mixture."""
        return SampleOrder(
            seed=seed,
            names=[corpus.shard.name for corpus in self.trained],
            tokens=[corpus.shard.tokens for corpus in self.trained],
            shares=[corpus.share for corpus in self.trained],
            seq_length=seq_length,
        )

    def rows(self, order: SampleOrder, *, samples: int) -> list[dict[str, str | int | float]]:
        """Return one table row for each corpus: its plan, and what the first ``samples`` samples take of it."""
        counts = iter(order.interleaving.counts(samples))
        rows: list[dict[str, str | int | float]] = []
        for corpus in self.corpora:
            taken = next(counts) if corpus.share > 0 else 0
            rows.append(
                {
                    "corpus": corpus.shard.name,
                    "code": corpus.shard.code,
                    "tier": corpus.tier,
                    "source": corpus.shard.source,
                    "tokens": corpus.shard.tokens,
                    "share": corpus.share,
                    "samples": taken,
                    "sampled_tokens": taken * order.seq_length,
                    "epochs": taken * order.seq_length / max(1, corpus.shard.tokens),
                }
            )
        return rows


def plan_mixture(manifest: Manifest, section: MixtureConfig | None) -> Mixture:
    """Give every training shard of ``manifest`` its tier and share.

    Without a section every token of the manifest is as likely as any other.

    Raises:
        MixtureError: listing every source without share and share without source, or because nothing would be trained
            on, or because the numbers are too large to add up.
    """
    shards = manifest.split("train")
    wanted = [shard.tokens * _rate(shard, section) for shard in shards]
    sources = section.sources if section is not None else None
    if sources is not None:
        _check_sources(shards, wanted, sources)
    if not any(wanted):
        raise MixtureError(
            "no corpus is left to train on: every one is below the lowest tier or has rate 0; "
            "lower `above` of the tiers in mixture.tiers, or choose the unit that your sizes are in (mixture.unit)"
        )
    shares = _within_sources(shards, wanted, sources) if sources is not None else _normalised(wanted)
    return Mixture(
        tuple(
            PlannedCorpus(shard=shard, tier=tier_of(shard, section), share=share)
            for shard, share in zip(shards, shares, strict=True)
        )
    )


def tier_of(shard: ShardInfo, section: MixtureConfig | None) -> str:
    """Return the tier of a shard: the one with the highest bound that its size exceeds.

    Text without a language has no size tier. It goes by its source, with a suffix when a tier has that name already.
    """
    if section is None:
        return UNTIERED
    if shard.language == _NO_LANGUAGE:
        name = shard.source
        while name in (*section.tiers, BELOW, UNTIERED):
            name += " (no language)"
        return name
    size = {"words": shard.words, "tokens": shard.tokens, "bytes": shard.bytes}[section.unit]
    passed = [(tier.above, name) for name, tier in section.tiers.items() if size > tier.above]
    return max(passed)[1] if passed else BELOW


def _rate(shard: ShardInfo, section: MixtureConfig | None) -> float:
    """Return how many times the text of a shard is wanted; 0 below the lowest tier."""
    if section is None or shard.language == _NO_LANGUAGE:
        return 1.0
    tier = tier_of(shard, section)
    return 0.0 if tier == BELOW else section.tiers[tier].rate


def _normalised(values: Sequence[float]) -> list[float]:
    total = _sum(values)
    return [value / total for value in values]


def _sum(values: Iterable[float]) -> float:
    """Add up exactly and round once: ``sum`` rounds otherwise from Python 3.12 on, and shares are part of a run."""
    try:
        total = math.fsum(values)
    except OverflowError:
        total = math.inf
    if math.isinf(total):
        raise MixtureError("the mixture's numbers are too large to add up; lower the rates or the shares of sources")
    return total


def _check_sources(shards: Sequence[ShardInfo], wanted: Sequence[float], sources: Mapping[str, float]) -> None:
    """Refuse shares for sources that cannot be trained on, and sources to be trained on that have no share."""
    corpora = Counter(shard.source for shard in shards)
    trainable = {shard.source for shard, value in zip(shards, wanted, strict=True) if value > 0}
    problems = []
    for source in sources:
        if source not in corpora:
            problems.append(
                f"mixture.sources gives {source!r} a share, but the manifest has no such source "
                f"(it has: {', '.join(sorted(corpora))}); take it out"
            )
        elif source not in trainable:
            problems.append(
                f"mixture.sources gives {source!r} a share, but all its {corpora[source]} corpora are below the lowest "
                "tier or in a tier of rate 0; take it out, or lower `above` in mixture.tiers"
            )
    problems += [
        f"the manifest has the source {source!r}, but mixture.sources gives it no share; "
        "add one, or leave the source out of the manifest"
        for source in sorted(trainable - sources.keys())
    ]
    if problems:
        raise MixtureError("; ".join(problems))


def _within_sources(
    shards: Sequence[ShardInfo], wanted: Sequence[float], sources: Mapping[str, float]
) -> list[float]:
    """Return every corpus's share; corpora that are not trained on may be of sources without one."""
    of_source: dict[str, list[float]] = {}
    for shard, value in zip(shards, wanted, strict=True):
        of_source.setdefault(shard.source, []).append(value)
    totals = {source: _sum(values) for source, values in of_source.items()}
    whole = _sum(sources.values())
    return [
        sources[shard.source] / whole * (value / totals[shard.source]) if value > 0 else 0.0
        for shard, value in zip(shards, wanted, strict=True)
    ]
