"""Held-out text in the course of a run: scored, recorded, and compared with what came before."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

from megatron.config.schema import EvaluationConfig
from megatron.data.mixture import Mixture
from megatron.evaluation.bits_per_byte import HeldOutSet
from megatron.evaluation.retention import Loss, Retention, exceeds, forgetting, is_pivot
from megatron.monitor.summary import UNTIERED, Row, scores
from megatron.parallel.engine import Engine


class Validation:
    """Scores the held-out text of a run, and says when what must not be forgotten is.

    Args:
        section: what is watched, and what is done about it.
        held_out: the text; None where there is none.
        mixture: says which corpora are of which tier.
        earlier: rows of the validations of the run that is resumed.
        write: records an event: its kind and its fields.

    Raises:
        ValueError: a language to watch is in no held-out text.
    """

    def __init__(
        self,
        section: EvaluationConfig,
        held_out: HeldOutSet | None,
        mixture: Mixture,
        *,
        earlier: Sequence[Sequence[Row]],
        write: Callable[..., None],
    ) -> None:
        self._section, self._held_out, self._write = section, held_out, write
        self._tiers = {corpus.shard.name: corpus.tier for corpus in mixture.corpora}
        self._retention = Retention(earlier)
        self._check_pivots()

    def _check_pivots(self) -> None:
        if not self._section.eval_interval:
            return
        shards = self._held_out.shards if self._held_out is not None else []
        known = {name for shard in shards if shard.bytes for name in (shard.name, shard.code, shard.source)}
        if missing := sorted(set(self._section.pivots) - known):
            raise ValueError(
                f"pivots: no held-out text is of {', '.join(missing)}; name corpora, codes like eng_Latn, or sources "
                f"({', '.join(sorted({shard.source for shard in shards})) or 'there is no held-out text'})"
            )

    def run(self, engine: Engine, *, batch_tokens: int, after_batch: Callable[[], None]) -> str | None:
        """Score all text and record it; every process calls this and gets the same answer.

        Args:
            engine: of the model.
            batch_tokens: most tokens, padding included, in one forward pass.
            after_batch: called after each.

        Returns:
            Why the run is to stop; None when it is not.
        """
        if self._held_out is None:
            return None
        started = time.perf_counter()
        found = self._held_out.score(engine, batch_tokens=batch_tokens, after_batch=after_batch)
        rows = [
            {**dataclasses.asdict(score), "tier": self._tiers.get(score.corpus, UNTIERED)} for score in found
        ]
        losses = self._retention.add(rows)
        self._write(
            "validation",
            rows=rows,
            forgetting=forgetting(losses, self._section.pivots) if scores(rows) else None,
            seconds=time.perf_counter() - started,
        )
        return self._judge(losses)

    def _judge(self, losses: Sequence[Loss]) -> str | None:
        limit, stop = self._section.max_forgetting_percent, self._section.on_forgetting == "stop"
        if limit is None:
            return None
        lost = {
            loss.score.corpus: loss.percent
            for loss in losses
            if is_pivot(loss.score, self._section.pivots) and exceeds(loss, limit)
        }
        if not lost:
            return None
        self._write("incident", kind="forgetting", corpora=lost, limit=limit, action="stopped" if stop else "reported")
        if not stop:
            return None
        told = ", ".join(f"{name} by {percent:.1f} %" for name, percent in lost.items())
        return (
            f"bits per byte have risen above what they were before the first step: {told}; max_forgetting_percent is "
            f"{limit:g}. Everything is saved. Give these languages more of the mixture or take a lower learning rate; "
            "to go on all the same, raise it or set on_forgetting: warn"
        )
