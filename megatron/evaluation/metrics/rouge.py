"""ROUGE-L in any script.

Source: Lin, 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", the form of one longest common subsequence
over a whole text, with F1. It equals ``rougeL`` of Google's ``rouge_score`` with this project's tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from megatron.evaluation.metrics.texts import Texts, answered
from megatron.evaluation.metrics.tokens import tokenise


def rouge_l(texts: Texts) -> float:
    """Return the mean over items of ROUGE-L F1, 0..1; of several references the nearest counts."""
    scores = []
    for output, references in answered(texts):
        tokens = tokenise(output)
        scores.append(max(f_measure(tokens, tokenise(reference)) for reference in references))
    return math.fsum(scores) / len(scores) if scores else math.nan


def f_measure(output: Sequence[str], reference: Sequence[str]) -> float:
    """Return the F1 of precision and recall of the longest common subsequence; 0 when a side has no tokens."""
    common = longest_common_subsequence(output, reference)
    return 2 * common / (len(output) + len(reference)) if common else 0.0


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many tokens the longest common subsequence of two texts has.

    Bit-parallel (Hyyrö, 2004, "Bit-parallel LCS-length computation revisited"): a row of the usual table is one
    integer, whose zeros are the places where the row goes up by one.
    """
    places: dict[str, int] = {}
    for place, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << place
    everywhere = (1 << len(first)) - 1
    row = everywhere
    for token in second:
        matches = row & places.get(token, 0)
        row = (row + matches | row - matches) & everywhere
    return len(first) - row.bit_count()
