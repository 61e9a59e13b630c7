"""Which way metrics are better, and which are losses, by their names. A benchmark says that of its main metric only."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LOSSES = (
    "nll", "bits_per", "answer_bits_per", "nats_per", "bpb", "bpc", "perplexity", "byte_perplexity", "word_perplexity",
    "loss",
)  # fmt: skip
_LOWER = (
    *_LOSSES, "self_bleu", "repetition", "empty_rate", "off_target_rate", "lossy", "brier_score", "ter", "wer", "cer",
)  # fmt: skip
_HIGHER = (
    "acc", "accuracy", "exact_match", "macro_f1", "f1", "bleu", "chrf", "spbleu", "rouge", "bertscore", "pass",
    "distinct", "information_parity", "bytes_per_token",
)  # fmt: skip


def known_direction(metric: str) -> bool | None:
    """Return whether larger values of a metric are better; None where its name says nothing, or names no metric.

    Beside metrics results hold counts (``tokens``) and standard errors (``acc_stderr``), which no model is better in.
    """
    if metric.endswith("_stderr"):
        return None
    if _begins_with(metric, _LOWER):
        return False
    return True if _begins_with(metric, _HIGHER) else None


def is_loss(metric: str) -> bool:
    """Return whether a metric is compared by its ratio: what a model needs per text, byte or token to write it."""
    return _begins_with(metric, _LOSSES)


def _begins_with(metric: str, words: Sequence[str]) -> bool:
    """Return whether a name begins with one of the words: ``acc_norm`` with ``acc``, ``terms`` not with ``ter``."""
    return any(re.match(rf"{re.escape(word)}(?![a-z])", metric.lower()) for word in words)
