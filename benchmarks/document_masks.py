#!/usr/bin/env python3
"""Tokens per second of forward and backward where attention stays within documents that are packed into rows.

Against transformers' Llama, which finds the borders in ``position_ids`` and masks them, and against this model without
borders. Same shape, weights' distribution, tokens and document lengths; the sides take turns in one process.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from common import Comparison, alternate, show, small_llama, torch_arguments

from megatron.data.documents import positions
from megatron.model.attention import Documents
from megatron.model.llama import Llama
from megatron.parallel.precision import compute_dtype

SHAPE = small_llama(vocab_size=2_000, positions=4_096)
WINDOWS = ((4, 512), (2, 2_048), (1, 4_096))
MEAN_LENGTHS = (50, 300, 1_500)


def random_lengths(rows: int, width: int, mean: int) -> list[int]:
    """Return lengths of documents (exponential), cut at the end of every row."""
    random = np.random.default_rng(mean)
    lengths: list[int] = []
    for _ in range(rows):
        left = width
        while left:
            lengths.append(min(left, 1 + int(random.exponential(mean))))
            left -= lengths[-1]
    return lengths


def peer_model(dtype: torch.dtype, device: torch.device) -> torch.nn.Module | None:
    """Return transformers' model, or None where it is not installed."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        return None
    entries = {key: value for key, value in SHAPE.to_hf().items() if key not in ("architectures", "model_type")}
    model: torch.nn.Module = LlamaForCausalLM(LlamaConfig(**entries)).to(device, dtype)
    return model


Run = Callable[[int], object]


def sides(model: Llama, peer: torch.nn.Module | None, rows: int, width: int, mean: int) -> tuple[Run, Run | None, Run]:
    """Return ours, the peer's and our whole rows' forward and backward pass over the same batch."""
    device = model.head_weight.device
    lengths = random_lengths(rows, width, mean)
    tokens = torch.randint(0, SHAPE.vocab_size, (rows, width), device=device)
    documents = Documents.of(lengths, device=device)
    places = torch.from_numpy(positions(np.array(lengths, dtype=np.int32), rows, width)).to(device)

    def wait(loss: torch.Tensor) -> float:
        loss.backward()
        return loss.item()

    def theirs(_: int) -> float:
        assert peer is not None
        return wait(peer(tokens, position_ids=places, labels=tokens, shift_labels=tokens, use_cache=False).loss)

    return (
        lambda _: wait(model(tokens, targets=tokens, positions=places, pattern=documents)),
        None if peer is None else theirs,
        lambda _: wait(model(tokens, targets=tokens)),
    )


def main() -> None:
    """Measure windows of several widths with documents of several mean lengths."""
    arguments, device = torch_arguments(__doc__ or "", precision=True)
    dtype = compute_dtype(arguments.precision)
    model, peer = Llama(SHAPE).to(device, dtype), peer_model(dtype, device)
    model.init_weights(seed=0)
    lines = []
    for rows, width in WINDOWS[: 1 if arguments.quick else None]:
        for mean in MEAN_LENGTHS:
            ours, theirs, whole = sides(model, peer, rows, width, mean)
            for name, other in (("transformers, packed", theirs), ("ours, whole rows", whole)):
                rates = alternate(ours, other, repetitions=2 if arguments.quick else 5, amount=rows * width)
                lines.append(Comparison(f"{rows}x{width}, mean {mean}, {name.split(',')[0]}", *rates, name, "tokens/s"))
    show(lines, as_json=arguments.json)


if __name__ == "__main__":
    main()
