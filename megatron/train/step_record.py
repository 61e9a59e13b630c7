"""What is recorded of a step: speeds, losses of sources and tiers, memory, and processes that hold the others up."""

from __future__ import annotations

import resource
import socket
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import torch

from megatron.config.architecture import Architecture
from megatron.config.schema import Config
from megatron.data.mixture import Mixture
from megatron.monitor.throughput import mfu, training_flops_per_token
from megatron.parallel.process import Peers, World
from megatron.train.step import StepResult

_SLOW = 1.3
"""Times the median of all processes, from which on one is told."""


class LossGroups:
    """The groups of rows whose losses are told apart: each source's part of each tier.

    Args:
        mixture: its trained corpora.

    Attributes:
        of_corpus: group of each corpus, by its number in the order.
        names: source and tier of each group.
    """

    def __init__(self, mixture: Mixture) -> None:
        pairs = [(corpus.shard.source, corpus.tier) for corpus in mixture.trained]
        self.names = list(dict.fromkeys(pairs))
        self.of_corpus = [self.names.index(pair) for pair in pairs]

    def losses(self, groups: Sequence[tuple[float, float]]) -> dict[str, dict[str, float]]:
        """Return nats per token of every source and tier that the step had text of.

        Args:
            groups: of each group the summed loss in nats and the number of targets.
        """
        found = {}
        for at, key in enumerate(("sources", "tiers")):
            sums: dict[str, list[float]] = {}
            for names, (nats, targets) in zip(self.names, groups, strict=True):
                total = sums.setdefault(names[at], [0.0, 0.0])
                total[0] += nats
                total[1] += targets
            found[key] = {name: nats / targets for name, (nats, targets) in sums.items() if targets}
        return found


class StepRecord:
    """Makes the fields of a ``train`` event.

    Args:
        config: the run.
        architecture: of its model.
        world: the processes.
        peers: the same, to tell each other where they run.
        groups: whose losses are told apart.
    """

    def __init__(
        self, config: Config, architecture: Architecture, *, world: World, peers: Peers, groups: LossGroups
    ) -> None:
        self._world, self._groups = world, groups
        self._peak_tflops = config.logging.peak_theoretical_tflops
        self._flops = training_flops_per_token(architecture, seq_length=config.data.seq_length)
        self._hosts = peers.gather(socket.gethostname())

    def fields(self, result: StepResult, *, tokens: int, step_tokens: int, seconds: float) -> dict[str, Any]:
        """Return what a step did and how fast.

        Args:
            result: of the step.
            tokens: of the run so far.
            step_tokens: of the step.
            seconds: that it took.
        """
        rate, size = step_tokens / seconds, self._world.size
        of_new = result.new_tokens_learning_rate
        peak = None if self._peak_tflops is None else self._peak_tflops * 1e12 * size
        return {
            "loss": result.loss,
            "gradient_norm": result.gradient_norm,
            "learning_rate": result.learning_rate,
            **({} if of_new is None else {"new_tokens_learning_rate": of_new}),
            **({} if result.updated else {"skipped": True}),
            **self._groups.losses(result.groups),
            "tokens": tokens,
            "tokens_per_second": rate,
            "seconds": seconds,
            "tflops_per_process": rate * self._flops / size / 1e12,
            "mfu": None if peak is None else mfu(rate, flops_per_token=self._flops, peak_flops=peak),
            "memory_bytes": peak_memory_bytes(self._world.device),
        }

    def stragglers(self, own_seconds: float) -> list[dict[str, Any]]:
        """Return the processes whose own passes take much longer than the others'; all processes call this.

        Args:
            own_seconds: mean of this process's forward and backward passes since the last call, before it waits for
                the others' gradients. Processes that divide a model wait for each other within the passes, too, and are
                alike then.
        """
        each = self._world.each(own_seconds)
        median = statistics.median(each)
        return [
            {"rank": rank, "host": (self._hosts or [""] * len(each))[rank], "seconds": seconds, "median": median}
            for rank, seconds in enumerate(each)
            if len(each) > 2 and seconds > _SLOW * median
        ]


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory that this process has had: of its GPU, by PyTorch, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
