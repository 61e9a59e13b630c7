"""How the processes of a run divide the model among them. Standard library only, so that a dry run can check it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from megatron.config.schema import ParallelConfig


@dataclasses.dataclass(frozen=True)
class Layout:
    """The processes of a run: ``replicas`` groups of ``shards`` processes, each group with one copy of the model.

    Processes of one group have neighbouring numbers, so that a group fits into a node.

    Attributes:
        stage: what a group divides (Rajbhandari et al., ZeRO, arXiv 1910.02054): 0 nothing, 1 optimizer state, 2 also
            gradients, 3 also weights.
        shards: processes that share one copy.
        replicas: copies.
    """

    stage: int
    shards: int
    replicas: int

    @classmethod
    def of(cls, section: ParallelConfig, *, processes: int) -> Layout:
        """Return the layout of so many processes.

        Raises:
            ValueError: they cannot be divided so.
        """
        stage, shards = section.zero_optimization.stage, section.data_parallel_shard_size
        if stage == 0:
            return cls(0, 1, processes)
        shards = processes if shards is None else shards
        if processes % shards or (shards == 1 and processes > 1):
            rule = "divides nothing: every process would hold the whole model" if shards == 1 else (
                f"does not divide the {processes} processes"
            )
            fits = ", ".join(str(size) for size in range(2, processes + 1) if processes % size == 0)
            fix = f"Set it to one of {fits}, or start another number of processes" if fits else "Remove the key"
            raise ValueError(f"data_parallel_shard_size = {shards} {rule}. {fix}.")
        return cls(stage, shards, processes // shards)
