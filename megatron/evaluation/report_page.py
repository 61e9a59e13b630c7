"""The report as one HTML page: its header, the training curves, and the page around all sections."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import math
import string
import time
from collections.abc import Sequence
from html import escape

from megatron.evaluation.report_charts import SMOOTHING, compact, curve, curve_chart, decimal, small
from megatron.evaluation.report_data import Run, Sample
from megatron.evaluation.report_languages import languages_section
from megatron.evaluation.report_mixture import mixture_section
from megatron.evaluation.report_samples import samples_section
from megatron.evaluation.report_tables import note, percent, section, signed_percent
from megatron.monitor.console import format_duration
from megatron.monitor.summary import compare, macro_mean, tier_table

_TIER_CLASSES = 8


def render(run: Run, samples: Sequence[Sample]) -> str:
    """Return the whole page."""
    tiers = {name: f"t{min(index, _TIER_CLASSES - 1)}" for index, name in enumerate(run.tiers())}
    files = importlib.resources.files("megatron.evaluation")
    script = files.joinpath("report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = string.Template(files.joinpath("report.html").read_text(encoding="utf-8"))
    return page.substitute(
        # Only our own script may run, and nothing may be fetched: a text that slipped through could do nothing.
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        title=escape(run.name),
        style=files.joinpath("report.css").read_text(encoding="utf-8"),
        script=script,
        header=_header(run),
        training=_training(run),
        evaluation=languages_section(run, tiers),
        mixture=mixture_section(run, tiers),
        samples=samples_section(samples),
        written=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    )


def _header(run: Run) -> str:
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
    state, css = _state(run)
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return (
        f'<p class="kicker">Training report <span class="state {css}">{escape(state)}</span></p>'
        f'<h1><bdi>{escape(run.name)}</bdi></h1><dl class="facts">{items}</dl>{_headline(run)}'
    )


def _state(run: Run) -> tuple[str, str]:
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
    resumed = [(step, "resumed") for step in sorted(set(run.resumed_at)) if steps[0] <= step <= steps[-1]]
    loss = curve(steps, [event["loss"] for event in run.train])
    charts = [
        curve_chart(
            loss,
            title="Loss",
            name="loss",
            form=decimal,
            zero=False,
            markers=resumed,
            caption="nats per token",
            css="wide",
        )
    ]
    panels = (
        ("Learning rate", "learning_rate", small, "", 0.0),
        ("Gradient norm", "gradient_norm", decimal, "before clipping", SMOOTHING),
        ("Speed", "tokens_per_second", compact, "tokens per second", SMOOTHING),
    )
    for title, name, form, caption, smoothing in panels:
        data = curve(steps, [event[name] for event in run.train], smoothing=smoothing)
        charts.append(curve_chart(data, title=title, name=title.lower(), form=form, zero=True, caption=caption))
    lead = "Thin: every step. Thick: the median of the steps around. Hover to read values."
    return section("training", "Training", lead, f'<div class="charts">{"".join(charts)}</div>')
