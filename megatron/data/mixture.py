"""What a run trains on: every corpus's tier and share, planned before a GPU hour is spent and counted afterwards.

The share of a corpus is ``share of its source x (its tokens ^ alpha x rate of its tier) / (the same, summed over the
source)``; without shares for sources, all corpora are one source. Explicit weights replace all that, limits on epochs
move what is too much to other corpora, and phases change it in the course of the run. Shares are shares of tokens, and
since every sample has the same number of tokens, of samples.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from megatron.data.manifest import Manifest, ShardInfo
from megatron.data.mixing.caps import CapsError, limited_shares
from megatron.data.mixing.phase_shares import MixtureError, PhaseShares, phase_shares
from megatron.data.mixing.phases import PhaseSection, PhaseStart, RunSize, phase_sections, phase_starts, samples_of
from megatron.data.mixing.tiers import BELOW, UNTIERED, Powers
from megatron.data.order import SampleOrder
from megatron.data.phased_interleaving import OrderPhase

if TYPE_CHECKING:
    from megatron.config.mixture_schema import MixtureConfig

__all__ = [
    "BELOW", "UNTIERED", "Mixture", "MixtureError", "PlannedCorpus", "PlannedPhase", "Row", "RunSize", "plan_mixture",
]  # fmt: skip

Row = dict[str, str | int | float | bool | None]
"""One corpus in a table: its plan, and what was taken of it."""

_REACHED = 1e-9
_SHARE_DIGITS = 9


@dataclasses.dataclass(frozen=True)
class PlannedCorpus:
    """One corpus and its part of the mixture.

    Attributes:
        shard: the tokens, and how many there are.
        tier: name of the size tier; the source's name for text that has no language, such as code.
        share: part of all tokens of the planned run; 0 for corpora that are left out, and for those that only phases
            after the planned run train on.
        wanted: the same without limits on epochs.
        max_epochs: most passes over it in the planned run, or None.
        reason: why it is left out; empty when any phase trains on it.
        capped: whether it has reached ``max_epochs`` at the end of the planned run.
    """

    shard: ShardInfo
    tier: str
    share: float
    wanted: float
    max_epochs: float | None
    reason: str
    capped: bool

    def row(self) -> Row:
        """Return the plan of this corpus as part of a table row."""
        return {
            "corpus": self.shard.name,
            "code": self.shard.code,
            "tier": self.tier,
            "source": self.shard.source,
            "tokens": self.shard.tokens,
            "share": self.share,
            "wanted": self.wanted,
            "max_epochs": self.max_epochs,
            "capped": self.capped,
            "reason": self.reason,
        }


@dataclasses.dataclass(frozen=True)
class PlannedPhase:
    """One stretch of the run.

    Attributes:
        first_sample: where it starts.
        ramp_samples: samples over which it replaces the phase before it, linearly.
        shares: of each corpus of :attr:`Mixture.trained`, in that order, in nine digits; they add up to 1 as nearly.
        from_step: the step that the configuration names as its start; None when it names tokens.
        ramp_steps: the same of its ramp.
    """

    first_sample: int
    ramp_samples: int
    shares: tuple[float, ...]
    from_step: int | None = None
    ramp_steps: int | None = None


@dataclasses.dataclass(frozen=True)
class Mixture:
    """All corpora of a manifest with their shares, which add up to one.

    Attributes:
        corpora: every training shard, in the manifest's order.
        phases: the stretches of the run; the first starts at sample 0.
        run: length of the run. Phases may start after its end.
        planned_samples: length that limits on epochs are reckoned for; the run may be shorter or longer.
    """

    corpora: tuple[PlannedCorpus, ...]
    phases: tuple[PlannedPhase, ...]
    run: RunSize
    planned_samples: int

    @property
    def trained(self) -> tuple[PlannedCorpus, ...]:
        """The corpora that have a share in any phase; sample orders number them in this order."""
        return tuple(corpus for corpus in self.corpora if not corpus.reason)

    @property
    def not_reached(self) -> tuple[PlannedPhase, ...]:
        """The phases that start after the end of the run."""
        return tuple(phase for phase in self.phases if phase.first_sample >= self.run.samples)

    def order(self, *, seed: int, seq_length: int) -> SampleOrder:
        """Return the order of samples of this mixture."""
        return SampleOrder(
            seed=seed,
            names=[corpus.shard.name for corpus in self.trained],
            tokens=[corpus.shard.tokens for corpus in self.trained],
            phases=[OrderPhase(phase.first_sample, phase.ramp_samples, phase.shares) for phase in self.phases],
            seq_length=seq_length,
        )

    def rows(self, order: SampleOrder, *, samples: int, repeats: bool = True) -> list[Row]:
        """Return one table row for each corpus: its plan, and what the first ``samples`` samples take of it.

        Args:
            order: the order of this mixture.
            samples: how many samples to count.
            repeats: whether to find the first sample with text that its corpus has given before; None without.
        """
        counts = iter(enumerate(order.interleaving.counts(samples)))
        rows = []
        for corpus in self.corpora:
            number, taken = (-1, 0) if corpus.reason else next(counts)
            row = {**corpus.row(), "samples": taken, "sampled_tokens": taken * order.seq_length}
            row["epochs"] = taken * order.seq_length / max(1, corpus.shard.tokens)
            row["repeats_at"] = order.first_repeat(number, limit=samples) if repeats and taken else None
            rows.append(row)
        return rows


def plan_mixture(manifest: Manifest, section: MixtureConfig | None, *, run: RunSize) -> Mixture:
    """Give every training shard of ``manifest`` its tier, and its share in every phase.

    Without a section every token of the manifest is as likely as any other.

    Args:
        manifest: the corpora.
        section: the mixture.
        run: length of the run, which limits on epochs and the starts of phases are reckoned with.

    Raises:
        MixtureError: listing everything that does not fit the corpora in any phase, or how much text is missing.
    """
    shards = manifest.split("train")
    sections = phase_sections(section)
    starts, wanted = _wanted(shards, sections, section, run)
    planned = _planned_samples(section, run)
    lengths = samples_of(starts, planned)
    max_epochs = [_lowest(wanted, lengths, corpus) for corpus in range(len(shards))]
    given = _limited(shards, wanted, lengths, max_epochs, sections, run)
    corpora = [
        _corpus(
            shard,
            wanted,
            max_epochs=max_epochs[number],
            number=number,
            share=_mean([shares[number] for shares in given], lengths),
            wanted_share=_mean([phase.shares[number] for phase in wanted], lengths),
            planned_tokens=planned * run.seq_length,
        )
        for number, shard in enumerate(shards)
    ]
    return Mixture(
        corpora=tuple(corpora),
        phases=_phases(corpora, starts, given),
        run=run,
        planned_samples=planned,
    )


def _wanted(
    shards: Sequence[ShardInfo], sections: Sequence[PhaseSection], section: MixtureConfig | None, run: RunSize
) -> tuple[list[PhaseStart], list[PhaseShares]]:
    """Return where every phase starts and what it asks for, or raise everything that is wrong with any of them."""
    problems: list[str] = []
    starts = phase_starts(section.phases if section is not None else (), run, problems)
    wanted, powers = [], Powers()
    for phase in sections:
        try:
            wanted.append(phase_shares(shards, phase, powers))
        except MixtureError as error:
            problems += error.problems
    if problems:
        raise MixtureError(*dict.fromkeys(problems))  # what a phase takes over is wrong in it, too
    return starts, wanted


def _planned_samples(section: MixtureConfig | None, run: RunSize) -> int:
    if section is None or section.planned_tokens is None:
        return run.samples
    return math.ceil(section.planned_tokens / run.seq_length)


def _lowest(wanted: Sequence[PhaseShares], lengths: Sequence[int], corpus: int) -> float | None:
    """Return a corpus's most epochs: the lowest that any planned phase which trains on it names."""
    phases = [phase for phase, length in zip(wanted, lengths, strict=True) if length and phase.shares[corpus] > 0]
    named = [phase.max_epochs[corpus] for phase in phases or wanted[:1]]
    return min((epochs for epochs in named if epochs is not None), default=None)


def _limited(
    shards: Sequence[ShardInfo],
    wanted: Sequence[PhaseShares],
    lengths: Sequence[int],
    max_epochs: Sequence[float | None],
    sections: Sequence[PhaseSection],
    run: RunSize,
) -> list[list[float]]:
    """Return the shares of every phase with nothing above its limit."""
    limits = [
        math.inf if epochs is None else epochs * shard.tokens / run.seq_length
        for epochs, shard in zip(max_epochs, shards, strict=True)
    ]
    try:
        return limited_shares(
            [phase.shares for phase in wanted],
            samples=lengths,
            sources=[shard.source for shard in shards],
            limits=limits,
        )
    except CapsError as error:
        raise MixtureError(
            *(
                f"{sections[number].name}: max_epochs (of the mixture, its sources and tiers) leaves "
                f"{round(samples * run.seq_length):,} training tokens here, but "
                f"{lengths[number] * run.seq_length:,} are planned; raise max_epochs, train on more corpora, or plan "
                "for fewer tokens"
                for number, samples in error.short
            )
        ) from error


def _mean(shares: Sequence[float], lengths: Sequence[int]) -> float:
    """Return a corpus's share of the whole planned run; exactly that of the phase where there is only one."""
    if len(shares) == 1:
        return shares[0]
    return math.fsum(share * length for share, length in zip(shares, lengths, strict=True)) / sum(lengths)


def _corpus(
    shard: ShardInfo,
    wanted: Sequence[PhaseShares],
    *,
    number: int,
    share: float,
    wanted_share: float,
    max_epochs: float | None,
    planned_tokens: int,
) -> PlannedCorpus:
    """Put a corpus together; its tier is that of the first phase which trains on it."""
    phase = next((phase for phase in wanted if not phase.reasons[number]), wanted[0])
    epochs = share * planned_tokens / max(1, shard.tokens)
    return PlannedCorpus(
        shard=shard,
        tier=phase.tiers[number],
        share=share,
        wanted=wanted_share,
        max_epochs=max_epochs,
        reason=phase.reasons[number],
        capped=max_epochs is not None and epochs >= max_epochs * (1 - _REACHED),
    )


def _phases(
    corpora: Sequence[PlannedCorpus], starts: Sequence[PhaseStart], given: Sequence[Sequence[float]]
) -> tuple[PlannedPhase, ...]:
    trained = [number for number, corpus in enumerate(corpora) if not corpus.reason]
    return tuple(
        PlannedPhase(
            first_sample=start.first,
            ramp_samples=start.ramp,
            # The last bits of a float depend on how it was reckoned, and decide between corpora of equal shares. Nine
            # digits are what a resumed run is held to, so they are all that the order may depend on.
            shares=tuple(float(f"{shares[number]:.{_SHARE_DIGITS}g}") for number in trained),
            from_step=start.from_step,
            ramp_steps=start.ramp_steps,
        )
        for start, shares in zip(starts, given, strict=True)
    )
