"""Whether one of k programs is right."""

from __future__ import annotations


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Return how likely one of ``k`` programs is right, 0..1, when ``num_correct`` of ``num_samples`` were.

    The unbiased estimator 1 - C(n - c, k) / C(n, k) of Chen et al., 2021 (arXiv 2107.03374), as a product, which
    cannot overflow. Of a benchmark take the mean over its tasks.

    Raises:
        ValueError: the numbers contradict each other.
    """
    if not 0 <= num_correct <= num_samples:
        raise ValueError(f"num_correct must be from 0 to num_samples ({num_samples}), not {num_correct}")
    if not 1 <= k <= num_samples:
        raise ValueError(f"k must be from 1 to num_samples ({num_samples}), not {k}: sample more programs")
    all_wrong = 1.0
    for wrong in range(num_samples - num_correct + 1, num_samples + 1):
        all_wrong *= max(0.0, 1 - k / wrong)
    return 1 - all_wrong
