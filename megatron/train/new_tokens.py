"""Trains the rows of new tokens alone at first, and at a learning rate of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megatron.config.schema import NewTokensConfig
from megatron.data.manifest import TokenizerInfo
from megatron.data.new_tokens import first_new_token
from megatron.optim.rows import begin_moments, update_rows
from megatron.optim.schedule import NewTokenRates, Schedule, new_token_rates
from megatron.parallel.engine import Engine
from megatron.parallel.parts import local, local_part


class NewTokens:
    """The rows of the embedding and of the output matrix that belong to new tokens, beside everything else.

    Each of the two matrices is updated in two parts, old rows and new ones, as if they were two parameters: with
    moments, a number of updates and a learning rate of their own. So the old rows begin when they are trained for the
    first time as every other weight does, and AdamW's correction for short means is that of their own few updates.

    Rows beyond the tokenizer's entries, which pad a vocabulary, are new ones: the output matrix must learn that they
    never come.

    Args:
        engine: of the model, whatever the layout, with its weights in place.
        optimizer: of all its parameters; those that have no moments yet get them.
        first: the first new id.
        rates: says when the rows are alone, and how fast they and everything else are.

    Attributes:
        first: as given.
        rates: as given.
    """

    def __init__(self, engine: Engine, optimizer: torch.optim.AdamW, *, first: int, rates: NewTokenRates) -> None:
        model = engine.model
        self.first, self.rates = first, rates
        self._optimizer = optimizer
        modules = (model.model.embed_tokens, model.lm_head)
        self._matrices = [module.weight for module in modules if module is not None]
        self._old_rows = [_rows_before(first, matrix) for matrix in self._matrices]
        mine = {id(matrix) for matrix in self._matrices}
        self._others = [parameter for parameter in model.parameters() if id(parameter) not in mine]
        groups = [{id(parameter) for parameter in group["params"]} for group in optimizer.param_groups]
        self._groups = [next(n for n, group in enumerate(groups) if id(matrix) in group) for matrix in self._matrices]
        begin_moments(optimizer)
        if rates.only_steps:
            engine.settle()

    def told(self, step: int, *, num_tokens: int) -> dict[str, Any]:
        """Return the fields of a ``new_tokens`` event.

        Args:
            step: optimizer steps done before.
            num_tokens: entries of the tokenizer.
        """
        return {
            "first": self.first,
            "tokens": num_tokens - self.first,
            "until": self.rates.only_steps if self.rates.are_alone(step) else None,
            "factor": self.rates.factor,
        }

    @contextmanager
    def passes(self, step: int) -> Iterator[None]:
        """Let the forward and backward passes of a step make the gradients of what it trains, and leave no others.

        Args:
            step: optimizer steps done before.
        """
        if not self.rates.are_alone(step):
            yield
            return
        for parameter in self._others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            # Checkpoints hold the moments of what is trained: for them everything is.
            for parameter in self._others:
                parameter.requires_grad_(True)
                parameter.grad = None
        for matrix, old in zip(self._matrices, self._old_rows, strict=True):
            if matrix.grad is not None:
                local(matrix.grad)[:old].zero_()

    def update(self, step: int) -> None:
        """Make a step's update from the gradients that are there.

        Args:
            step: optimizer steps done before.
        """
        others, new = self.rates(step)
        state = self._optimizer.state
        # Old rows have been updated whenever the other weights were.
        updates: Tensor = state[self._others[0]]["step"].clone()
        gradients = [matrix.grad for matrix in self._matrices]
        for matrix in self._matrices:
            matrix.grad = None
        for group in self._optimizer.param_groups:
            group["lr"] = others
        self._optimizer.step()  # also without a gradient: a checkpoint under way is waited for
        for at, (matrix, gradient) in enumerate(zip(self._matrices, gradients, strict=True)):
            if gradient is None:
                continue
            matrix.grad, moments = gradient, state[matrix]
            whole = (matrix.detach(), gradient, moments["exp_avg"], moments["exp_avg_sq"])
            here = (local(whole[0]), local(whole[1]), local(whole[2]), local(whole[3]))
            group, old = self._optimizer.param_groups[self._groups[at]], self._old_rows[at]
            if not self.rates.are_alone(step):
                update_rows(here, slice(0, old), step=updates.clone(), learning_rate=others, group=group)
            update_rows(here, slice(old, None), step=moments["step"], learning_rate=new, group=group)


def build_new_tokens(
    section: NewTokensConfig,
    tokenizer: TokenizerInfo,
    engine: Engine,
    optimizer: torch.optim.AdamW,
    schedule: Schedule,
    *,
    beside: Sequence[Path] = (),
) -> NewTokens | None:
    """Return what trains the rows of new tokens as a configuration says, or None where it says nothing of them.

    Args:
        section: what it says.
        tokenizer: that of the run.
        engine: of the model.
        optimizer: of all its parameters.
        schedule: the run's learning rate.
        beside: as :func:`megatron.data.new_tokens.first_new_token`.

    Raises:
        ValueError: as :func:`megatron.data.new_tokens.first_new_token`.
    """
    first, rates = first_new_token(section, tokenizer, beside=beside), new_token_rates(section, schedule)
    return None if first is None or rates is None else NewTokens(engine, optimizer, first=first, rates=rates)


def _rows_before(first: int, matrix: Tensor) -> int:
    """Return how many rows of a matrix that lie in this process belong to ids below ``first``."""
    here, (rows, _) = local_part(matrix)
    return min(max(first - int(rows.start), 0), here.shape[0])
