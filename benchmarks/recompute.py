#!/usr/bin/env python3
"""What blocks recompute, and what they keep: each mode, and budgets in between, against keeping everything.

Forward and backward pass of the small Llama of the benchmarks; every mode takes turns with the same model that
recomputes nothing. ``kept MB`` is what is there when the blocks' forward pass is done, counted from the storages that
PyTorch's operations have made, ``told MB`` what the simulation says, which the budgets are chosen by.
"""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from common import Comparison, alternate, show, small_llama, torch_arguments
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from megatron.config.layout import Layout
from megatron.config.recomputation import Recomputation
from megatron.model.llama import Llama
from megatron.parallel.precision import compute_dtype
from megatron.parallel.recompute import recompute_activations
from megatron.simulate.budget import modes_within, most_kept
from megatron.simulate.hardware import GIB
from megatron.simulate.run import Run

SHAPE = small_llama(vocab_size=32_000, positions=512)
BATCH, LENGTH = 2, 512
SHARES = (0.75, 0.5, 0.25)
"""Budgets: so much of the way from ``full`` to no recomputation."""


class Made(TorchDispatchMode):
    """Remembers the storages that operations make, for as long as they are there; those of ``others`` do not count."""

    def __init__(self, others: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self._others = {tensor.untyped_storage()._cdata for tensor in others}
        self._alive: dict[int, Any] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and (key := leaf.untyped_storage()._cdata) not in self._others:
                gone = functools.partial(self._forget, key)
                self._alive.setdefault(key, weakref.ref(leaf.untyped_storage(), gone))
        return out

    def _forget(self, key: int, _: object) -> None:
        self._alive.pop(key, None)

    @property
    def bytes(self) -> int:
        """Bytes of those that are there."""
        return sum(storage.nbytes() for made in list(self._alive.values()) if (storage := made()) is not None)


def model_with(recomputation: Recomputation, device: torch.device, dtype: torch.dtype) -> Llama:
    """Return the model with random weights, whose blocks recompute so."""
    model = Llama(SHAPE).to(device, dtype)
    model.init_weights(seed=0)
    recompute_activations(model, recomputation)
    return model


def kept_bytes(model: Llama, device: torch.device, dtype: torch.dtype) -> int:
    """Return what the blocks keep of a forward pass; their input is theirs, their output is not."""
    decoder, norm = model.model, model.model.norm
    decoder.norm = None
    states = torch.randn(BATCH, LENGTH, SHAPE.hidden_size, device=device, dtype=dtype, requires_grad=True)
    with Made([*decoder.parameters(), *decoder.buffers(), states]) as made:
        out = decoder(states)
        kept = made.bytes - out.nbytes + states.nbytes
    decoder.norm = norm
    return kept


def choices(run: Run) -> dict[str, tuple[Recomputation, float | None]]:
    """Return the mode, or the modes, of each case, and its budget in bytes; those that keep most come first."""
    full, none = (most_kept(dataclasses.replace(run, recompute=mode)) for mode in ("full", None))
    found: dict[str, tuple[Recomputation, float | None]] = {}
    for share in SHARES:
        budget = full + share * (none - full)
        found[f"budget, {share:.0%}"] = modes_within(run, budget_gib=budget / GIB), budget
    cases: dict[str, tuple[Recomputation, float | None]] = {**found, "selective": ("selective", None)}
    cases["full"] = ("full", None)
    return dict(sorted(cases.items(), key=lambda case: -most_kept(dataclasses.replace(run, recompute=case[1][0]))))


def main() -> None:
    """Measure every choice."""
    arguments, device = torch_arguments(__doc__ or "", precision=True)
    dtype = compute_dtype(arguments.precision)
    run = Run(SHAPE, Layout(), LENGTH, BATCH, 1, 1, element_bytes=dtype.itemsize)
    tokens = torch.randint(0, SHAPE.vocab_size, (BATCH, LENGTH), device=device)
    plain, lines = model_with(None, device, dtype), []

    def side(model: Llama) -> float:
        loss = model(tokens, targets=tokens)
        loss.backward()
        return float(loss.detach())  # waits for a GPU

    for case, (recomputation, budget) in choices(run).items():
        chosen, model = dataclasses.replace(run, recompute=recomputation), model_with(recomputation, device, dtype)
        rates = alternate(
            lambda _, model=model: side(model),
            lambda _: side(plain),
            repetitions=2 if arguments.quick else 9,
            amount=BATCH * LENGTH,
        )
        counts = chosen.mode_counts(0)
        more = {
            "blocks full": float(counts.get("full", 0)), "selective": float(counts.get("selective", 0)),
            "budget MB": None if budget is None else budget / 1e6, "told MB": most_kept(chosen) / 1e6,
            "kept MB": kept_bytes(model, device, dtype) / 1e6, "none, MB": kept_bytes(plain, device, dtype) / 1e6,
        }  # fmt: skip
        lines.append(Comparison(case, *rates, "none", "tokens/s", more))
    show(lines, as_json=arguments.json)


if __name__ == "__main__":
    main()
