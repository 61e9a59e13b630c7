"""What lm-evaluation-harness returns, as our metrics and items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a task by our names, standard errors among them.

    ``acc,none`` is ``acc``, ``acc_stderr,none`` is ``acc_stderr``, and ``exact_match,strict-match`` is
    ``exact_match_strict_match``.
    """
    found = {}
    for key, value in result.items():
        metric, comma, filtered = key.partition(",")
        if comma and isinstance(value, int | float):
            found[_name(metric, filtered)] = float(value)
    return found


def _name(metric: str, filtered: str) -> str:
    """Return our name of a metric after a filter; a standard error says so at its end."""
    base, is_error = metric.removesuffix("_stderr"), metric.endswith("_stderr")
    named = base if filtered == "none" else f"{base}_{filtered.replace('-', '_')}"
    return f"{named}_stderr" if is_error else named


def items_of(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one record for each question: what was asked, what came out, what it counts.

    Args:
        samples: of lm-evaluation-harness, one for each question and filter.
    """
    items: dict[int, dict[str, Any]] = {}
    for sample in samples:
        item = items.setdefault(sample["doc_id"], _asked(sample))
        if "outputs" in item:
            item["answers"][sample["filter"]] = sample["filtered_resps"][0]
        for metric in sample["metrics"]:
            item["metrics"][_name(metric, sample["filter"])] = sample[metric]
    return [items[number] for number in sorted(items)]


def _asked(sample: Mapping[str, Any]) -> dict[str, Any]:
    item: dict[str, Any] = {"number": sample["doc_id"], "target": sample["target"], "metrics": {}}
    prompts = [arguments[0] for arguments in sample["arguments"]]
    if isinstance(sample["arguments"][0][1], Mapping):
        return {**item, "prompt": prompts[0], "outputs": list(sample["resps"][0]), "answers": {}}
    # Where the choice is a part of the prompt, there are several of them.
    return {
        **item,
        "prompt": prompts[0] if len(set(prompts)) == 1 else prompts,
        "choices": [arguments[1] for arguments in sample["arguments"]],
        "log_likelihoods": [responses[0][0] for responses in sample["resps"]],
        "greedy": [responses[0][1] for responses in sample["resps"]],
    }
