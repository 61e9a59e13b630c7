"""Training curves of several runs, one chart for each quantity and one line for each run."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence

from megatron.evaluation.report.charts import Line, figure
from megatron.evaluation.report.curve import SMOOTHING, Curve, curve, notes_on
from megatron.evaluation.report.data import Run
from megatron.evaluation.report.drawing import dots_path, line_legend, path, tick_path
from megatron.evaluation.report.incidents import happenings
from megatron.evaluation.report.rates import tells_new_tokens_apart
from megatron.evaluation.report.runs import Runs, join, mean_over
from megatron.evaluation.report.scale import Format, compact, decimal, small, span_of, value_bounds
from megatron.evaluation.report.tables import note, section

_FEW, _SHORT = 3, 32  # runs, and characters of a name, that the legend of a small chart has room for


_OTHER_TOKENS = (
    "The runs write the same held-out text in other numbers of tokens: their tokenizers differ. Loss per token cannot "
    "be compared between them; bits per byte can."
)


@dataclasses.dataclass(frozen=True)
class _Panel:
    title: str
    field: str
    form: Format
    note: str = ""
    zero: bool = True
    smoothing: float = SMOOTHING
    css: str = ""


_PANELS = (
    _Panel("Loss", "loss", decimal, "nats per token", zero=False, css="wide"),
    _Panel("Learning rate", "learning_rate", small, smoothing=0.0),
    _Panel("Gradient norm", "gradient_norm", decimal, "before clipping"),
    _Panel("Speed", "tokens_per_second", compact, "tokens per second"),
)


def curves_section(runs: Runs, colours: Sequence[str]) -> str:
    """Return the section; runs without a step are named and left out."""
    trained = [(run, css) for run, css in zip(runs.runs, colours, strict=True) if run.train]
    notes = [note(f"{run.name}: no training step has been recorded yet.") for run in runs.runs if not run.train]
    charts = [_panel(panel, runs, trained) for panel in _PANELS] if trained else []
    # What compares comes first.
    charts.insert(0 if runs.tokenizers_differ else len(charts), _validation_chart(runs, colours))
    if runs.tokenizers_differ:
        notes.append(note(_OTHER_TOKENS))
    lead = (
        f"Over {runs.axis.plural}. Faint: every step. Thick: the median of the steps around. Short lines at the top "
        "of the loss are incidents, a row for each run in the order of the legend. Hover to read values."
    )
    return section("training", "Training", lead, "".join(notes) + f'<div class="charts">{"".join(charts)}</div>')


def _panel(panel: _Panel, runs: Runs, trained: Sequence[tuple[Run, str]]) -> str:
    curves = [
        curve(runs.train_places(run), [event[panel.field] for event in run.train], smoothing=panel.smoothing)
        for run, _ in trained
    ]
    bounds = value_bounds(
        [value for data in curves for value in data.values],
        [value for data in curves for value in data.smooth],
        zero=panel.zero,
    )
    longest = max(curves, key=lambda data: data.steps[-1]).steps
    span = span_of([min(data.steps[0] for data in curves), longest[-1]])
    raw, smooth, ticks = "", "", ""
    height = min(60.0, 300.0 / len(trained))
    for lane, (data, (run, css)) in enumerate(zip(curves, trained, strict=True)):
        raw += path(data.raw(), span, bounds, f"faint {css}") if panel.smoothing else ""
        smooth += path(list(zip(data.steps, data.smooth, strict=True)), span, bounds, f"line {css}")
        if panel.field == "loss":
            # A lane for each run, so that nobody has to tell them by their colour.
            edges = (lane * height, (lane + 0.8) * height)
            ticks += tick_path(_wrong_places(runs, run), span, css, lane=edges)
    notes = [panel.note] if panel.note else []
    if panel.field == "loss" and runs.tokenizers_differ:
        notes.append("of other tokens in each tokenizer: not comparable")
    if panel.field == "learning_rate":
        apart = [run.name for run, _ in trained if tells_new_tokens_apart(run)]
        notes += [f"{name}: its new tokens have another rate" for name in apart]
    for data, (run, _) in zip(curves, trained, strict=True):
        found = notes_on(data, top=bounds[1], form=panel.form, place_text=runs.place_text)
        notes += [f"{run.name}: {text}" for text in found]
    # Small charts have no room for many or long names; the legend of the loss stands above them.
    roomy = len(trained) <= _FEW and max(len(run.name) for run, _ in trained) <= _SHORT
    return figure(
        title=panel.title, note="; ".join(notes), body=raw + smooth + ticks, places=longest,
        lines=[Line(run.name, _at(longest, data), css) for data, (run, css) in zip(curves, trained, strict=True)],
        span=span, bounds=bounds, form=panel.form, css=panel.css, group="runs", axis=runs.axis, every_line=True,
        key=line_legend([(run.name, css) for run, css in trained]) if panel.css or roomy else "",
    )  # fmt: skip


def _at(places: Sequence[int], data: Curve) -> list[float | None]:
    """Return the smoothed value of a curve at places of another, None beyond its ends."""
    found: list[float | None] = []
    for place in places:
        index = bisect.bisect_left(data.steps, place)
        found.append(data.smooth[index] if index < len(data.steps) else None)
    return found


def _wrong_places(runs: Runs, run: Run) -> list[int]:
    """Return where things went wrong on the axis."""
    steps, places = [event["step"] for event in run.train], runs.train_places(run)
    return [
        # What stopped a run may have happened after its last recorded step.
        places[min(bisect.bisect_left(steps, happening.step), len(steps) - 1)]
        for happening in happenings(run)
        if happening.wrong and happening.step >= steps[0]
    ]


def _validation_chart(runs: Runs, colours: Sequence[str]) -> str:
    """Draw the mean bits per byte of every run over the corpora that all of them scored last."""
    scored = [(run, css) for run, css in zip(runs.runs, colours, strict=True) if run.validations]
    corpora = {entry.score.corpus: True for entry in join([run.validations[-1]["rows"] for run, _ in scored])}
    points: list[dict[int, float | None]] = [
        {place: mean_over(event["rows"], corpora) for place, event in runs.validations(run).items()}
        for run, _ in scored
    ]
    values = [value for each in points for value in each.values() if value is not None]
    if not values:
        return note("No validation has been recorded that the runs could be compared by.")
    places = sorted({place for each in points for place in each})
    bounds, span = value_bounds(values, values, zero=False), span_of(places)
    body = ""
    for each, (_, css) in zip(points, scored, strict=True):
        line = sorted(each.items())
        body += path(line, span, bounds, f"line {css}")
        body += dots_path(line, span, bounds, f"dots {css}") if len(line) <= 60 else ""
    count = f"mean of {len(corpora):,} held-out corpora that all runs scored" if len(scored) > 1 else ""
    return figure(
        title="Validation, bits per byte", note=count, body=body, places=places,
        lines=[
            Line(run.name, [each.get(place) for place in places], css)
            for each, (run, css) in zip(points, scored, strict=True)
        ],
        span=span, bounds=bounds, form=decimal, css="wide", group="validation", axis=runs.axis,
        key=line_legend([(run.name, css) for run, css in scored]),
    )  # fmt: skip
