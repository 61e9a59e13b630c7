"""Keeps what a run scores: the main process of a layout finds what is there and writes what is new, the others wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from megatron.evaluation.results import ResultsFolder, Score
from megatron.parallel.process import Peers
from megatron.utils.log import get_logger

logger = get_logger(__name__)


class Keeper:
    """Finds and keeps scores; every process of a layout calls the same methods in the same order.

    Args:
        results: None in processes that are not the main one, or where nothing is to be kept.
        peers: the processes.
    """

    def __init__(self, results: ResultsFolder | None, peers: Peers) -> None:
        self._results, self._peers = results, peers

    def there(self, wanted: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[list[Score] | None]:
        """Return of each benchmark, language and settings the score that is there.

        Returns:
            None for one that is to be made; else the score, and nothing in processes that are not the main one.
        """
        results = self._results
        found = self._peers.from_main(lambda: [results is not None and results.has(*each) for each in wanted])
        if any(found) and self._peers.is_main:
            logger.info("%d of %d scores are there already", sum(found), len(found))
        known = {} if results is None else {(score.benchmark, score.language): score for score in results.scores()}
        return [
            [score for score in [known.get((benchmark, language))] if score is not None] if is_there else None
            for (benchmark, language, _), is_there in zip(wanted, found, strict=True)
        ]

    def keep(self, make: Callable[[], tuple[Score, Iterable[Mapping[str, Any]]]]) -> list[Score]:
        """Keep a score and its items, which only the main process makes; return it there, and nothing in the others.

        What fails in the main process ends the others too, and does not leave them waiting.
        """
        kept: list[Score] = []

        def make_and_keep() -> None:
            score, items = make()
            kept.append(score if self._results is None else self._results.add(score, items))

        self._peers.from_main(make_and_keep)
        return kept
