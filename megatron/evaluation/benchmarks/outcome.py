"""What the benchmark of one language comes to, whatever its kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.evaluation.benchmarks.data import Record
from megatron.evaluation.benchmarks.prompts import Prompt
from megatron.evaluation.benchmarks.scoring import Item, score_items
from megatron.evaluation.metrics.registry import MetricSettings


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What a run decides for all of its benchmarks.

    Attributes:
        limit: so many of the first items of each language only; None for all.
        seed: of shots, and of sampling where a definition samples.
        metrics: what some metrics need besides texts.
    """

    limit: int | None = None
    seed: int = 0
    metrics: MetricSettings = dataclasses.field(default_factory=MetricSettings)

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit = {self.limit} is below 1; leave it out for all items")

    def first(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return the records that are asked about."""
        return records if self.limit is None else records[: self.limit]


class Outcome(NamedTuple):
    """Scores of one benchmark in one language.

    Attributes:
        metrics: values by name.
        main: the metric that stands for the benchmark.
        higher_is_better: whether larger values of it are better.
        items: one record for each item: what was asked, what came out, what it counts.
        flags: what a reader must know.
    """

    metrics: Mapping[str, float]
    main: str
    higher_is_better: bool
    items: Sequence[Mapping[str, Any]]
    flags: tuple[str, ...] = ()


def outcome_of(
    benchmark: BenchmarkConfig, language: str, items: Sequence[Item], flags: tuple[str, ...], settings: MetricSettings
) -> Outcome:
    """Return what items that a model has answered come to (see :func:`score_items`)."""
    return Outcome(*score_items(benchmark, language, items, settings), flags)


Finish = Callable[[], Outcome]
"""Makes an outcome of a model's answers, which takes no model any more: only the main process calls it."""


def prompt_flags(prompts: Sequence[Prompt]) -> tuple[str, ...]:
    """Say what did not fit into the model's positions, with counts."""
    counts = {
        "shots_left_out": sum(prompt.shots_left_out for prompt in prompts),
        "texts_shortened": sum(prompt.shortened > 0 for prompt in prompts),
        "queries_cut": sum(prompt.cut_tokens > 0 for prompt in prompts),
    }
    return tuple(f"{name}={count}" for name, count in counts.items() if count)


def prompt_fields(prompt: Prompt) -> dict[str, Any]:
    """Return what an item says of its prompt."""
    fields = prompt._asdict()
    del fields["ids"]
    return {"prompt": fields.pop("text"), **{name: value for name, value in fields.items() if value}}
