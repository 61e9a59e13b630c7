"""The mode of recomputation of every block, so that as little as possible is computed again within a budget of memory.

Blocks go from ``full`` to ``selective`` first, then from there to keeping everything. The first step saves the matrix
products of a forward pass, the second its elementwise work. For each byte more that is kept, Llama 2 7B saves 3,731
operations by the one, and 7.3 bytes that are read and written by the other (Llama 3 8B 4,090 and 6.0, Llama 3.2 1B
2,043 and 5.7). The GPUs of :mod:`megatron.simulate.hardware` do 73 to 166 operations in the time that a byte takes, so
the first step is worth 2 to 9 times as much; with 4 tensor-parallel processes still 1.5 to 6 times, and more where
blocks are compiled. The exception is the benchmarks' model of hidden size 288 on a GPU (281 and 7.3, so 0.2 to 0.5
times), which lacks no memory there; where fewer than 39 operations go for a byte, the order is right for it, too.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

from megatron.config.recomputation import Mode, Recomputation, modes_text
from megatron.config.schema import Config
from megatron.simulate.hardware import GIB
from megatron.simulate.memory import kept_bytes
from megatron.simulate.run import Run


class BudgetError(ValueError):
    """A budget is too small for any choice."""


def planned_run(config: Config, *, processes: int, vocab_size: int | None = None) -> Run:
    """Return :meth:`Run.of`, in which also a budget has been made into a mode for every block.

    Args:
        config: the run.
        processes: of it.
        vocab_size: as for :meth:`Run.of`.

    Raises:
        BudgetError: the budget is too small.
        ValueError: the layout does not fit, as for :meth:`Run.of`.
    """
    run, budget = Run.of(config, processes=processes, vocab_size=vocab_size), _budget_gib(config)
    return run if budget is None else dataclasses.replace(run, recompute=modes_within(run, budget_gib=budget))


def modes_within(run: Run, *, budget_gib: float) -> tuple[Mode, ...]:
    """Return one mode for each layer of the model.

    Every process decides for its own blocks: with a pipeline the first ones hold most micro-batches at a time.

    Args:
        run: its own recomputation does not matter.
        budget_gib: the most that forward passes may leave for backward passes in a process, in all passes that are in
            flight (:func:`megatron.simulate.memory.kept_bytes`).

    Raises:
        BudgetError: not even ``full`` in all blocks is within it.
    """
    full = most_kept(dataclasses.replace(run, recompute="full")) / GIB
    if full > budget_gib:
        raise BudgetError(
            f"activation_memory_gib = {budget_gib:g} is too small: activations take {math.ceil(100 * full) / 100:.2f} "
            "GiB even with checkpoint_mode: full in all blocks. Raise it to that at least, or shorten seq_length or "
            "the micro-batch."
        )
    # The two halves of zero bubble's backward passes cannot share what `selective` computes again.
    steps: tuple[Mode, ...] = (None,) if run.layout.schedule == "zero_bubble" else ("selective", None)
    chosen: list[Mode] = ["full"] * run.shape.num_hidden_layers
    for position in range(run.layout.pipeline):
        raised = _raising_order(run.layers(position))
        for mode in steps:
            raised = raised[: _most_raised(run, position, chosen, raised, mode, budget_gib * GIB)]
            chosen = _with(chosen, raised, mode)
    return tuple(chosen)


def most_kept(run: Run) -> float:
    """Return the bytes that activations take in the process that has most of them."""
    return max(kept_bytes(run, position) for position in range(run.layout.pipeline))


def recomputation_of(config: Config, *, processes: int, vocab_size: int | None = None) -> Recomputation:
    """Return how the blocks of a run recompute; arguments and errors as for :func:`planned_run`."""
    if _budget_gib(config) is not None:
        return planned_run(config, processes=processes, vocab_size=vocab_size).recompute
    train = config.train
    return train.checkpoint_mode if train.checkpoint_activations else None


def budget_text(config: Config, *, processes: int) -> str | None:
    """Return what a budget chooses, such as ``12 blocks full, 20 selective (9.80 of 10 GiB)``; None without a budget.

    None also where that is not known before the run starts, or where the run is not possible.
    """
    budget = _budget_gib(config)
    if budget is None:
        return None
    try:
        run = planned_run(config, processes=processes)
    except ValueError:
        return None  # check_run and budget_problems say why
    return f"{modes_text(run.recompute)} ({most_kept(run) / GIB:.2f} of {budget:g} GiB)"


def budget_problems(config: Config, *, processes: int) -> Iterator[str]:
    """Tell whether the budget of a run is too small, as far as that is known before it starts."""
    try:
        recomputation_of(config, processes=processes)
    except BudgetError as error:
        yield str(error)
    except ValueError:
        return  # check_run says why


def _budget_gib(config: Config) -> float | None:
    train = config.train
    return train.activation_memory_gib if train.checkpoint_activations else None


def _raising_order(stages: Sequence[Sequence[int]]) -> list[int]:
    """Return the layers of a process, those first that are to recompute less.

    The last ones: they go backward first, so what they keep is gone before blocks come that need memory to recompute.
    Stages of a process take turns, so that each keeps about as much; the last one's passes are in flight for the
    shortest time.
    """
    rounds = itertools.zip_longest(*(reversed(layers) for layers in reversed(stages)))
    return [layer for layers in rounds for layer in layers if layer is not None]


def _most_raised(
    run: Run, position: int, chosen: Sequence[Mode], layers: Sequence[int], mode: Mode, budget_bytes: float
) -> int:
    """Return how many of the layers, from the first on, may have a mode within the budget."""

    def is_over(count: int) -> bool:
        tried = dataclasses.replace(run, recompute=tuple(_with(chosen, layers[:count], mode)))
        return kept_bytes(tried, position) > budget_bytes

    return bisect.bisect_left(range(1, len(layers) + 1), True, key=is_over)


def _with(chosen: Sequence[Mode], layers: Sequence[int], mode: Mode) -> list[Mode]:
    changed = set(layers)
    return [mode if layer in changed else old for layer, old in enumerate(chosen)]
