"""Continues prompts token by token."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from megatron.generate.cache import KeyValueCache
from megatron.generate.sampling import Sampling, choose
from megatron.model.llama import Llama


@dataclasses.dataclass(frozen=True)
class Continuation:
    """What a model wrote after a prompt.

    Attributes:
        tokens: the new ids, without the one that ended the text.
        stop_reason: ``end`` when the model ended the text, ``length`` when it was cut off.
    """

    tokens: list[int]
    stop_reason: str


@torch.inference_mode()
def continue_prompt(
    model: Llama,
    prompt: Sequence[int],
    *,
    maximum_tokens: int,
    end_ids: Sequence[int],
    sampling: Sampling | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
) -> Continuation:
    """Continue one prompt until the model ends the text or ``maximum_tokens`` are written.

    Args:
        model: on any device.
        prompt: ids, at least one; the id that starts a text where nothing else is given.
        maximum_tokens: most new tokens.
        end_ids: ids that end a text.
        sampling: how to choose; greedy by default.
        seed: of the random choices; a text depends on nothing else.
        dtype: of keys and values; that of the weights by default.

    Raises:
        ValueError: the prompt is empty, or with the new tokens longer than the model's positions.
    """
    positions = model.model.rotation_cos.shape[0]
    if not prompt or len(prompt) + maximum_tokens > positions:
        raise ValueError(
            f"a prompt of {len(prompt)} tokens and {maximum_tokens} new ones must be 1 .. {positions} positions, "
            "the model's max_position_embeddings; shorten the prompt or maximum_tokens"
        )
    sampling = sampling or Sampling()
    weight = model.head_weight
    device = weight.device
    generator = torch.Generator(device=device).manual_seed(seed)
    cache = KeyValueCache(
        model.architecture,
        batch=1,
        capacity=len(prompt) + maximum_tokens,
        dtype=dtype or weight.dtype,
        device=device,
    )
    new: list[int] = []
    pending = torch.tensor([list(prompt)], device=device)
    while len(new) < maximum_tokens:
        logits = model(pending, first_position=cache.length, cache=cache, last_only=True)
        pending = choose(logits[:, -1], sampling, generator=generator).view(1, 1)
        token = int(pending.item())
        if token in end_ids:
            return Continuation(new, "end")
        new.append(token)
    return Continuation(new, "length")
