"""What a run trains on: every corpus's tier and share, planned before a GPU hour is spent and counted afterwards.

The share of a corpus is ``share of its source x (its tokens x rate of its tier) / (the same, summed over the source)``;
without shares for sources, all corpora are one source. Shares are shares of tokens, and since every sample has the same
number of tokens, of samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from megatron.data.manifest import Manifest, ShardInfo
from megatron.data.order import SampleOrder

if TYPE_CHECKING:
    from megatron.config.schema import MixtureConfig

BELOW = "unseen"
"""Tier of corpora that are too small to be trained on (MaLA's word for them)."""


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
        MixtureError: listing every source without share, share without source, and an empty result.
    """
    shards = manifest.split("train")
    tiers = [tier_of(shard, section) for shard in shards]
    wanted = [shard.tokens * _rate(tier, section) for shard, tier in zip(shards, tiers, strict=True)]
    sources = section.sources if section is not None else None
    shares = _within_sources(shards, wanted, sources) if sources is not None else _normalised(wanted)
    if not any(shares):
        raise MixtureError(
            "no corpus is left to train on: every one is below the lowest tier or has rate 0; "
            "lower `above` of the tiers in mixture.tiers, or choose the unit that your sizes are in (mixture.unit)"
        )
    return Mixture(
        tuple(
            PlannedCorpus(shard=shard, tier=tier, share=share)
            for shard, tier, share in zip(shards, tiers, shares, strict=True)
        )
    )


def tier_of(shard: ShardInfo, section: MixtureConfig | None) -> str:
    """Return the tier of a shard: the one with the highest bound that its size exceeds."""
    if section is None:
        return "all"
    if shard.language == "zxx":
        return shard.source
    size = {"words": shard.words, "tokens": shard.tokens, "bytes": shard.bytes}[section.unit]
    passed = [(tier.above, name) for name, tier in section.tiers.items() if size > tier.above]
    return max(passed)[1] if passed else BELOW


def _rate(tier: str, section: MixtureConfig | None) -> float:
    if section is None:
        return 1.0
    if tier in section.tiers:
        return section.tiers[tier].rate
    return 0.0 if tier == BELOW else 1.0


def _normalised(values: Sequence[float]) -> list[float]:
    total = sum(values)
    return [value / total if total > 0 else 0.0 for value in values]


def _within_sources(
    shards: Sequence[ShardInfo], wanted: Sequence[float], sources: Mapping[str, float]
) -> list[float]:
    totals: dict[str, float] = {}
    for shard, value in zip(shards, wanted, strict=True):
        totals[shard.source] = totals.get(shard.source, 0.0) + value
    problems = [
        f"mixture.sources gives {source!r} a share, but the manifest has no such source that can be trained on "
        f"(it has: {', '.join(sorted(totals))}); take it out"
        for source in sources
        if totals.get(source, 0.0) <= 0
    ]
    problems += [
        f"the manifest has the source {source!r}, but mixture.sources gives it no share; "
        "add one, or leave the source out of the manifest"
        for source in sorted(totals)
        if source not in sources
    ]
    if problems:
        raise MixtureError("; ".join(problems))
    whole = sum(sources.values())
    return [
        sources[shard.source] / whole * value / totals[shard.source]
        for shard, value in zip(shards, wanted, strict=True)
    ]
