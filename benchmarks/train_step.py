#!/usr/bin/env python3
"""Tokens per second of one training step: this project against transformers' Llama with fused AdamW.

Same shape, batch, precision and random data; forward, backward, clipping at 1.0 and the update; the two sides take
turns in one process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from common import Comparison, alternate, parse_arguments, show, small_llama

from megatron.model.llama import Llama
from megatron.model.micro_batch import MicroBatch
from megatron.optim.adamw import build_adamw
from megatron.parallel.engine import Engine
from megatron.parallel.precision import compute_dtype
from megatron.train.step import TrainStep

SHAPE = small_llama(vocab_size=32_000, positions=512)
BATCH, LENGTH, LEARNING_RATE = 4, 512, 1e-4


def our_step(precision: str, device: torch.device) -> Callable[[torch.Tensor], object]:
    """Return a function that trains our model on int64 ``[batch, length + 1]``."""
    model = Llama(SHAPE).to(device)
    model.init_weights(seed=0)
    optimizer = build_adamw(model, learning_rate=LEARNING_RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    step = TrainStep(
        engine=Engine.alone(model, dtype=compute_dtype(precision)),
        optimizer=optimizer,
        learning_rate=lambda _: LEARNING_RATE,
        max_gradient_norm=1.0,
    )

    def run(tokens: torch.Tensor) -> object:
        return step([MicroBatch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())], step=0)

    return run


def peer_step(precision: str, device: torch.device, *, autocast: bool) -> Callable[[torch.Tensor], object] | None:
    """Return the same for transformers, or None where it is not installed.

    bfloat16 is computed through autocast over float32 weights, or with the weights themselves in bfloat16.
    """
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        return None
    entries = {key: value for key, value in SHAPE.to_hf().items() if key not in ("architectures", "model_type")}
    weights = torch.float32 if autocast else compute_dtype(precision)
    model = LlamaForCausalLM(LlamaConfig(**entries)).to(device, weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step(tokens: torch.Tensor) -> float:
        optimizer.zero_grad(set_to_none=True)
        inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast and precision == "bfloat16"):
            loss = model(input_ids=inputs, labels=inputs, shift_labels=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step


def main() -> None:
    """Measure fp32, and bf16 in the two ways of the peer; ours keeps float32 weights in both."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")

    arguments = parse_arguments(__doc__ or "", add)
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        import transformers

        peer_name = f"transformers {transformers.__version__}"
    except ImportError:
        peer_name = "transformers"
    repetitions = 3 if arguments.quick else 11
    batches = torch.randint(0, SHAPE.vocab_size, (repetitions + 1, BATCH, LENGTH + 1), device=device)
    lines = []
    cases = {
        "train step fp32": ("fp32", False),
        "train step bf16, autocast": ("bfloat16", True),
        "train step bf16, bf16 weights": ("bfloat16", False),
    }
    for case, (precision, autocast) in cases.items():
        ours, peer = our_step(precision, device), peer_step(precision, device, autocast=autocast)
        rates = alternate(
            lambda i, run=ours: run(batches[i]),
            None if peer is None else lambda i, run=peer: run(batches[i]),
            repetitions=repetitions,
            amount=BATCH * LENGTH,
        )
        lines.append(Comparison(case, *rates, peer_name, "tokens/s"))
    show(lines, as_json=arguments.json)


if __name__ == "__main__":
    main()
