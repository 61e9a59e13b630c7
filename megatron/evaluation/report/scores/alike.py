"""Whether the models were scored alike: settings and numbers of items that differ make scores incomparable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from megatron.evaluation.results import Score

_MOST_CHARACTERS = 60


def unlike_settings(columns: Sequence[Mapping[str, Score]], names: Sequence[str]) -> list[str]:
    """Return a sentence for every setting in which a model's scores of one benchmark differ from the base's.

    Args:
        columns: of each model, its scores by language; the first is the base. A score without settings is passed over:
            published tables have none.
        names: of the models.
    """
    base, sentences = columns[0], []
    for name, column in zip(names[1:], columns[1:], strict=True):
        differing: dict[str, list[tuple[Any, Any]]] = {}
        for language in sorted(base.keys() & column.keys()):
            for key, pair in _differences(base[language], column[language]):
                differing.setdefault(key, []).append(pair)
        for key, pairs in differing.items():
            first, other = (_short(value) for value in pairs[0])
            sentences.append(
                f"{name} was not scored like {names[0]}: {key} differs in {len(pairs):,} "
                f"language{'s' if len(pairs) > 1 else ''} ({first} there, here {other})."
            )
    return sentences


def _differences(base: Score, other: Score) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if not base.settings or not other.settings:
        return
    first, second = ({**score.settings, "the number of items": score.items} for score in (base, other))
    for key in sorted({*first, *second}):
        if first.get(key) != second.get(key):
            yield key, (first.get(key), second.get(key))


def _short(value: Any) -> str:
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"
