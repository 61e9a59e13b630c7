"""Chooses the next token from logits."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

_CANDIDATES = 1024
"""How many of the most likely tokens are looked at for ``top_p``, before all of them are put into order."""


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

    @property
    def is_random(self) -> bool:
        """Whether chance has a say."""
        return self.temperature > 0


def choose(logits: Tensor, sampling: Sampling, *, uniform: Tensor | None = None) -> Tensor:
    """Return one token id for each row of ``logits``, int64 ``[rows]``.

    Args:
        logits: float ``[rows, vocabulary]``.
        sampling: how to choose.
        uniform: a random number of each row, from 0 up to 1, float64 ``[rows]``: its choice depends on nothing else.
            Not needed for greedy choices.
    """
    if not sampling.is_random:
        return logits.argmax(dim=-1)
    assert uniform is not None, "random choices need random numbers"
    logits = logits.float() / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        values, tokens = logits.topk(sampling.top_k, dim=-1)
        place = _drawn(_nucleus(values.softmax(dim=-1), sampling.top_p), uniform)
    elif 0 < sampling.top_p < 1:
        probabilities, tokens = _likeliest(logits, sampling.top_p)
        place = _drawn(_nucleus(probabilities, sampling.top_p), uniform)
    else:
        return _drawn(logits.softmax(dim=-1), uniform)
    return tokens.gather(-1, place.unsqueeze(-1)).squeeze(-1)


def _likeliest(logits: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Return probabilities and ids of tokens in falling order, as many as hold ``top_p`` in every row, or more."""
    whole = logits.logsumexp(dim=-1, keepdim=True)
    if logits.shape[-1] > _CANDIDATES:
        # To put all tokens into order takes many times as long, and is hardly ever needed.
        values, tokens = logits.topk(_CANDIDATES, dim=-1)
        probabilities = (values - whole).exp()
        if (probabilities.cumsum(dim=-1)[:, -1] >= top_p).all():
            return probabilities, tokens
    values, tokens = logits.sort(dim=-1, descending=True)
    return (values - whole).exp(), tokens


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Drop a token when those before it, in falling order, already hold ``top_p``; the first one always stays."""
    if not 0 < top_p < 1:
        return probabilities
    return probabilities.masked_fill(probabilities.cumsum(dim=-1) - probabilities >= top_p, 0.0)


def _drawn(weights: Tensor, uniform: Tensor) -> Tensor:
    """Return the place in each row where the weights up to it first pass the row's share of all of them."""
    # Single precision could not tell the tokens of a large vocabulary apart.
    ends = weights.cumsum(dim=-1, dtype=torch.float64)
    wanted = uniform.unsqueeze(-1) * ends[:, -1:]
    return torch.searchsorted(ends, wanted, right=True).squeeze(-1).clamp_(max=weights.shape[-1] - 1)
