"""What a run is, in a few facts: its size, how far it came, its speed and how it stands."""

from __future__ import annotations

import math

from megatron.evaluation.report.data import Run
from megatron.evaluation.report.scale import compact
from megatron.evaluation.report.tables import percent
from megatron.monitor.console import format_duration
from megatron.monitor.summary import macro_mean


def run_facts(run: Run) -> list[tuple[str, str]]:
    """Return (name, value) of every fact that the record tells."""
    start = run.start or {}
    facts = []
    if start:
        facts = [
            ("Parameters", compact(start["parameters"])),
            ("Steps", f"{run.step:,} of {start['train_iters']:,}"),
            ("Tokens trained", f"{_tokens(run)} of {compact(start['tokens_per_step'] * start['train_iters'])}"),
            ("Tokens per step", f"{start['tokens_per_step']:,}"),
            ("Devices", f"{start['world_size']:,} × {start['device']}"),
            ("Precision", str(start["precision"])),
        ]
    seconds = math.fsum(event["seconds"] for event in run.train)
    if seconds:
        tokens = math.fsum(event["tokens_per_second"] * event["seconds"] for event in run.train)
        facts.append(("Speed", f"{compact(tokens / seconds)} tokens/s"))
        used = [event["mfu"] for event in run.train if event.get("mfu") is not None]
        if used:
            facts.append(("MFU", percent(macro_mean(used))))
    facts.append(("Wall time", format_duration(run.wall_seconds)))
    facts.append(("Resumed", _times(len(run.resumed_at))))
    return facts


def run_state(run: Run) -> tuple[str, str]:
    """Return how the run stands, in words, and the class of its badge."""
    total = run.start["train_iters"] if run.start else None
    if total is not None and run.step >= total:
        return "finished", "done"
    if run.end is not None:
        return f"stopped at step {run.step:,}: {run.end['reason']}", "stopped"
    return f"unfinished: step {run.step:,}" + (f" of {total:,}" if total else ""), "open"


def _tokens(run: Run) -> str:
    return compact(run.train[-1]["tokens"]) if run.train else "0"


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count:,} times")
