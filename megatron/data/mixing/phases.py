"""The phases of a mixture: what each one's section is, where it starts, and how many samples it gets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from megatron.data.phased_interleaving import ramp_samples

if TYPE_CHECKING:
    from megatron.config.mixture_schema import MixtureConfig, PhaseConfig

_REPLACED = ("tiers", "alpha", "weights", "sources", "include", "exclude")


@dataclasses.dataclass(frozen=True)
class RunSize:
    """How long a run is.

    Attributes:
        seq_length: tokens per sample.
        batch_size: samples per optimizer step, over all processes.
        train_iters: optimizer steps.
    """

    seq_length: int
    batch_size: int
    train_iters: int

    @property
    def samples(self) -> int:
        """Samples of the whole run."""
        return self.batch_size * self.train_iters

    @property
    def tokens(self) -> int:
        """Tokens of the whole run."""
        return self.samples * self.seq_length


@dataclasses.dataclass(frozen=True)
class PhaseStart:
    """Where a phase starts.

    Attributes:
        first: its first sample.
        ramp: samples over which it replaces the phase before it.
        from_step: the step that the configuration names; None when it names tokens.
        ramp_steps: the same of the ramp.
    """

    first: int
    ramp: int
    from_step: int | None = None
    ramp_steps: int | None = None


@dataclasses.dataclass(frozen=True)
class PhaseSection:
    """The mixture of one phase, and where the user wrote it.

    Attributes:
        section: the whole mixture as it is in this phase; None without a mixture.
        number: index in ``mixture.phases``; None for the mixture that the run starts with.
        replaced: names of the keys that the phase gives.
    """

    section: MixtureConfig | None
    number: int | None = None
    replaced: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """YAML key of the phase."""
        return "mixture" if self.number is None else f"mixture.phases.{self.number}"

    def key(self, name: str) -> str:
        """Return the YAML key that a name of this section was written as: that of the phase, or of the mixture."""
        return f"{self.name}.{name}" if name in self.replaced else f"mixture.{name}"


def phase_sections(section: MixtureConfig | None) -> list[PhaseSection]:
    """Return the mixture of every phase: the first is the mixture itself, the others replace some of its keys."""
    sections = [PhaseSection(section)]
    for number, phase in enumerate(section.phases if section is not None else ()):
        given = {name: value for name in _REPLACED if (value := getattr(phase, name)) is not None}
        assert section is not None
        sections.append(PhaseSection(section.model_copy(update=given), number, frozenset(given)))
    return sections


def phase_starts(phases: Sequence[PhaseConfig], run: RunSize, problems: list[str]) -> list[PhaseStart]:
    """Return where every phase starts, the one before the first of ``phases`` at 0.

    Args:
        phases: the later phases.
        run: turns steps and tokens into samples.
        problems: gets a text for every start that is missing, given twice, or not after the ramp before it.
    """
    starts = [PhaseStart(0, 0)]
    for number, phase in enumerate(phases):
        name, trouble = f"mixture.phases.{number}", len(problems)
        if (phase.from_step is None) == (phase.from_tokens is None):
            problems.append(f"{name} needs from_step or from_tokens, and only one of them")
        if phase.ramp_steps is not None and phase.ramp_tokens is not None:
            problems.append(f"{name} has ramp_steps and ramp_tokens; keep one of them")
        if len(problems) > trouble:
            continue
        start = PhaseStart(
            first=_samples(phase.from_step, phase.from_tokens, run),
            ramp=_samples(phase.ramp_steps, phase.ramp_tokens, run),
            from_step=phase.from_step,
            ramp_steps=phase.ramp_steps,
        )
        problems += _overlap(name, starts[-1], start)
        starts.append(start)
    return starts


def samples_of(starts: Sequence[PhaseStart], total: int) -> list[int]:
    """Return how many of the first ``total`` samples each phase gets; they add up to ``total``."""
    samples = [0] * len(starts)
    ends = [*(start.first for start in starts[1:]), total]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        length = max(0, min(end, total) - start.first)
        ramp = min(length, start.ramp)
        new = ramp_samples(ramp, start.ramp) if ramp else 0
        samples[number] += length - ramp + new
        if ramp:
            samples[number - 1] += ramp - new
    return samples


def _samples(steps: int | None, tokens: float | None, run: RunSize) -> int:
    if steps is not None:
        return steps * run.batch_size
    return 0 if tokens is None else math.ceil(tokens / run.seq_length)


def _overlap(name: str, before: PhaseStart, start: PhaseStart) -> list[str]:
    if start.first <= before.first:
        return [
            f"{name} starts at sample {start.first:,}, but the phase before it at {before.first:,}; "
            "list phases in the order of their starts"
        ]
    if start.first < before.first + before.ramp:
        return [
            f"{name} starts at sample {start.first:,}, but the ramp of the phase before it lasts until "
            f"{before.first + before.ramp:,}; shorten that ramp, or start later"
        ]
    return []
