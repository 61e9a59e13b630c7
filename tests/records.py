"""What tests read from the record of a run."""

from __future__ import annotations

from pathlib import Path

from megatron.monitor.record import read_metrics


def losses(save: Path) -> dict[int, float]:
    """Return the loss of every step that a run has kept, by its number; nothing before it has begun."""
    path = save / "metrics.jsonl"
    events = read_metrics(path) if path.exists() else []
    return {event["step"]: event["loss"] for event in events if event["event"] == "train"}
