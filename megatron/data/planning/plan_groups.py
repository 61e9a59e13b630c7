"""The rows of a mixture added up: by source, tier, script or language, and what caps on epochs have moved."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from megatron.data.mixture import Mixture

Row = Mapping[str, Any]
"""One row of :meth:`megatron.data.mixture.Mixture.rows`; keys that records of older runs lack are not needed."""

NO_LANGUAGE = "(no language)"


@dataclasses.dataclass
class Group:
    """Some corpora together.

    Attributes:
        name: of the group.
        corpora: how many there are; half of a pair counts for each of its languages as a whole.
        tokens: tokens held.
        trained: tokens trained on.
        share: part of the run, caps applied.
        wanted: the same without caps.
        lost: part of the run that caps took from corpora of the group.
        most_epochs: epochs of the corpus that is repeated most.
        capped: corpora that a cap on epochs holds back.
        repeats_at: first sample with text that some corpus has given before; None when there is none.
        estimated: whether the tokens of some corpus are an estimate.
    """

    name: str
    corpora: int = 0
    tokens: float = 0.0
    trained: float = 0.0
    share: float = 0.0
    wanted: float = 0.0
    lost: float = 0.0
    most_epochs: float = 0.0
    capped: int = 0
    repeats_at: int | None = None
    estimated: bool = False

    @property
    def epochs(self) -> float:
        """Passes over the group's text, on average."""
        return self.trained / self.tokens if self.tokens else 0.0

    @property
    def got(self) -> float:
        """Part of the run that its corpora got of what caps took from others."""
        return self.share - self.wanted + self.lost

    def add(self, row: Row, part: float = 1.0) -> None:
        """Add a corpus, or a part of it."""
        self.corpora += 1
        self.tokens += row["tokens"] * part
        self.trained += row["sampled_tokens"] * part
        self.share += row["share"] * part
        self.wanted += wanted_share(row) * part
        self.lost += max(0.0, wanted_share(row) - row["share"]) * part
        self.most_epochs = max(self.most_epochs, row["epochs"])
        self.capped += bool(row.get("capped"))
        self.estimated |= bool(row.get("estimated"))
        repeats_at = row.get("repeats_at")
        if repeats_at is not None:
            self.repeats_at = repeats_at if self.repeats_at is None else min(self.repeats_at, repeats_at)


Parts = Iterable[tuple[str, float]]


def group_rows(rows: Iterable[Row], parts: Callable[[Row], Parts]) -> list[Group]:
    """Add rows up.

    Args:
        rows: of a mixture.
        parts: the groups that a row belongs to, and which part of it.

    Returns:
        the groups, those with the most tokens first.
    """
    groups: dict[str, Group] = {}
    for row in rows:
        for name, part in parts(row):
            groups.setdefault(name, Group(name)).add(row, part)
    return sorted(groups.values(), key=lambda group: -group.tokens)


def by_source(row: Row) -> Parts:
    """Group by source."""
    return [(str(row["source"]), 1.0)]


def by_tier(row: Row) -> Parts:
    """Group by tier."""
    return [(str(row["tier"]), 1.0)]


def by_language(row: Row) -> Parts:
    """Group by language with its script; half of a pair's tokens belong to each side."""
    sides = str(row["code"]).split("-")
    return [(NO_LANGUAGE if side.startswith("zxx_") else side, 1 / len(sides)) for side in sides]


def by_script(row: Row) -> Parts:
    """Group by script; a pair in one script belongs to it as a whole."""
    names = [name if name == NO_LANGUAGE else name.rpartition("_")[2] for name, _ in by_language(row)]
    return [(name, names.count(name) / len(names)) for name in dict.fromkeys(names)]


def tiers_of(rows: Sequence[Row]) -> list[tuple[str, list[Group]]]:
    """Return the tiers of every source, both with the largest first: tiers by the size of their corpora."""
    result = []
    for source in group_rows(rows, by_source):
        tiers = group_rows((row for row in rows if row["source"] == source.name), by_tier)
        result.append((source.name, sorted(tiers, key=lambda tier: -tier.tokens / tier.corpora)))
    return result


def wanted_share(row: Row) -> float:
    """Return the share that a corpus would have without caps on epochs."""
    wanted = row.get("wanted")
    return float(row["share"] if wanted is None else wanted)


class SourcePhase(NamedTuple):
    """One phase of a mixture: its first sample, the samples of its ramp, and the share of every source."""

    first_sample: int
    ramp_samples: int
    sources: Mapping[str, float]


def source_phases(mixture: Mixture) -> list[SourcePhase]:
    """Add the shares of a mixture's phases up by source."""
    result = []
    for phase in mixture.phases:
        whole = sum(phase.shares)
        sources = {corpus.shard.source: 0.0 for corpus in mixture.trained}
        for corpus, share in zip(mixture.trained, phase.shares, strict=True):
            sources[corpus.shard.source] += share / whole
        result.append(SourcePhase(phase.first_sample, phase.ramp_samples, sources))
    return result
