"""What likelihoods of texts and of labels come to, in units that do not depend on the tokenizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class TextScore(NamedTuple):
    """How likely a text is.

    Attributes:
        nats: minus its log-probability, after the id that begins a text.
        bytes: of the text in UTF-8, as it was given.
        characters: code points.
        tokens: ids that it is written with.
        lossless: whether the ids give the text back.
    """

    nats: float
    bytes: int
    characters: int
    tokens: int
    lossless: bool


TEXT_METRICS = ("bits_per_byte", "bits_per_character", "bytes_per_token", "lossy", "nats", "bytes", "tokens")
"""Names of what :func:`text_metrics` returns."""


def text_metrics(scores: Sequence[TextScore]) -> dict[str, float]:
    """Return what a language's texts come to.

    Returns:
        ``bits_per_byte`` and ``bits_per_character`` over all texts together (no mean of means), ``bytes_per_token``,
        ``lossy`` (the share of texts that the tokenizer cannot write), and the sums ``nats``, ``bytes`` and ``tokens``.
    """
    nats = math.fsum(score.nats for score in scores)
    num_bytes, characters, tokens = (sum(score[field] for score in scores) for field in (1, 2, 3))
    return {
        "bits_per_byte": ratio(nats / math.log(2), num_bytes),
        "bits_per_character": ratio(nats / math.log(2), characters),
        "bytes_per_token": ratio(num_bytes, tokens),
        "lossy": ratio(sum(not score.lossless for score in scores), len(scores)),
        "nats": nats,
        "bytes": num_bytes,
        "tokens": tokens,
    }


def information_parity(reference: Sequence[float], other: Sequence[float]) -> float:
    """Return how much likelier a model finds the reference than the same said in another language.

    Tsvetkov and Kipnis, Information Parity (Findings of EMNLP 2024): the nats of the reference over those of the other,
    of sentences that mean the same. 1 is as well as the reference, usually English; lower is worse.

    Args:
        reference: nats of each sentence.
        other: of the same sentences, in the same order.

    Raises:
        ValueError: they are not equally many.
    """
    if len(reference) != len(other):
        raise ValueError(
            f"{len(reference)} sentences of the reference stand against {len(other)}; parity is of aligned sentences"
        )
    return ratio(math.fsum(reference), math.fsum(other))


def ratio(value: float, of: float) -> float:
    """Return a quotient; not a number where there is nothing to divide by."""
    return value / of if of else math.nan
