"""Which samples an optimizer step trains on: by what a run has recorded in its own folder, or by the configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from megatron.config.derive import derive_batch
from megatron.config.load import load
from megatron.config.schema import Config
from megatron.monitor.record import MetricsError, read_metrics


@dataclasses.dataclass(frozen=True)
class StepSamples:
    """The samples of one optimizer step.

    Attributes:
        number: of the step as ``metrics.jsonl`` counts: the first of a run is 1.
        samples: their numbers.
        origin: how this is known, for people.
    """

    number: int
    samples: range
    origin: str


class PlannedSteps:
    """The steps of a run that begins at sample 0 and whose batch never changes.

    Args:
        config: the configuration.
        processes: data-parallel processes; needed only where the configuration leaves the batch open.

    Raises:
        ValueError: the size of the batch is not known.
    """

    def __init__(self, config: Config, *, processes: int | None = None) -> None:
        self.config = config
        self.planned: Sequence[Mapping[str, Any]] = ()
        if config.batch.train_batch_size is not None:
            self.batch_size = config.batch.train_batch_size
        elif processes is not None:
            self.batch_size = derive_batch(config.batch, data_parallel_size=processes).global_size
        else:
            raise ValueError(
                "train_batch_size is not given, so the samples of a step depend on the number of data-parallel "
                "processes: give --processes, or --run to look it up"
            )

    def step(self, step: int) -> StepSamples:
        """Return the samples of a step: ``[(step - 1) x batch, step x batch)``.

        Raises:
            ValueError: there is no such step.
        """
        _check(step)
        first = (step - 1) * self.batch_size
        return StepSamples(step, range(first, first + self.batch_size), "planned from sample 0 on")


class RecordedSteps:
    """The steps of a run by its own folder: configuration and metrics. The batch may have changed in between.

    Args:
        folder: the ``save`` folder.
        config: the configuration, instead of the folder's own.

    Raises:
        MetricsError: it holds no metrics or no configuration, or the two do not belong together.
    """

    def __init__(self, folder: Path, config: Config | None = None) -> None:
        self._path = folder / "metrics.jsonl"
        events = read_metrics(self._path)
        self.config = _config_of(folder, events) if config is None else config
        plans = [event["rows"] for event in events if event["event"] == "mixture" and event.get("kind") == "planned"]
        #: Rows of the mixture that the run planned with when it was last started.
        self.planned: Sequence[Mapping[str, Any]] = plans[-1] if plans else ()
        self._start, self._tokens_per_step = 0, 0
        self._trained: dict[int, tuple[int, int]] = {}  # step -> tokens of the run after it, tokens of the step
        self._jumped: set[int] = set()  # steps after which samples were left out
        for event in events:
            if event["event"] == "start":
                self._start, self._tokens_per_step = int(event["step"]), int(event["tokens_per_step"])
                self._trained = {step: seen for step, seen in self._trained.items() if step <= self._start}
                done = self._trained.get(self._start)
                if done is not None and event.get("samples", 0) * self.config.data.seq_length > done[0]:
                    self._jumped.add(self._start)
            elif event["event"] == "train":
                self._trained[int(event["step"])] = (int(event["tokens"]), self._tokens_per_step)
        if not self._tokens_per_step:
            raise MetricsError(f"{self._path} has no start event, so nothing is known of the run's steps")

    @property
    def batch_size(self) -> int:
        """Samples per step since the run was last started."""
        return self._samples(self._tokens_per_step)

    def step(self, step: int) -> StepSamples:
        """Return the samples of a step: recorded, or reckoned from the last recorded step when it is yet to come.

        Raises:
            ValueError: there is no such step, or the record does not tell.
        """
        _check(step)
        if step in self._trained:
            return self._recorded(step)
        last = max(self._trained, default=self._start)
        if step < last or (last and not self._trained):
            raise MetricsError(f"{self._path} does not tell of step {step}: the run began elsewhere and was loaded")
        done = self._samples(self._trained[last][0]) if self._trained else 0
        first = done + (step - last - 1) * self.batch_size
        origin = f"not trained yet: the run is at step {last}, and its batch is {self.batch_size} now"
        return StepSamples(step, range(first, first + self.batch_size), origin)

    def _recorded(self, step: int) -> StepSamples:
        tokens, tokens_per_step = self._trained[step]
        first = tokens - tokens_per_step
        before = first if step - 1 in self._jumped else self._trained.get(step - 1, (first, 0))[0]
        if before != first or first < 0:
            raise MetricsError(
                f"{self._path}: step {step - 1} ended at token {before:,}, step {step} began at {first:,} (a batch of "
                f"{tokens_per_step:,} tokens); the record contradicts itself"
            )
        return StepSamples(step, range(self._samples(first), self._samples(tokens)), "as recorded in metrics.jsonl")

    def _samples(self, tokens: int) -> int:
        samples, rest = divmod(tokens, self.config.data.seq_length)
        if rest:
            raise MetricsError(
                f"{self._path}: {tokens:,} tokens are no whole number of samples of seq_length "
                f"{self.config.data.seq_length}; configuration and metrics are of different runs"
            )
        return samples


def open_steps(
    folder: Path | None, config: Config | None, *, processes: int | None = None
) -> PlannedSteps | RecordedSteps:
    """Return the steps of a run from its folder where one is given, else from a configuration.

    Raises:
        ValueError: neither is given, or they do not tell.
    """
    if folder is not None:
        return RecordedSteps(folder, config)
    if config is None:
        raise ValueError("give a configuration, or --run with the save folder of a run")
    return PlannedSteps(config, processes=processes)


def configuration_path(folder: Path, events: Sequence[Mapping[str, Any]]) -> Path | None:
    """Return the configuration that a run's record names; else the newest resolved one, or that of its checkpoints.

    The newest resolved one alone would not do: a start that was refused leaves its configuration there, too.

    Args:
        folder: the ``save`` folder.
        events: of its record.
    """
    starts = [event for event in events if event["event"] == "start" and "configuration" in event]
    if starts and (named := folder / "configs" / str(starts[-1]["configuration"])).is_file():
        return named
    resolved, saved = folder.glob("configs/resolved-*.yml"), folder.glob("global_step*/config.yml")
    for paths in (resolved, saved):
        if newest := max(paths, key=lambda path: path.stat().st_mtime_ns, default=None):
            return newest
    return None


def _config_of(folder: Path, events: Sequence[Mapping[str, Any]]) -> Config:
    path = configuration_path(folder, events)
    if path is None:
        raise MetricsError(f"{folder} holds no configs/resolved-*.yml and no checkpoint: give the save folder of a run")
    return load([path])


def _check(step: int) -> None:
    if step < 1:
        raise ValueError(f"step {step}: the first step of a run is 1, as in metrics.jsonl")
