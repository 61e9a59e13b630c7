"""How sure the change of one language is, and that of a group: documents are drawn again, and languages with them.

The intervals of single languages are percentiles, at :func:`level_of` their documents, of the change of documents drawn
with replacement, the same for both models; those of groups draw languages anew, too. Draws are made once for all of the
models, and for all languages with equally many documents. Source of the paired form: Koehn, 2004, "Statistical
Significance Tests for Machine Translation Evaluation".
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from megatron.evaluation.report.scores.documents import OTHER_DOCUMENTS, Documents, read_documents
from megatron.evaluation.report.scores.values import Row, Table

RESAMPLES = 1000
"""How often documents, languages or both are drawn again for an interval."""
LEAST_DOCUMENTS = 6
"""With fewer documents a language is never sure: even if all agree, that is chance once in 16 times (2 / 2⁵)."""

_ENDS = (0.025, 0.975)
# Most numbers of draws kept, and most made at a time: 4 MiB each; so many are kept.
_DRAWN_ITEMS = 1 << 19
_MOST_KEPT = 16


@dataclasses.dataclass(frozen=True)
class Own:
    """The 95% interval of one language's change with one model, over its documents, paired with the base's.

    Attributes:
        low: lower end, as :meth:`Table.change`; not a number with a single document.
        high: upper end.
        documents: number of them.
    """

    low: float
    high: float
    documents: int

    @property
    def sign(self) -> int:
        """1 where the interval is above no change, -1 where it is below; 0 where it is not decided."""
        if self.documents < LEAST_DOCUMENTS:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


@dataclasses.dataclass(frozen=True)
class Intervals:
    """What the items of one benchmark say of its main metric.

    Attributes:
        own: of single languages, by code and model.
        without: of each model that has results besides published tables, why how many languages have none.
    """

    own: Mapping[tuple[str, int], Own]
    without: Mapping[int, Mapping[str, int]]
    _drawn: Mapping[tuple[str, int], NDArray[np.float32]] = dataclasses.field(default_factory=dict, repr=False)

    def of_group(self, codes: Sequence[str], model: int) -> tuple[float, float] | None:
        """Return the interval of the mean change over languages, drawing these and their documents.

        Returns:
            Its ends, not numbers with a single language; None where a language has no items, or there is none.
        """
        drawn = [self._drawn.get((code, model)) for code in codes]
        known = [each for each in drawn if each is not None]
        if not known or len(known) < len(drawn):
            return None
        return (math.nan, math.nan) if len(known) == 1 else _over_languages(np.stack(known))


def level_of(documents: int) -> float:
    """Return the level at which percentiles of draws of so many documents make an interval of 95%.

    Few documents vary less than what they are of, so their percentiles lie too close together: with 7 documents one
    language in 7 would look changed where nothing is. Source: Hesterberg, 2015, "What Teachers Should Know About the
    Bootstrap", expanded percentile intervals, which are as wide as those of Student's t.
    """
    freedom, z = documents - 1, NormalDist().inv_cdf(_ENDS[1])
    if freedom < 1:
        return _ENDS[1] - _ENDS[0]
    terms = (
        z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )  # fmt: skip
    # Quantile of Student's t by its series in 1 / freedom (Abramowitz and Stegun, 26.7.5).
    t = sum(term / freedom**power for power, term in enumerate(terms))
    # Beyond the outermost draws there is nothing.
    return min(1 - 2 * NormalDist().cdf(-t * math.sqrt(documents / freedom)), 1 - 2 / RESAMPLES)


def document_intervals(table: Table, folders: Sequence[Sequence[Path]]) -> Intervals:
    """Read the items of all models, language by language, and make the intervals of their changes.

    Args:
        table: of a main metric.
        folders: of each model, those that its results came from; none for published tables.

    Returns:
        Intervals of the languages whose items are kept, give the score, and are of the same documents as the base's.
    """
    own: dict[tuple[str, int], Own] = {}
    drawn: dict[tuple[str, int], NDArray[np.float32]] = {}
    without = {model: Counter[str]() for model in table.present if model and folders and folders[model]}
    draws = _Draws()
    for row in table.compared([0]) if folders and folders[0] and 0 in table.present else ():
        models = [model for model in without if table.is_usable(row, [model])]
        base = _documents(table, row, 0, folders) if models else None
        columns: dict[int, NDArray[np.float64]] = {}
        for model in models:
            read = base if isinstance(base, str) else _documents(table, row, model, folders)
            values = read.in_order_of(base) if isinstance(read, Documents) and isinstance(base, Documents) else None
            if values is not None:
                columns[model] = values
            else:
                without[model][read if isinstance(read, str) else OTHER_DOCUMENTS] += 1
        if columns and isinstance(base, Documents):
            changes = draws.changes(base.values, np.stack(list(columns.values())), is_loss=table.is_loss)
            alone = len(base.ids) == 1  # one document says nothing about others
            level = level_of(len(base.ids))
            quantiles = ((1 - level) / 2, (1 + level) / 2)
            ends = np.full((2, len(columns)), math.nan) if alone else np.quantile(changes, quantiles, axis=1)
            for place, model in enumerate(columns):
                key = (row.language.code, model)
                own[key] = Own(float(ends[0, place]), float(ends[1, place]), len(base.ids))
                drawn[key] = changes[place].astype(np.float32)
    return Intervals(own, {model: dict(reasons) for model, reasons in without.items()}, drawn)


def _documents(table: Table, row: Row, model: int, folders: Sequence[Sequence[Path]]) -> Documents | str:
    return read_documents(
        folders[model], table.benchmark, row.language.code, metric=table.metric, score=row.values[model]
    )


class _Draws:
    """Draws of documents: how often each was drawn, for numbers of documents that were asked for lately."""

    def __init__(self) -> None:
        self._kept: dict[int, NDArray[np.float64]] = {}

    def changes(
        self, base: NDArray[np.float64], models: NDArray[np.float64], *, is_loss: bool
    ) -> NDArray[np.float64]:
        """Return the change of each model with every draw, [models, resamples].

        Args:
            base: value of each document, [documents].
            models: likewise, [models, documents].
            is_loss: whether the change is the log of the ratio of the sums, else it is the mean difference.
        """
        columns = np.vstack([base, models]) if is_loss else models - base
        parts = [columns @ counts.T for counts in self._counts(len(base))]
        sums: NDArray[np.float64] = np.concatenate(parts, axis=1)
        return np.log(sums[1:] / sums[0]) if is_loss else sums / len(base)

    def _counts(self, documents: int) -> Iterator[NDArray[np.float64]]:
        """Yield how often each document was drawn, [resamples, documents], in pieces."""
        if documents in self._kept:
            yield self._kept[documents]
            return
        rng = np.random.default_rng(0)
        step = max(1, min(RESAMPLES, _DRAWN_ITEMS // documents))
        for start in range(0, RESAMPLES, step):
            rows = min(step, RESAMPLES - start)
            drawn = rng.integers(documents, size=(rows, documents)) + np.arange(rows)[:, None] * documents
            counts = np.bincount(drawn.ravel(), minlength=rows * documents).reshape(rows, documents).astype(np.float64)
            if rows == RESAMPLES:
                if len(self._kept) >= _MOST_KEPT:
                    self._kept.clear()
                self._kept[documents] = counts
            yield counts


def _over_languages(drawn: NDArray[np.float32]) -> tuple[float, float]:
    """Draw languages anew, each with one draw of its documents, [languages, resamples]; return the ends of the means.

    A language that is drawn twice brings two draws of its documents; so it does not matter that languages with equally
    many documents share theirs.
    """
    languages = len(drawn)
    rng = np.random.default_rng(0)
    means = np.empty(RESAMPLES)
    step = max(1, _DRAWN_ITEMS // languages)
    for start in range(0, RESAMPLES, step):
        shape = (min(step, RESAMPLES - start), languages)
        chosen = drawn[rng.integers(languages, size=shape), rng.integers(RESAMPLES, size=shape)]
        means[start : start + step] = chosen.mean(axis=1, dtype=np.float64)
    low, high = np.quantile(means, _ENDS)
    return float(low), float(high)
