"""Work whose input lies in many files, a slice of each: read from disk, or exchanged between processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from megatron.corpus.engine.task import Outputs, Report

Entries = npt.NDArray[np.uint64]
"""Of shape ``[2, entries]``: keys, and the items that they belong to."""


@runtime_checkable
class Shuffled(Protocol):
    """A :class:`megatron.corpus.engine.task.Work` that can be handed its slices instead of reading them itself."""

    @property
    def num_sources(self) -> int:
        """How many files hold a slice."""

    def slice(self, source: int) -> Entries:
        """Return the slice of one file."""

    def finish(self, entries: Entries, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """Do the work with the slices of all files, one after the other in any order."""
