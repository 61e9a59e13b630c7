"""The size tier of every corpus, and what a mixture's section says of it: rate, temperature and most epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from typing import TYPE_CHECKING

from megatron.config.mixture_schema import MALA_TIERS

if TYPE_CHECKING:
    from megatron.config.mixture_schema import MixtureConfig, SourceConfig, TierConfig
    from megatron.data.manifest import ShardInfo

BELOW = "unseen"
"""Tier of corpora that are too small to be trained on (MaLA's word for them)."""

UNTIERED = "untiered"
"""Tier of every corpus of a run without a mixture, or with weights or alpha and no tiers."""

_NO_LANGUAGE = "zxx"
_DIGITS = 24


def has_language(shard: ShardInfo) -> bool:
    """Return whether the text is in a human language: code is not."""
    # MaLA's monolingual text has the codes zxx_Latn and zxx_Zyyy, too; by their size they are like any other.
    return shard.language != _NO_LANGUAGE or shard.source == "monolingual"


def source_section(section: MixtureConfig, source: str) -> SourceConfig | None:
    """Return what the mixture says of one source, or None when it does not name it."""
    return section.sources.get(source) if section.sources is not None else None


def tiers_of(shards: Sequence[ShardInfo], section: MixtureConfig | None) -> list[str]:
    """Return the tier of each shard: the one with the highest bound that its size exceeds.

    Text without a language has no size tier. It goes by its source, with a suffix when a tier has that name already.
    """
    if section is None:
        return [UNTIERED] * len(shards)
    names = {BELOW, UNTIERED, *_tier_names(section)}
    rising = {
        source: None if tiers is None else sorted((tier.above, name) for name, tier in tiers.items())
        for source in {shard.source for shard in shards}
        for tiers in (_size_tiers(section, source),)
    }
    return [_tier_of(shard, rising[shard.source], names, section.unit) for shard in shards]


def _tier_of(shard: ShardInfo, rising: list[tuple[float, str]] | None, names: set[str], unit: str) -> str:
    if rising is None:
        return UNTIERED
    if not has_language(shard):
        name = shard.source
        while name in names:
            name += " (no language)"
        return name
    size = {"words": shard.words, "tokens": shard.tokens, "bytes": shard.bytes}[unit]
    return max(((above, name) for above, name in rising if size > above), default=(0, BELOW))[1]


def rate_of(shard: ShardInfo, tier: str, section: MixtureConfig | None) -> float:
    """Return how many times the text of a shard of this tier is wanted; 0 below the lowest tier."""
    if tier == BELOW:
        return 0.0
    config = _tier_config(shard, tier, section)
    return 1.0 if config is None else config.rate


def max_epochs_of(shard: ShardInfo, tier: str, section: MixtureConfig | None) -> float | None:
    """Return the most epochs of a shard: its tier's word counts before its source's, and that before the mixture's."""
    if section is None:
        return None
    for config in (_tier_config(shard, tier, section), source_section(section, shard.source), section):
        if config is not None and config.max_epochs is not None:
            return config.max_epochs
    return None


def alpha_of(section: MixtureConfig | None, source: str) -> float | None:
    """Return the temperature of a source: its own, else the mixture's; None means by size."""
    if section is None:
        return None
    own = source_section(section, source)
    return own.alpha if own is not None and own.alpha is not None else section.alpha


class Powers:
    """``tokens ** alpha``, the same to the last bit on every machine.

    C libraries round powers differently, shares decide the order of samples, and a run may move to another machine. The
    logarithm and the exponential of decimal numbers are rounded correctly everywhere.
    """

    def __init__(self) -> None:
        self._context = Context(prec=_DIGITS)
        self._logarithms: dict[int, Decimal] = {}

    def of(self, tokens: int, alpha: float | None) -> float:
        """Return the power; without ``alpha`` the number of tokens itself."""
        if alpha is None or alpha == 1:
            return float(tokens)
        if alpha == 0:
            return 1.0
        if tokens not in self._logarithms:
            self._logarithms[tokens] = self._context.ln(Decimal(tokens))
        # repr: 0.3 means three tenths, not the binary number beside it.
        exponent = self._context.multiply(Decimal(repr(alpha)), self._logarithms[tokens])
        return float(self._context.exp(exponent))


def _size_tiers(section: MixtureConfig, source: str) -> Mapping[str, TierConfig] | None:
    """Return the tiers that a source's corpora fall into; None where weights or alpha decide and none are given."""
    own = source_section(section, source)
    if own is not None and own.tiers is not None:
        return own.tiers
    if section.tiers is not None:
        return section.tiers
    # Weights and temperature say themselves how much is taken of small corpora.
    return MALA_TIERS if section.weights is None and alpha_of(section, source) is None else None


def _tier_config(shard: ShardInfo, tier: str, section: MixtureConfig | None) -> TierConfig | None:
    if section is None or not has_language(shard):
        return None
    return (_size_tiers(section, shard.source) or {}).get(tier)


def _tier_names(section: MixtureConfig) -> set[str]:
    own = [config.tiers for config in (section.sources or {}).values() if config.tiers is not None]
    return {name for tiers in (section.tiers or MALA_TIERS, *own) for name in tiers}
