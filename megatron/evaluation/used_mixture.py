"""What a run was really trained on, read from its record as the plan is: the same tables and picture show both."""

from __future__ import annotations

from pathlib import Path

from megatron.data.planning.plan import Plan
from megatron.data.planning.plan_groups import SourcePhase
from megatron.evaluation.report.data import load_run
from megatron.monitor.record import MetricsError


def used_plan(folder: Path) -> Plan:
    """Return the mixture that a run recorded as used when it ended or paused.

    Args:
        folder: the ``save`` folder of the run.

    Raises:
        MetricsError: there is no record, or the run has not come to an end or a pause yet.
    """
    run = load_run(folder)
    if not run.used:
        raise MetricsError(
            f"{folder}: the record holds no used mixture yet; it is written when the run ends or pauses. "
            "The plan of the run is shown from its configuration"
        )
    rows = [dict(row) for row in run.used]
    return Plan(
        rows,
        batch_size=int(run.samples_per_step or 1),
        samples=max(1, sum(int(row["samples"]) for row in rows)),
        phases=[SourcePhase(**phase) for phase in run.phases],
    )
