"""Right or wrong: accuracy, macro F1 of labels, and exact match of texts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from megatron.evaluation.metrics.texts import Texts, answered


def accuracy(texts: Texts) -> float:
    """Return the share of items whose output is a right answer, 0..1; compared character by character."""
    return _share(texts, lambda output, answers: output in answers)


def exact_match(texts: Texts) -> float:
    """Return the share of items whose output is a right answer but for blanks at both ends, 0..1.

    Nothing else is forgiven: neither case nor punctuation nor another Unicode normal form.
    """
    return _share(texts, lambda output, answers: output.strip() in {answer.strip() for answer in answers})


def macro_f1(texts: Texts) -> float:
    """Return the mean over labels of their F1, 0..1, as scikit-learn's ``f1_score(average="macro")`` does.

    Labels are all that occur as an output or as a right answer; one that is never right counts as 0. Of several right
    answers the output counts as the one that it is, else the first.
    """
    right: Counter[str] = Counter()
    chosen: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    for output, answers in answered(texts):
        label = output if output in answers else answers[0]
        right[output] += output == label
        chosen[output] += 1
        wanted[label] += 1
    labels = {*chosen, *wanted}
    scores = [2 * right[label] / (chosen[label] + wanted[label]) for label in labels]
    return math.fsum(scores) / len(scores) if scores else math.nan


def _share(texts: Texts, is_right: Callable[[str, list[str]], bool]) -> float:
    items = answered(texts)
    return sum(is_right(output, answers) for output, answers in items) / len(items) if items else math.nan
