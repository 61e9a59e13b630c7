"""What the flags of scores say, in words: one note for each flag of a benchmark, with counts of languages and items."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from megatron.evaluation.results import LOSSY, Score

_COUNTED = re.compile(r"([a-z_-]+)=(\d{1,12})")
_MEANINGS = {
    "contaminated": "texts of this benchmark may be in the training text, so values may be too good",
    "shots_left_out": "examples that there was no room for in the prompts",
    "texts_shortened": "prompts whose text was shortened to fit the model",
    "queries_cut": "prompts whose beginning was cut off to fit the model",
    "shortened": "prompts whose beginning was cut off to fit the model",
    "unpaired": "items left out, since the other side has none of the same id",
    "network-reachable": "programs that were judged could reach the network",
    "files-writable": "programs that were judged could write files",
    "processes-reachable": "programs that were judged could reach other processes",
}
# What has notes of its own.
_TOLD = (LOSSY, "limit")
_MOST_SHOWN = 20


def flag_notes(columns: Sequence[Mapping[str, Score]], names: Sequence[str]) -> list[str]:
    """Return a sentence for every flag of a benchmark: with which models, in how many languages, how often.

    Args:
        columns: of each model, its scores by language.
        names: of the models.
    """
    found: dict[str, dict[str, list[int]]] = {}
    for name, column in zip(names, columns, strict=True):
        for score in column.values():
            for flag, count in _counts(score).items():
                found.setdefault(flag, {}).setdefault(name, []).append(count)
    sizes = dict(zip(names, map(len, columns), strict=True))
    told = [_sentence(flag, by_model, sizes) for flag, by_model in sorted(found.items()) if flag not in _TOLD]
    more = [f"{len(told) - _MOST_SHOWN:,} more flags are in the table of all languages."]
    return told if len(told) <= _MOST_SHOWN else [*told[:_MOST_SHOWN], *more]


def parity_notes(columns: Sequence[Mapping[str, Score]]) -> list[str]:
    """Say how information parity is to be read, where a benchmark is of that."""
    scores = [score for column in columns for score in column.values() if score.main == "information_parity"]
    found = {str(score.settings.get("parity_with", "")) for score in scores}
    references = sorted(found - {""})
    if not references:
        return []
    told = " or ".join(references)
    return [
        f"Information parity: nats of the texts in {told} over nats of the same texts in a language. 1 is as well as "
        f"{told}, lower is worse. It also rises where a model gets worse in {told}: read it beside bits per byte. "
        f"{told} itself is 1 with every model and counts in the means."
    ]


def _counts(score: Score) -> dict[str, int]:
    """Return the flags of a score, each with its count; one that has none counts 0."""
    found = {}
    for flag in score.flags:
        match = _COUNTED.fullmatch(flag)
        found[match[1] if match else flag] = int(match[2]) if match else 0
    return found


def _sentence(flag: str, by_model: Mapping[str, Sequence[int]], sizes: Mapping[str, int]) -> str:
    by_count: dict[str, list[str]] = {}
    for name, counts in by_model.items():
        sums = f", {sum(counts):,} in all" if any(counts) else ""
        by_count.setdefault(f"in {len(counts):,} of {sizes[name]:,} languages{sums}", []).append(name)
    where = "; ".join(f"{', '.join(names)} {told}" for told, names in by_count.items())
    meaning = f" ({_MEANINGS[flag]})" if flag in _MEANINGS else ""
    return f"{flag}{meaning}: {where}."
