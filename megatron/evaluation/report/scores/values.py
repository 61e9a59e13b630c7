"""What the report of scores is about: the values of models on benchmarks, joined by language and never by position."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from megatron.evaluation.report.scores.trials import Trial
from megatron.evaluation.results import LOSSY
from megatron.monitor.summary import LAST_TIERS

UNMAPPED = "unmapped"
"""Tier of a language that the file of tiers does not know."""
NO_SCRIPT = "no script"

_ENGLISH = "eng_Latn"


@dataclasses.dataclass(frozen=True)
class Language:
    """A language, or a pair of two, as the benchmarks name it.

    Attributes:
        code: corpus code, ``xxx_Ssss``, or of a pair ``xxx_Ssss-yyy_Ssss``.
        tier: by the size of its training text; :data:`UNMAPPED` where that is not known.
        source: what kinds of text were trained on; empty where that is not known.
        tokens: of training text; None where that is not known.
    """

    code: str
    tier: str = UNMAPPED
    source: str = ""
    tokens: int | None = None

    @property
    def script(self) -> str:
        """ISO 15924 code of the script; of a pair with English that of the other side."""
        _, found, script = subject_of(self.code).rpartition("_")
        return script if found and len(script) == 4 else NO_SCRIPT


@dataclasses.dataclass(frozen=True)
class Row:
    """One language.

    Attributes:
        language: that it is about.
        values: one for each model, not a number where it has none.
        flags: of each model's score.
        items: how many texts or questions each model's value is of; 0 where that is not known, as in published tables.
    """

    language: Language
    values: tuple[float, ...]
    flags: tuple[frozenset[str], ...]
    items: tuple[int, ...] = ()

    @property
    def all_flags(self) -> list[str]:
        """Every flag that the language has with any model, sorted."""
        return sorted(frozenset().union(*self.flags))


@dataclasses.dataclass(frozen=True)
class Table:
    """One metric of one benchmark: a row for each language that any model has, sorted by code.

    Attributes:
        benchmark: its name.
        metric: its name.
        is_main: whether the metric stands for the benchmark.
        higher_is_better: whether larger values are better.
        is_loss: whether values are compared by their ratio, and not by their difference.
        rows: of all languages.
    """

    benchmark: str
    metric: str
    is_main: bool
    higher_is_better: bool
    is_loss: bool
    rows: tuple[Row, ...]

    @functools.cached_property
    def present(self) -> list[int]:
        """The models that have any value, as places in the rows."""
        count = len(self.rows[0].values) if self.rows else 0
        return [model for model in range(count) if any(math.isfinite(row.values[model]) for row in self.rows)]

    @functools.cached_property
    def item_counts(self) -> list[int]:
        """The numbers of items of all languages and models, ascending, each once; empty where none is known."""
        return sorted({count for row in self.rows for count in row.items if count})

    @functools.cached_property
    def largest(self) -> float:
        """The largest value of any model in any language, its sign aside."""
        return max((abs(value) for row in self.rows for value in row.values if math.isfinite(value)), default=0.0)

    def is_usable(self, row: Row, models: Sequence[int]) -> bool:
        """Return whether these models have a value that can be compared: finite, not lossy, and no loss of 0."""
        return bool(models) and all(
            math.isfinite(row.values[model])
            and LOSSY not in row.flags[model]
            and (row.values[model] > 0 or not self.is_loss)
            for model in models
        )

    def compared(self, models: Sequence[int] | None = None) -> list[Row]:
        """Return the rows in which these models can be compared; by default all that are :attr:`present`."""
        chosen = self.present if models is None else models
        return [row for row in self.rows if self.is_usable(row, chosen)]

    def change(self, row: Row, model: int) -> float:
        """Return how a model differs from the base: the log of the ratio for losses, else the difference."""
        base, value = row.values[0], row.values[model]
        if not self.is_loss:
            return value - base
        return math.log(value / base) if value > 0 and base > 0 else math.nan

    def is_better(self, change: float) -> bool:
        """Return whether a change is for the better."""
        return change > 0 if self.higher_is_better else change < 0

    def is_worse(self, change: float) -> bool:
        """Return whether a change is for the worse."""
        return change < 0 if self.higher_is_better else change > 0


@dataclasses.dataclass(frozen=True)
class Model:
    """A model.

    Attributes:
        name: on the page.
        origin: the name of the file or folder that its values come from, the first of several.
        facts: what is known of it.
        folders: of results, all of them; none where its values come from published tables only.
    """

    name: str
    origin: str
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    folders: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Everything on the page.

    Attributes:
        models: the first is the base, which the others are compared with.
        tables: by benchmark, the main metric of each first.
        tiers: in their order, :data:`UNMAPPED` last; empty where no language has one.
        tiers_origin: the name of the file of tiers; empty where none was given.
        notes: what a reader must know of a benchmark, such as settings that differ between models.
        ignored: what was found in tables and is no language, with its count.
        other_scripts: codes without a tier, with the codes of the same language that have one.
        trials: scores that are of the first items only.
    """

    models: tuple[Model, ...]
    tables: tuple[Table, ...]
    tiers: tuple[str, ...] = ()
    tiers_origin: str = ""
    notes: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    ignored: Mapping[str, int] = dataclasses.field(default_factory=dict)
    other_scripts: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    trials: Sequence[Trial] = ()

    @property
    def names(self) -> list[str]:
        """Names of the models."""
        return [model.name for model in self.models]

    @property
    def main_tables(self) -> list[Table]:
        """Every benchmark's table of its main metric."""
        return [table for table in self.tables if table.is_main]

    def metrics_of(self, benchmark: str) -> list[Table]:
        """Return the tables of one benchmark, the main metric first."""
        return [table for table in self.tables if table.benchmark == benchmark]


def first_tier(tiers: Sequence[str]) -> str | None:
    """Return the tier whose languages must not get worse: the first that is one; languages without one have none."""
    return next((name for name in tiers if name != UNMAPPED and name not in LAST_TIERS), None)


def subject_of(code: str) -> str:
    """Return the language that a code is about: of a pair with English the other side, else the code itself."""
    sides = [side for side in code.split("-") if side != _ENGLISH]
    return sides[0] if len(sides) == 1 else code
