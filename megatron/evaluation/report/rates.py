"""The learning rates of a run that tells new tokens apart: one line for their rows, one for everything else."""

from __future__ import annotations

import math

from megatron.evaluation.report.charts import Line, figure
from megatron.evaluation.report.curve import curve, step_text
from megatron.evaluation.report.data import Run
from megatron.evaluation.report.drawing import line_legend, path
from megatron.evaluation.report.scale import small, span_of, value_bounds

OF_NEW = "new_tokens_learning_rate"
"""The field of a ``train`` event."""
_LINES = (("new tokens", OF_NEW, "t4"), ("everything else", "learning_rate", "t0"))


def tells_new_tokens_apart(run: Run) -> bool:
    """Whether new tokens have a rate of their own in any step of the run."""
    return any(event.get(OF_NEW) is not None for event in run.train)


def rates_chart(run: Run) -> str:
    """Draw both rates over the steps, and say until when the new tokens' rows are trained alone."""
    steps = [event["step"] for event in run.train]
    curves = [
        curve(steps, [math.nan if event.get(field) is None else event[field] for event in run.train], smoothing=0)
        for _, field, _ in _LINES
    ]
    values = [value for data in curves for value in data.values]
    span, bounds = span_of(steps), value_bounds(values, values, zero=True)
    lines = [Line(name, data.mean, css) for (name, _, css), data in zip(_LINES, curves, strict=True)]
    return figure(
        title="Learning rate", note=_alone(run), places=curves[0].steps, lines=lines, span=span, bounds=bounds,
        body="".join(path(list(zip(curves[0].steps, line.ys, strict=True)), span, bounds, f"line {line.css}")
                     for line in lines),
        form=small, css="", group="train", key=line_legend([(line.name, line.css) for line in lines]),
    )  # fmt: skip


def _alone(run: Run) -> str:
    alone = [event["step"] for event in run.train if event.get(OF_NEW) is not None and event["learning_rate"] == 0]
    return f"new tokens' rows are trained alone until {step_text(max(alone))}" if alone else ""
