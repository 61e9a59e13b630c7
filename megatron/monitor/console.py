"""A run as log lines: one every ``log_interval`` steps, and a short table after every validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from megatron.monitor.record import Event
from megatron.monitor.summary import Row, format_table, macro_means, num_unscored, order_tiers, tier_table
from megatron.utils.log import get_logger
from megatron.utils.table import text_table

logger = get_logger(__name__)


class Console:
    """Listener that writes the events of a run to the log.

    A line stands for the steps since the line before: the loss is their mean, the gradient norm their highest, the
    speed their tokens over their seconds. The very first and the very last step always have a line.

    Args:
        train_iters: steps of the whole run.
        log_interval: steps per line.
        first_validation: rows of the run's first validation when this process resumes it; None on a fresh start.
    """

    def __init__(
        self, *, train_iters: int, log_interval: int, first_validation: Sequence[Row] | None = None
    ) -> None:
        if log_interval < 1:
            raise ValueError(f"log_interval = {log_interval} must be at least 1")
        self._train_iters = train_iters
        self._log_interval = log_interval
        self._first_validation = first_validation
        self._tiers: Sequence[str] = ()
        self._pending: list[Event] = []
        self._started = False
        self._told_slow = False

    def __call__(self, event: Event) -> None:
        """Show one event; kinds that need no line are ignored."""
        kind = event["event"]
        if kind == "train":
            self._on_train(event)
        elif kind == "validation":
            self._on_validation(event)
        elif kind == "mixture":
            self._tiers = order_tiers(event["rows"])
        elif kind == "start":
            logger.info("%s", start_line(event))
        elif kind == "new_tokens":
            logger.info("step %s: %s", f"{event['step']:,}", new_tokens_text(event))
            if (event["until"] or 0) >= self._train_iters:
                logger.warning("the run ends before it trains anything else: lower new_tokens_only_steps")
            if event["factor"] < 1 and not self._told_slow:
                self._told_slow = True
                logger.warning("new_tokens_lr is below lr: what has seen no text learns slower than everything else")
        elif kind == "checkpoint":
            logger.info("step %s: saved %s in %.1f s", f"{event['step']:,}", event["path"], event["seconds"])
        elif kind == "checkpoint_failed":
            logger.error("step %s: %s", f"{event['step']:,}", event["reason"])
        elif kind == "incident":
            logger.warning("step %s: %s", f"{event['step']:,}", incident_text(event))
        elif kind == "end":
            logger.info("step %s: end of the run: %s", f"{event['step']:,}", event["reason"])

    def _on_train(self, event: Event) -> None:
        self._pending.append(event)
        step = event["step"]
        if self._started and step % self._log_interval and step != self._train_iters:
            return
        logger.info("%s", train_line(self._pending, train_iters=self._train_iters))
        self._started = True
        self._pending = []

    def _on_validation(self, event: Event) -> None:
        rows = event["rows"]
        unscored = num_unscored(rows)
        if unscored == len(rows):
            logger.info("step %s: validation scored nothing: there is no held-out text", f"{event['step']:,}")
            return
        if unscored:
            logger.warning("%d corpora have no held-out text and are not scored", unscored)
        if self._first_validation is None:
            self._first_validation = rows
        title = f"step {event['step']:,}: validation in {event['seconds']:.1f} s, bits per byte"
        logger.info("%s\n%s", title, validation_table(self._first_validation, rows, tiers=self._tiers))
        if told := retention_line(event.get("forgetting")):
            logger.info("%s", told)


def start_line(event: Event) -> str:
    """Describe a ``start`` event in one line."""
    resumed_from = event.get("resumed_from")
    if resumed_from is not None:
        origin = f"resumed from step {resumed_from:,}"
    else:
        origin = f"from step {event['step']:,} of another run" if event["step"] else "from the beginning"
    return (
        f"{event['parameters']:,} parameters, {event['precision']}, {event['world_size']} x {event['device']}, "
        f"{event['tokens_per_step']:,} tokens per step, {event['train_iters']:,} steps, {origin}"
    )


def new_tokens_text(event: Event) -> str:
    """Describe a ``new_tokens`` event in one line."""
    rows = f"the {event['tokens']:,} new tokens from {event['first']:,} on"
    if event["until"] is not None:
        return f"the rows of {rows} are trained alone until step {event['until']:,}; everything else stays as it is"
    return f"everything is trained, the rows of {rows} at {event['factor']:g} times the learning rate"


def incident_text(event: Event) -> str:
    """Describe an ``incident`` event in one line."""
    kind = event["kind"]
    if kind == "hang":
        return f"{event['processes']} processes of an earlier start stood still and were ended: {event['stacks'][0]}"
    if kind == "node_test":
        return str(event["problem"])
    if kind == "forgetting":
        lost = ", ".join(f"{name} {percent:+.1f} %" for name, percent in event["corpora"].items())
        return f"{event['action']}: more than {event['limit']:g} % of bits per byte lost: {lost}"
    what = "the loss or the gradient is not a number" if kind == "not_finite" else f"spike above {event['limit']:.4f}"
    samples = ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in event["samples"][:5])
    corpora = ", ".join(list(event["corpora"])[:5]) + (", ..." if len(event["corpora"]) > 5 else "")
    numbers = f"loss {event['loss']:.4f}, gradient norm {event['gradient_norm']:.3f}"
    return f"{event['action']}: {what}: {numbers}, samples {samples} of {corpora}"


def train_line(events: Sequence[Event], *, train_iters: int) -> str:
    """Describe consecutive ``train`` events in one line.

    Args:
        events: at least one, in order; the speed is that of their steps together.
        train_iters: steps of the whole run.
    """
    last = events[-1]
    seconds = math.fsum(event["seconds"] for event in events)
    # A step's tokens are its speed times its duration; the running total alone says nothing about a resumed first step.
    tokens = math.fsum(event["tokens_per_second"] * event["seconds"] for event in events)
    width, of_new = len(f"{train_iters:,}"), last.get("new_tokens_learning_rate")
    parts = [
        f"step {last['step']:>{width},}/{train_iters:,}",
        f"{last['step'] / train_iters:6.1%}",
        f"loss {math.fsum(event['loss'] for event in events) / len(events):.4f}",
        f"lr {last['learning_rate']:.2e}" + ("" if of_new is None else f" (new tokens {of_new:.2e})"),
        f"grad norm {max(event['gradient_norm'] for event in events):.3f}",
        f"{tokens / seconds if seconds > 0 else math.nan:,.0f} tokens/s",
    ]
    utilisations = [event["mfu"] for event in events if event.get("mfu") is not None]
    if utilisations:
        parts.append(f"MFU {math.fsum(utilisations) / len(utilisations):.1%}")
    parts.append(f"remaining {format_duration((train_iters - last['step']) * seconds / len(events))}")
    return "  ".join(parts)


def validation_table(
    first_rows: Sequence[Row], rows: Sequence[Row], *, tiers: Sequence[str] | None = None
) -> str:
    """Lay out the macro mean of every tier, and its change from the first validation where there is one to compare.

    Args:
        first_rows: of the first validation.
        rows: of this one.
        tiers: their order, by default that of the rows (see :func:`megatron.monitor.summary.order_tiers`).
    """
    if first_rows is not rows:
        lines = tier_table(first_rows, rows, tiers=tiers)
        if lines:
            return format_table(lines)
    counts = {name: f"{value:.4f}" for name, value in macro_means(rows, by="tier", tiers=tiers).items()}
    return text_table([("tier", "bits per byte"), *counts.items()], ruled=True)


def retention_line(forgetting: Mapping[str, Any] | None) -> str:
    """Say in one line what has been lost since the beginning; an empty string when nothing has and nobody watches.

    Args:
        forgetting: that part of a ``validation`` event.
    """
    if not forgetting or not (forgetting["worse"] or forgetting["pivots"]):
        return ""
    worst = ", ".join(f"{name} {percent:+.1f} %" for name, percent in forgetting["worst"].items())
    watched = ", ".join(f"{name} {percent:+.1f} %" for name, percent in forgetting["pivots"].items())
    parts = [f"{forgetting['worse']} corpora are worse than at the beginning" + (f": {worst}" if worst else "")]
    return "; ".join([*parts, f"watched: {watched}"] if watched else parts)


def format_duration(seconds: float) -> str:
    """Write a duration with its two largest units, e.g. ``2 h 05 min``; ``unknown`` when it is not finite."""
    if not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"
