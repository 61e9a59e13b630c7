#!/usr/bin/env python3
"""New tokens per second of greedy texts: this project against transformers' ``generate``.

The same weights, exported to a Hugging Face folder, fp32, the same prompts of 8 to 128 tokens and as many new tokens;
transformers pads a batch on the left, with an attention mask. Both sides must write the same tokens. The small model
has hidden size 288 and 6 layers, the large one 1,024 and 16; the two sides take turns in one process.
"""

from __future__ import annotations

import dataclasses
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from common import Comparison, alternate, show, small_llama, torch_arguments

from megatron.checkpoint.hf import save_model
from megatron.config.architecture import Architecture
from megatron.generate.options import GenerationOptions
from megatron.generate.writer import TextWriter
from megatron.model.llama import Llama
from megatron.parallel.engine import Engine
from megatron.tokenizer.base import Tokenizer

SMALL = small_llama(vocab_size=32_000, positions=1024)
LARGE = dataclasses.replace(
    SMALL, hidden_size=1024, intermediate_size=2816, num_hidden_layers=16, num_attention_heads=16,
    num_key_value_heads=16, head_dim=64,
)  # fmt: skip
BATCH, FIRST_ID, PADDING_ID = 16, 1, 0

Write = Callable[[list[list[int]], int], list[list[int]]]
"""Continues prompts by so many tokens each."""


def some_prompts(count: int) -> list[list[int]]:
    """Return prompts of 8 to 128 tokens."""
    chance = random.Random(0)
    return [[chance.randrange(3, SMALL.vocab_size) for _ in range(chance.randint(8, 128))] for _ in range(count)]


def our_writer(model: Llama, tokenizer: Tokenizer) -> Write:
    """Return what writes with our model; no id ends a text."""
    writer = TextWriter(Engine.alone(model), tokenizer, first_id=FIRST_ID, end_ids=(), batch_size=BATCH)

    def write(prompts: list[list[int]], count: int) -> list[list[int]]:
        return [text.tokens for text in writer.write_ids(prompts, GenerationOptions(count))]

    return write


def peer_writer(model: Llama, folder: Path) -> Write | None:
    """Return what writes with transformers and the same weights, or None where it is not installed."""
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        return None
    save_model(model.state_dict(), model.architecture, folder, dtype=torch.float32, bos_id=FIRST_ID, eos_id=2)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().to(model.head_weight.device)
    theirs.generation_config.eos_token_id = None

    def write(prompts: list[list[int]], count: int) -> list[list[int]]:
        width = max(map(len, prompts))
        rows = [[PADDING_ID] * (width - len(prompt)) + [FIRST_ID, *prompt] for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * (len(prompt) + 1) for prompt in prompts]
        with torch.inference_mode():
            out = theirs.generate(
                torch.tensor(rows, device=theirs.device),
                attention_mask=torch.tensor(mask, device=theirs.device),
                max_new_tokens=count,
                do_sample=False,
                pad_token_id=PADDING_ID,
            )
        return out[:, width + 1 :].tolist()

    return write


def compared(
    name: str, shape: Architecture, *, tokens: int, repetitions: int, device: torch.device
) -> list[Comparison]:
    """Measure one model with one prompt and with many.

    Raises:
        ValueError: the two sides write different tokens.
    """
    model = Llama(shape).to(device).eval()
    model.init_weights(seed=0)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = our_writer(model, tokenizer=None), peer_writer(model, Path(folder))  # type: ignore[arg-type]
        for count in (1, BATCH):
            prompts, texts = some_prompts(count), []

            def run(write: Write, prompts: list[list[int]] = prompts, texts: list[list[list[int]]] = texts) -> None:
                texts.append(write(prompts, tokens))

            rates = alternate(
                lambda _, run=run: run(ours),
                None if peer is None else lambda _, run=run: run(peer),
                repetitions=repetitions,
                amount=count * tokens,
            )
            case = f"{name} model, {'one text' if count == 1 else f'{count} texts'}"
            if any(each != texts[0] for each in texts):
                raise ValueError(f"{case}: the two sides write different tokens")
            lines.append(Comparison(case, *rates, peer_name(), "tokens/s"))
    return lines


def peer_name() -> str:
    """Return transformers with its version, where it is installed."""
    try:
        import transformers
    except ImportError:
        return "transformers"
    return f"transformers {transformers.__version__}"


def main() -> int:
    """Measure both models; the exit status says whether both sides wrote the same."""
    arguments, device = torch_arguments(__doc__ or "")
    quick = arguments.quick
    try:
        lines = [
            *compared("small", SMALL, tokens=32 if quick else 128, repetitions=3 if quick else 11, device=device),
            *compared("large", LARGE, tokens=8 if quick else 32, repetitions=1 if quick else 5, device=device),
        ]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(lines, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
