"""Learning-rate schedules: pure functions of the step. Standard library only, so that a dry run can draw the curve."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from megatron.config.schema import NewTokensConfig, ScheduleConfig


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Warm-up, then decay, then the last rate for ever.

    GPT-NeoX's ``AnnealingLR`` with two changes, both towards what its users expect: after ``decay_steps`` the last rate
    is held (NeoX's cosine rises again), and warm-up never exceeds the peak (NeoX's first step does when the warm-up is
    shorter than one step).

    Attributes:
        peak: highest learning rate.
        style: ``constant``, ``linear``, ``cosine`` or ``exponential``.
        decay_steps: number of optimizer steps, warm-up included, after which the decay ends.
        warmup_steps: length of the linear warm-up in steps; may be fractional, as in NeoX.
        min_lr: floor after the warm-up.
    """

    peak: float
    style: str
    decay_steps: int
    warmup_steps: float
    min_lr: float

    def __call__(self, step: int) -> float:
        """Return the learning rate of the optimizer step that follows ``step`` finished ones (0 is the first)."""
        if self.warmup_steps > 0 and step <= self.warmup_steps:
            return self.peak * min(1.0, max(1, step) / self.warmup_steps)
        if self.style == "constant":
            return max(self.peak, self.min_lr)
        span = self.decay_steps - self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / span) if span > 0 else 1.0
        if self.style == "linear":
            rate = self.peak * (1.0 - done)
        elif self.style == "cosine":
            rate = self.min_lr + (self.peak - self.min_lr) / 2 * (1.0 + math.cos(math.pi * done))
        else:
            # Halves by the end, as in NeoX.
            rate = self.peak * math.exp(-math.log(2) * done)
        return max(rate, self.min_lr)


@dataclasses.dataclass(frozen=True)
class NewTokenRates:
    """The rates of a run that trains the rows of new tokens alone at first, or at a rate of their own.

    Attributes:
        schedule: the run's.
        only_steps: so many first steps train those rows alone.
        factor: their rate by that of the run.
    """

    schedule: Schedule
    only_steps: int
    factor: float

    def are_alone(self, step: int) -> bool:
        """Whether the step that follows ``step`` finished ones trains nothing but the rows of new tokens."""
        return step < self.only_steps

    def __call__(self, step: int) -> tuple[float, float]:
        """Return the rate of everything else, and that of the rows, for the step that follows ``step`` finished ones.

        The others begin with moments of nothing when the rows have been alone, and warm up as long as the run does.
        """
        rate, others = self.schedule(step), 1.0
        if self.are_alone(step):
            others = 0.0
        elif self.only_steps and self.schedule.warmup_steps > 0:
            others = min(1.0, max(1, step - self.only_steps) / self.schedule.warmup_steps)
        return rate * others, rate * self.factor


def new_token_rates(section: NewTokensConfig, schedule: Schedule) -> NewTokenRates | None:
    """Return the rates of a run whose configuration says which tokens are new; None where it does not."""
    if not section.are_named:
        return None
    factor = 1.0 if section.new_tokens_lr is None else section.new_tokens_lr / schedule.peak
    return NewTokenRates(schedule, section.new_tokens_only_steps, factor)


def schedule_from(section: ScheduleConfig, *, peak: float, train_iters: int) -> Schedule:
    """Build the schedule of a run of ``train_iters`` optimizer steps with the highest rate ``peak``."""
    from megatron.config.derive import decay_steps, warmup_steps

    steps = decay_steps(section, train_iters=train_iters)
    return Schedule(
        peak=peak,
        style=section.lr_decay_style,
        decay_steps=steps,
        warmup_steps=warmup_steps(section, train_iters=train_iters),
        min_lr=section.min_lr,
    )
