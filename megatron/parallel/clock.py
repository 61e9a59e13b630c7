"""Time between two points of a process's work, as its device sees it."""

from __future__ import annotations

import time

import torch

Point = float | torch.cuda.Event


class Clock:
    """Takes times without making the host wait for the device.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"

    def now(self) -> Point:
        """Return the point at which everything that was asked for so far is done."""
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: Point, end: Point) -> float:
        """Return the seconds from one point to another, both of which the device has passed."""
        if isinstance(start, float) and isinstance(end, float):
            return end - start
        assert isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event)
        return float(start.elapsed_time(end)) / 1e3
