"""What evaluation asks of a model: how likely a text is, and how it would go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from megatron.generate.options import GenerationOptions, Written
from megatron.tokenizer.base import Tokenizer


class Request(NamedTuple):
    """A text in two parts.

    Attributes:
        context: ids that are given, without the one that begins a text; when they are too many, the first are left out.
        continuation: ids whose likelihood is asked for; at least one.
    """

    context: Sequence[int]
    continuation: Sequence[int]


class Likelihood(NamedTuple):
    """How likely a continuation is.

    Attributes:
        nats: minus its log-probability, summed over all of its tokens.
        is_greedy: whether each of its tokens is the most likely one.
    """

    nats: float
    is_greedy: bool


class LanguageModel(Protocol):
    """A model with its tokenizer; every process of a layout calls the same methods with the same arguments.

    Attributes:
        tokenizer: turns text into ids; adds neither the id that begins a text nor the one that ends it.
        max_tokens: of a whole text with the id that begins it: the longest that the model has positions for.
        is_main: whether this process is the one that writes results.
    """

    tokenizer: Tokenizer
    max_tokens: int
    is_main: bool

    def likelihoods(self, requests: Sequence[Request]) -> list[Likelihood]:
        """Return the likelihood of every continuation, in the order of the requests."""
        ...

    def write(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> list[Written]:
        """Continue prompts of any lengths, given as ids without the one that begins a text; in their order.

        Raises:
            ValueError: a prompt and its new tokens are more than the model has positions for.
        """
        ...
