"""Steps that are not like the others: a loss or gradient that is not a number, and spikes of the loss."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable

from megatron.config.derive import Batch
from megatron.config.schema import SurvivalConfig
from megatron.data.loader import micro_batch_numbers
from megatron.parallel.mesh import Mesh
from megatron.parallel.process import Peers
from megatron.train.step import StepResult

REWIND = "rewind"
"""What :meth:`Faults.judge` answers when the run is to go back to its last checkpoint."""

_FEWEST = 20
"""Steps before which no spike is told: the first ones after a start differ by themselves."""
_RECENT = 16
"""Steps whose median is the present level of the loss."""
_NORMAL = 1.4826 / math.sqrt(2)
"""Standard deviation of a normal noise over the median size of the change from one value to the next."""
_LEAST_NOISE = 1e-3
"""Of the level, so that losses that hardly change make no spike of a small change."""


class FaultError(RuntimeError):
    """Too many steps in a row had to be skipped; another try would end the same way."""


class Faults:
    """Judges every step, records what is wrong with it, and says what is to be done.

    An update without a finite loss and gradient is never made. A spike is a loss that lies far above the median of the
    last steps, by the noise of the losses: the median size of their changes from step to step, which a loss that falls
    does not enlarge as it does their standard deviation, nor do earlier spikes. All processes see the same losses and
    come to the same answers. After a start no losses are known, and the first steps are not judged.

    Args:
        section: what is a spike, and what is done about it.
        batch: how a step is cut, to name its samples.
        mesh: the processes, for the same.
        peers: they tell each other which samples are bad.
        describe: corpora of samples, and how many of them are of each.
        write: records an event: its kind and its fields.
        newest: returns the name of the checkpoint to go back to, if there is one; all processes call it together.
    """

    def __init__(
        self,
        section: SurvivalConfig,
        *,
        batch: Batch,
        mesh: Mesh,
        peers: Peers,
        describe: Callable[[Iterable[int]], dict[str, int]],
        write: Callable[..., None],
        newest: Callable[[], str | None],
    ) -> None:
        self._section, self._batch, self._mesh, self._peers = section, batch, mesh, peers
        self._describe, self._write, self._newest = describe, write, newest
        self._losses: deque[float] = deque(maxlen=section.loss_spike_window)
        self._in_a_row = 0
        self._returned_to: str | None = None
        self._returns = 0

    def forget(self) -> None:
        """Begin anew with the losses, as after a return to an earlier step."""
        self._losses.clear()

    def update_limit(self) -> float:
        """Return the largest loss, in nats per token, with which the next update is made."""
        return math.inf if self._section.on_loss_spike == "report" else self._limit()

    def _limit(self) -> float:
        if len(self._losses) < _FEWEST:
            return math.inf
        losses = list(self._losses)
        level = statistics.median(losses[-_RECENT:])
        changes = [abs(after - before) for before, after in itertools.pairwise(losses)]
        noise = max(_NORMAL * statistics.median(changes), _LEAST_NOISE * level)
        return level + self._section.loss_spike_sigmas * noise

    def judge(self, result: StepResult, *, step: int, first_sample: int) -> str:
        """Look at a step that was done; all processes call this.

        Args:
            result: what it did.
            step: its number.
            first_sample: number of its first sample.

        Returns:
            :data:`REWIND`, or an empty text for going on.

        Raises:
            FaultError: ``max_skipped_steps`` are exceeded.
        """
        finite = math.isfinite(result.loss) and math.isfinite(result.gradient_norm)
        limit = self._limit()
        if finite and result.loss <= limit:
            self._losses.append(result.loss)
            self._in_a_row = 0
            return ""
        samples = self._bad_samples(result, first_sample)
        back_to = self._newest() if finite and self._section.on_loss_spike == REWIND else None
        self._write(
            "incident",
            kind="spike" if finite else "not_finite",
            loss=result.loss,
            gradient_norm=result.gradient_norm,
            **({"limit": limit} if finite else {}),
            action="went back" if back_to else "reported" if result.updated else "skipped",
            samples=_ranges(samples),
            corpora=self._describe(samples),
        )
        if result.updated:
            self._losses.append(result.loss)  # a level that stays is no spike for ever
            return ""
        self._in_a_row += 1
        if back_to is not None:
            self._returns = self._returns + 1 if back_to == self._returned_to else 1
            self._returned_to, self._in_a_row = back_to, 0
        if max(self._in_a_row, self._returns) > self._section.max_skipped_steps:
            what = f"{self._in_a_row} steps in a row were skipped" if self._in_a_row else f"{back_to} was gone back to"
            raise FaultError(
                f"step {step}: loss {result.loss}, gradient norm {result.gradient_norm}: {what}, and max_skipped_steps "
                f"is {self._section.max_skipped_steps}. Start again from an earlier checkpoint with a lower learning "
                f"rate, or look at samples {samples[0]} to {samples[-1]} with tools/inspect_data.py"
            )
        return REWIND if back_to else ""

    def _bad_samples(self, result: StepResult, first: int) -> list[int]:
        """Return the samples of micro-batches whose loss is not a number, else all of the step."""
        own = [number for micro_step in result.not_finite for number in self._numbers(first, micro_step)]
        found = self._peers.broadcast(self._merged(self._peers.gather(own)))
        return found or list(range(first, first + self._batch.global_size))

    def _numbers(self, first: int, micro_step: int) -> range:
        data, batch = self._mesh.data, self._batch
        return micro_batch_numbers(
            first=first, micro_step=micro_step, rank=data.rank, ranks=data.size, micro_size=batch.micro_size
        )

    @staticmethod
    def _merged(lists: list[list[int]] | None) -> list[int] | None:
        return None if lists is None else sorted({number for numbers in lists for number in numbers})


def _ranges(numbers: list[int]) -> list[list[int]]:
    """Return sorted numbers as ``[first, last]`` of each run of neighbours."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
