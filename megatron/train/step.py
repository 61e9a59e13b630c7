"""One optimizer step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn

from megatron.model.loss import IGNORE
from megatron.parallel.gradients import gradient_norm, sum_gradients
from megatron.parallel.precision import call_in
from megatron.parallel.process import World
from megatron.parallel.sharding import begin_micro_batch
from megatron.train.batches import MicroBatch


@dataclasses.dataclass(frozen=True)
class StepResult:
    """What a step did.

    Attributes:
        loss: mean cross-entropy over all tokens of the step, in nats per token, before the update.
        gradient_norm: L2 norm of the whole gradient, before clipping.
        learning_rate: rate of the update.
    """

    loss: float
    gradient_norm: float
    learning_rate: float


class NotFiniteError(RuntimeError):
    """The loss or the gradient became infinite or not a number; the weights have not been touched by it."""


class TrainStep:
    """Runs forward, backward, gradient reduction, clipping and the update.

    The loss is the sum over all valid tokens of the step divided by their number, whatever the layout: gradients of
    sums are added up over micro-batches and processes, and divided once.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        learning_rate: Callable[[int], float],
        world: World,
        dtype: torch.dtype,
        max_gradient_norm: float,
        zero_stage: int = 0,
    ) -> None:
        self._model, self._optimizer, self._world, self._dtype = model, optimizer, world, dtype
        self._zero_stage = zero_stage
        self._learning_rate = learning_rate
        self._max_gradient_norm = max_gradient_norm
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def __call__(self, micro_batches: Iterable[MicroBatch], *, step: int) -> StepResult:
        """Train on the micro-batches of this process.

        Raises:
            NotFiniteError: on every process alike.
            ValueError: no position of the whole step has a target; on every process alike.
        """
        self._optimizer.zero_grad(set_to_none=True)
        loss_sum, num_tokens = self._add_up_gradients(micro_batches)
        if num_tokens == 0:
            raise ValueError(
                f"step {step + 1}: no token of the step has a loss, so there is nothing to learn from. Look at its "
                "samples: with eod_mask_loss, text that is nothing but ends of documents has none; set it to false, or "
                "mend the data"
            )
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = gradient_norm(gradients) / num_tokens
        if not (math.isfinite(loss_sum) and math.isfinite(norm)):
            raise NotFiniteError(
                f"step {step + 1}: loss {loss_sum / num_tokens}, gradient norm {norm}. The update was not made; start "
                "again from the last checkpoint with a lower learning rate, or look at the samples of this step"
            )
        clip = min(1.0, self._max_gradient_norm / (norm + 1e-6)) if self._max_gradient_norm > 0 else 1.0
        torch._foreach_mul_(gradients, clip / num_tokens)
        rate = self._learning_rate(step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        return StepResult(loss=loss_sum / num_tokens, gradient_norm=norm, learning_rate=rate)

    def _add_up_gradients(self, micro_batches: Iterable[MicroBatch]) -> tuple[float, float]:
        """Run forward and backward; return the sum of the losses and how many there are, over all processes."""
        totals = torch.zeros(2, dtype=torch.float64, device=self._world.device)
        for batch, last in _with_last(micro_batches):
            begin_micro_batch(self._model, stage=self._zero_stage, last=last)
            loss = call_in(
                self._dtype,
                self._model,
                batch.inputs,
                targets=batch.targets,
                positions=batch.positions,
                documents=batch.documents,
            )
            loss.backward()
            totals[0] += loss.detach()
            totals[1] += (batch.targets != IGNORE).sum()
        sum_gradients(self._parameters, self._world)
        loss_sum, num_tokens = self._world.sum(totals).tolist()
        return loss_sum, num_tokens


def _with_last(micro_batches: Iterable[MicroBatch]) -> Iterator[tuple[MicroBatch, bool]]:
    """Yield every micro-batch, and whether it is the last."""
    held: MicroBatch | None = None
    for batch in micro_batches:
        if held is not None:
            yield held, False
        held = batch
    if held is not None:
        yield held, True
