"""What evaluation asks of a model: how likely a text is, and how it would go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from megatron.generate.sampling import Sampling
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


@dataclasses.dataclass(frozen=True)
class GenerationOptions:
    """How texts are written.

    Attributes:
        maximum_tokens: most new tokens of a text.
        stop: a text ends before the first of these strings.
        sampling: how each token is chosen; greedy by default.
        seed: of random choices. Text ``k`` of a call depends on ``seed + k`` and its prompt alone.
    """

    maximum_tokens: int
    stop: tuple[str, ...] = ()
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    seed: int = 0


class Written(NamedTuple):
    """What a model wrote after a prompt.

    Attributes:
        text: the new text, without the string that ended it.
        num_tokens: how many tokens were made for it.
        stop_reason: ``end`` when the model ended the text, ``stop`` at a stop string, ``length`` when it was cut off.
    """

    text: str
    num_tokens: int
    stop_reason: str


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
