"""One optimizer step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext

import torch

from megatron.model.micro_batch import MicroBatch
from megatron.parallel.engine import Engine
from megatron.train.new_tokens import NewTokens


@dataclasses.dataclass(frozen=True)
class StepResult:
    """What a step did.

    Attributes:
        loss: mean cross-entropy over all tokens of the step, in nats per token, before the update.
        gradient_norm: L2 norm of the whole gradient, before clipping.
        learning_rate: rate of the update; while new tokens are trained alone, 0.
        updated: whether the update was made: loss and gradient are numbers, and the loss is not above the limit.
        not_finite: indices of this process's micro-batches whose loss is infinite or not a number.
        groups: of each group of rows its summed loss in nats, and its number of targets.
        new_tokens_learning_rate: rate of the rows of new tokens, where these are told apart.
    """

    loss: float
    gradient_norm: float
    learning_rate: float
    updated: bool = True
    not_finite: tuple[int, ...] = ()
    groups: Sequence[tuple[float, float]] = ()
    new_tokens_learning_rate: float | None = None


class TrainStep:
    """Runs forward, backward, gradient reduction, clipping and the update.

    The loss is the sum over all valid tokens of the step divided by their number, whatever the layout: gradients of
    sums are added up over micro-batches and processes, and divided once.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        optimizer: torch.optim.Optimizer,
        learning_rate: Callable[[int], float],
        max_gradient_norm: float,
        num_groups: int = 0,
        new_tokens: NewTokens | None = None,
    ) -> None:
        self._num_groups, self._new_tokens = num_groups, new_tokens
        self._engine, self._optimizer = engine, optimizer
        self._learning_rate = learning_rate
        self._max_gradient_norm = max_gradient_norm

    def __call__(
        self, micro_batches: Iterable[MicroBatch], *, step: int, loss_limit: float = math.inf
    ) -> StepResult:
        """Train on the micro-batches of this process.

        Args:
            micro_batches: of one step.
            step: optimizer steps done before, which the learning rate depends on.
            loss_limit: largest loss, in nats per token, with which the update is made.

        Returns:
            The same for every process but for ``not_finite``. Without an update the weights are as they were.

        Raises:
            ValueError: no position of the whole step has a target; on every process alike.
        """
        self._optimizer.zero_grad(set_to_none=True)
        with nullcontext() if self._new_tokens is None else self._new_tokens.passes(step):
            sums = self._engine.add_up_gradients(micro_batches, num_groups=self._num_groups)
        loss_sum, num_tokens, micro_losses, groups = sums
        if num_tokens == 0:
            raise ValueError(
                f"step {step + 1}: no token of the step has a loss, so there is nothing to learn from. Look at its "
                "samples: with eod_mask_loss, text that is nothing but ends of documents has none; set it to false, or "
                "mend the data"
            )
        norm, loss = self._engine.gradient_norm() / num_tokens, loss_sum / num_tokens
        rate, of_new = (self._learning_rate(step), None) if self._new_tokens is None else self._new_tokens.rates(step)
        result = StepResult(loss, norm, rate, groups=groups, new_tokens_learning_rate=of_new)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            bad = torch.nonzero(~torch.isfinite(micro_losses)).flatten().tolist()
            return dataclasses.replace(result, updated=False, not_finite=tuple(bad))
        if loss > loss_limit:
            return dataclasses.replace(result, updated=False)
        clip = min(1.0, self._max_gradient_norm / (norm + 1e-6)) if self._max_gradient_norm > 0 else 1.0
        self._engine.scale_gradients(clip / num_tokens)
        self._update(step, rate)
        return result

    def _update(self, step: int, rate: float) -> None:
        if self._new_tokens is not None:
            self._new_tokens.update(step)
            return
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
