"""A run on one type of accelerator: whether it fits, and how fast it is."""

from __future__ import annotations

import dataclasses

from megatron.simulate.hardware import Gpu
from megatron.simulate.memory import memory_of
from megatron.simulate.run import Run
from megatron.simulate.step_time import StepTime, step_time


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What is expected of a run.

    Attributes:
        run: the run.
        gpu: the type of accelerator.
        peak_bytes: of the process that holds most.
        time: of a step.
    """

    run: Run
    gpu: Gpu
    peak_bytes: float
    time: StepTime

    @classmethod
    def of(cls, run: Run, gpu: Gpu, *, per_node: int | None = None) -> Estimate:
        """Reckon a run; ``per_node`` as in :func:`megatron.simulate.step_time.step_time`."""
        return cls(run, gpu, peak_bytes(run), step_time(run, gpu, per_node=per_node))

    @property
    def missing_bytes(self) -> float:
        """Bytes that the fullest process lacks; 0 when it fits."""
        return max(0.0, self.peak_bytes - self.gpu.usable_bytes)

    @property
    def days(self) -> float:
        """Duration of the whole run, without evaluation and checkpoints."""
        return self.time.seconds * self.run.train_iters / 86_400

    @property
    def gpu_hours(self) -> float:
        """The same times the number of accelerators."""
        return self.days * 24 * self.run.layout.processes


def peak_bytes(run: Run) -> float:
    """Return the most that any process holds at any moment."""
    return max(memory_of(run, position=position).peak for position in range(run.layout.pipeline))
