"""Chooses the next token from logits."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the default is greedy.

    Attributes:
        temperature: divides the logits; 0 takes the most likely token.
        top_k: keep the ``top_k`` most likely tokens; 0 keeps all.
        top_p: keep the fewest tokens that hold this much probability (Holtzman et al., arXiv 1904.09751); 0 or 1 keeps
            all.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 0.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 <= self.top_p <= 1:
            raise ValueError(
                f"temperature = {self.temperature} and top_k = {self.top_k} must not be negative, "
                f"top_p = {self.top_p} must be from 0 to 1"
            )


def choose(logits: Tensor, sampling: Sampling, *, generator: torch.Generator | None = None) -> Tensor:
    """Return one token id for each row of ``logits``: float ``[rows, vocabulary]`` to int64 ``[rows]``."""
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits.float() / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        lowest = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < lowest, -torch.inf)
    if 0 < sampling.top_p < 1:
        ordered, places = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(dim=-1)
        # Drop a token when those before it already hold top_p; the first one always stays.
        drop = probabilities.cumsum(dim=-1) - probabilities >= sampling.top_p
        logits = logits.masked_fill(drop.gather(-1, places.argsort(dim=-1)), -torch.inf)
    return torch.multinomial(logits.softmax(dim=-1), num_samples=1, generator=generator).squeeze(-1)
