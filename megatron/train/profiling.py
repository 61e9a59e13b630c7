"""PyTorch's profiler over a few steps of a run: a trace to look at, and a table of where the time went."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from megatron.config.schema import LoggingConfig
from megatron.utils.files import write_text
from megatron.utils.log import get_logger

logger = get_logger(__name__)

_ROWS = 40
_SHOWN_ROWS = 12


class StepProfiler:
    """Records the steps that the configuration names, in the processes that it names.

    Args:
        section: which.
        rank: of this process.
        folder: where traces and tables go.
        device: whose work is recorded beside the host's.
    """

    def __init__(self, section: LoggingConfig, *, rank: int, folder: Path, device: torch.device) -> None:
        wanted = section.profile and rank in section.profile_ranks
        self._steps = range(section.profile_step_start, section.profile_step_stop + 1) if wanted else range(0)
        self._name = f"rank-{rank:05d}-steps-{section.profile_step_start}-{section.profile_step_stop}"
        self._folder, self._on_gpu = folder, device.type == "cuda"
        self._profile: profile | None = None

    def before(self, step: int) -> None:
        """Begin to record if this is the first of the steps."""
        if step in self._steps and self._profile is None:
            activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if self._on_gpu else [])
            self._profile = profile(activities=activities)
            self._profile.start()

    def after(self, step: int) -> None:
        """Write what was recorded if this was the last of the steps."""
        if step >= self._steps[-1] if self._steps else False:
            self.close()

    def close(self) -> None:
        """Write what was recorded so far, if anything was."""
        if self._profile is None:
            return
        self._profile.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        trace = self._folder / f"{self._name}.json.gz"
        self._profile.export_chrome_trace(str(trace))
        # Times of operations themselves, without those that they call: they add up to the whole.
        key = "self_device_time_total" if self._on_gpu else "self_cpu_time_total"
        averages = self._profile.key_averages()
        write_text(self._folder / f"{self._name}.txt", averages.table(sort_by=key, row_limit=_ROWS))
        shown = averages.table(sort_by=key, row_limit=_SHOWN_ROWS, max_name_column_width=40)
        logger.info("where the time of steps %d to %d went (%s):\n%s", self._steps[0], self._steps[-1], trace, shown)
        self._profile = None
