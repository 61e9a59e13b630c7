"""How texts are to be written, and what comes out."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from megatron.generate.sampling import Sampling


@dataclasses.dataclass(frozen=True)
class GenerationOptions:
    """How texts are written.

    Attributes:
        maximum_tokens: most new tokens of a text.
        stop: a text ends before the first of these strings.
        sampling: how each token is chosen; greedy by default.
        seed: of random choices. Text ``k`` of a call depends on ``seed + k`` and its prompt alone.

    Raises:
        ValueError: there are to be no tokens, or a stop string is empty.
    """

    maximum_tokens: int
    stop: tuple[str, ...] = ()
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        if self.maximum_tokens < 1:
            problems.append(f"maximum_tokens = {self.maximum_tokens} must be at least 1")
        if "" in self.stop:
            problems.append("a stop string is empty, which every text would end before; leave it out")
        if problems:
            raise ValueError("; ".join(problems))


class Written(NamedTuple):
    """What a model wrote after a prompt.

    Attributes:
        text: the new text, without the string that ended it.
        num_tokens: how many tokens were made for it, without the one that ended it.
        stop_reason: ``end`` when the model ended the text, ``stop`` at a stop string, ``length`` when it was cut off.
    """

    text: str
    num_tokens: int
    stop_reason: str
