"""The losses of a micro-batch's rows, added up over the rows' positions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from megatron.model.loss import IGNORE
from megatron.model.micro_batch import MicroBatch


class RowSums(NamedTuple):
    """What is kept of a micro-batch until the end of a step.

    Attributes:
        nats: summed loss of each row, float64 ``[rows]``; None where another stage of the pipeline knows it.
        targets: number of targets of each row, int64 ``[rows]``.
        groups: group of each row, int64 ``[rows]``, or None.
    """

    nats: Tensor | None
    targets: Tensor
    groups: Tensor | None

    @classmethod
    def of(cls, nats: Tensor | None, batch: MicroBatch) -> RowSums:
        """Return the sums of a micro-batch whose rows have these losses."""
        return cls(nats, (batch.targets != IGNORE).sum(1), batch.groups)


def by_group(rows: Iterable[RowSums], num_groups: int, *, device: torch.device) -> Tensor:
    """Return each group's summed loss and number of targets in this process, float64 ``[groups, 2]``."""
    table = torch.zeros(num_groups, 2, dtype=torch.float64, device=device)
    for nats, targets, groups in rows:
        if num_groups and nats is not None:
            assert groups is not None
            table.index_add_(0, groups, torch.stack((nats, targets.double()), dim=1))
    return table
