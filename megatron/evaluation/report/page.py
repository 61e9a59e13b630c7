"""The report as one HTML page: its header, the training curves, and the page around all sections."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from megatron.evaluation.report.before_extension import TITLE, before_extension_section
from megatron.evaluation.report.charts import curve_chart
from megatron.evaluation.report.curve import SMOOTHING, curve
from megatron.evaluation.report.data import Run, Sample
from megatron.evaluation.report.facts import run_facts, run_state
from megatron.evaluation.report.frame import facts_list, page
from megatron.evaluation.report.incidents import incidents_section, loss_marks
from megatron.evaluation.report.languages import languages_section
from megatron.evaluation.report.mixture import mixture_section
from megatron.evaluation.report.rates import rates_chart, tells_new_tokens_apart
from megatron.evaluation.report.samples import samples_section
from megatron.evaluation.report.scale import compact, decimal, small
from megatron.evaluation.report.tables import note, section, signed_percent
from megatron.monitor.summary import compare, macro_mean, tier_table

_TIER_CLASSES = 8


def render(run: Run, samples: Sequence[Sample]) -> str:
    """Return the whole page."""
    tiers = tier_classes(run.tiers())
    extension = before_extension_section(run)
    return page(
        title=f"{run.name}: training report",
        header=_header(run),
        sections=[
            ("training", "Training", _training(run)),
            ("incidents", "Incidents", incidents_section(run)),
            ("languages", "Bits per byte", languages_section(run, tiers)),
            *([("extension", TITLE, extension)] if extension else []),
            ("mixture", "Mixture", mixture_section(run, tiers)),
            ("samples", "Samples", samples_section(samples)),
        ],
    )


def tier_classes(tiers: Sequence[str]) -> dict[str, str]:
    """Return the class of every tier, which gives it its colour."""
    return {name: f"t{min(index, _TIER_CLASSES - 1)}" for index, name in enumerate(tiers)}


def _header(run: Run) -> str:
    state, css = run_state(run)
    return (
        f'<p class="kicker">Training report <span class="state {css}">{escape(state)}</span></p>'
        f"<h1><bdi>{escape(run.name)}</bdi></h1>{facts_list(run_facts(run))}{_headline(run)}"
    )


def _headline(run: Run) -> str:
    """Return the few numbers that a reader looks for first, as tiles."""
    tiles = []
    if len(run.validations) > 1:
        first, last = run.validations[0]["rows"], run.validations[-1]["rows"]
        changes = compare(first, last)
        lines = tier_table(first, last)
        if lines:
            total = lines[-1]
            hint = f"mean of {total.corpora:,} held-out corpora"
            tiles.append(_tile("Bits per byte", total.before, total.after, total.relative, hint))
            share = f"{total.improved:,} <small>of {total.corpora:,}</small>"
            worse = f"{total.worse:,} got worse" if total.worse else "none got worse"
            tiles.append(f'<div class="tile"><h3>Corpora improved</h3><p class="big">{share}</p><p>{worse}</p></div>')
        english = [change for change in changes if change.code == "eng_Latn"]
        if english:
            before = macro_mean(change.before for change in english)
            after = macro_mean(change.after for change in english)
            tiles.append(_tile("English", before, after, after / before - 1, "bits per byte of eng_Latn"))
    losses = [event["loss"] for event in run.train]
    if len(losses) > 1:
        smooth = [value for value in curve(range(len(losses)), losses).smooth if value is not None]
        if smooth:
            hint = "training, nats per token, smoothed"
            tiles.append(_tile("Loss", smooth[0], smooth[-1], smooth[-1] / smooth[0] - 1, hint))
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _tile(title: str, before: float, after: float, relative: float, hint: str) -> str:
    css = "good" if relative < 0 else "bad"
    return (
        f'<div class="tile"><h3>{escape(title)}</h3><p class="big"><small>{before:.3f} →</small> {after:.3f} '
        f'<span class="{css}">{signed_percent(relative)}</span></p><p>{escape(hint)}</p></div>'
    )


def _training(run: Run) -> str:
    if not run.train:
        return section("training", "Training", "", note("No training step has been recorded yet."))
    steps = [event["step"] for event in run.train]
    loss = curve(steps, [event["loss"] for event in run.train])
    charts = [
        curve_chart(
            loss,
            title="Loss",
            name="loss",
            form=decimal,
            zero=False,
            marks=loss_marks(run),
            note="nats per token",
            css="wide",
        )
    ]
    panels = (
        ("Learning rate", "learning_rate", small, "", 0.0),
        ("Gradient norm", "gradient_norm", decimal, "before clipping", SMOOTHING),
        ("Speed", "tokens_per_second", compact, "tokens per second", SMOOTHING),
    )
    for title, name, form, caption, smoothing in panels:
        if name == "learning_rate" and tells_new_tokens_apart(run):
            charts.append(rates_chart(run))
            continue
        data = curve(steps, [event[name] for event in run.train], smoothing=smoothing)
        charts.append(curve_chart(data, title=title, name=title.lower(), form=form, zero=True, note=caption))
    lead = "Thin: every step. Thick: the median of the steps around. Hover to read values."
    return section("training", "Training", lead, f'<div class="charts">{"".join(charts)}</div>')
