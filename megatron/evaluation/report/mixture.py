"""The mixture of the report: what was planned and what was used, by tier, by source and by corpus."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from html import escape

from megatron.evaluation.report.charts import Line, lines_chart
from megatron.evaluation.report.data import Run, language_name
from megatron.evaluation.report.scale import compact
from megatron.evaluation.report.tables import Column, cell, name_cell, percent, table, tier_cell
from megatron.monitor.mixture_plot import course
from megatron.monitor.summary import NO_TIER, Row

_COLOURS = 8  # of lines in page.css


@dataclasses.dataclass
class Part:
    """A corpus, a tier or a source in the mixture. Shares are None where the record has no such mixture.

    Only a corpus has a cap on its epochs, and a sample at which its second epoch begins; older records have neither.
    """

    name: str
    tier: str
    source: str
    code: str
    corpora: int = 0
    tokens: float = 0.0
    planned: float | None = None
    used: float | None = None
    planned_tokens: float = 0.0
    used_tokens: float = 0.0
    max_epochs: float | None = None
    capped: bool = False
    repeats_at: int | None = None

    def sampled(self) -> float:
        """Tokens drawn: really, where that is known, else as planned."""
        return self.planned_tokens if self.used is None else self.used_tokens

    def epochs(self) -> float:
        """How often the part's own tokens were drawn."""
        return self.sampled() / self.tokens if self.tokens else math.nan


def mixture_section(run: Run, tiers: Mapping[str, str]) -> str:
    """Return the section; a plain note when the record holds no mixture."""
    if not run.planned and not run.used:
        return '<section id="mixture"><h2>Mixture</h2><p class="note">No mixture has been recorded yet.</p></section>'
    corpora = corpus_parts(run.planned, run.used)
    groups = {group.name: group for group in group_parts(corpora, by="tier")}
    by_tier, by_source = [groups[name] for name in tiers if name in groups], group_parts(corpora, by="source")
    notes = []
    if not run.used:
        notes.append("What was really used is recorded when a run ends or pauses; so far there is only the plan.")
    if not run.planned:
        notes.append("No plan was recorded, only what was used.")
    if capped := sum(part.capped for part in corpora):
        held = "1 corpus" if capped == 1 else f"{capped:,} corpora"
        notes.append(f"Limits on epochs held {held} back; their caps are bold in the table of all corpora.")
    lead = "Which share of the tokens each part was planned to get, and got. Epochs: tokens drawn per token held."
    parts = [
        f'<section id="mixture"><h2>Mixture</h2><p class="lead">{lead}</p>',
        *(f'<p class="note">{note}</p>' for note in notes),
        "<h3>By tier</h3>",
        _group_table("Tier", by_tier, tiers),
    ]
    if len(by_source) > 1:
        parts += ["<h3>By source</h3>", _group_table("Source", by_source, {})]
    parts.append(_over_the_run(run))
    parts.append(
        f"<details><summary>All {len(corpora):,} corpora</summary>"
        f"{_corpus_table(corpora, tiers, run.samples_per_step)}</details></section>"
    )
    return "".join(parts)


def _over_the_run(run: Run) -> str:
    """Draw the share of every source over the steps, when the mixture has phases."""
    batch_size = run.samples_per_step
    if len(run.phases) < 2 or batch_size is None or run.start is None:
        return ""
    samples = round(run.start["train_iters"] * batch_size)
    phases = [(phase["first_sample"], phase["ramp_samples"], phase["sources"]) for phase in run.phases]
    corners = course(phases, samples)
    names = {name: None for _, shares in corners for name in shares}
    lines = [
        Line(name, [shares.get(name, 0.0) for _, shares in corners], f"t{number % _COLOURS}")
        for number, name in enumerate(names)
    ]
    steps = [round(sample / batch_size) for sample, _ in corners]
    chart = lines_chart(steps, lines, title="Shares of the sources as planned", form=percent, css="wide")
    return f'<div class="charts">{chart}</div>'


def corpus_parts(planned: Sequence[Row], used: Sequence[Row]) -> list[Part]:
    """Join the two mixtures on the corpus name. A corpus that only one of them names has a share of 0 in the other."""
    parts: dict[str, Part] = {}
    drawn = sum(float(row["sampled_tokens"]) for row in used) or 1.0
    for rows, share, sampled in ((planned, "planned", "planned_tokens"), (used, "used", "used_tokens")):
        for row in rows:
            name = str(row["corpus"])
            part = parts.setdefault(
                name, Part(name, row["tier"] or NO_TIER, str(row["source"]), str(row["code"]), corpora=1)
            )
            part.tokens = float(row["tokens"])
            # Of what was used, the share is counted: the rows' own is that of the planned run.
            setattr(part, share, float(row["share"]) if rows is planned else float(row["sampled_tokens"]) / drawn)
            setattr(part, sampled, float(row["sampled_tokens"]))
            part.max_epochs, part.repeats_at = row.get("max_epochs"), row.get("repeats_at")
            part.capped = bool(row.get("capped"))
    for part in parts.values():
        part.planned = 0.0 if planned and part.planned is None else part.planned
        part.used = 0.0 if used and part.used is None else part.used
    return list(parts.values())


def group_parts(corpora: Sequence[Part], *, by: str) -> list[Part]:
    """Add corpora up per ``tier`` or ``source``, in the order of the corpora."""
    groups: dict[str, Part] = {}
    for part in corpora:
        name = getattr(part, by)
        group = groups.setdefault(name, Part(name, part.tier, part.source, ""))
        group.corpora += 1
        group.tokens += part.tokens
        group.planned_tokens += part.planned_tokens
        group.used_tokens += part.used_tokens
        group.planned = None if part.planned is None else (group.planned or 0.0) + part.planned
        group.used = None if part.used is None else (group.used or 0.0) + part.used
    return list(groups.values())


def _group_table(label: str, parts: Sequence[Part], tiers: Mapping[str, str]) -> str:
    columns = [
        Column(label), Column("Corpora", "n"), Column("Planned, used", "bars", sortable=False), Column("Planned", "n"),
        Column("Used", "n"), Column("Tokens held", "n"), Column("Tokens drawn", "n"), Column("Epochs", "n"),
    ]  # fmt: skip
    top = max([part.planned or 0.0 for part in parts] + [part.used or 0.0 for part in parts]) or 1.0
    rows = []
    for part in parts:
        css = tiers.get(part.name, "")
        bars = f'<td class="bars">{_bar(part.planned, top, "old")}{_bar(part.used, top, f"new {css}")}</td>'
        rows.append(
            (
                "",
                tier_cell(part.name, css) + cell(f"{part.corpora:,}") + bars + _share(part.planned)
                + _share(part.used) + cell(compact(part.tokens), part.tokens)
                + cell(compact(part.sampled()), part.sampled()) + _epochs(part),
            )
        )  # fmt: skip
    return table(columns, rows)


def _corpus_table(parts: Sequence[Part], tiers: Mapping[str, str], batch_size: float | None) -> str:
    columns = [
        Column("Language"), Column("Corpus"), Column("Tier"), Column("Source"), Column("Planned", "n"),
        Column("Used", "n"), Column("Tokens held", "n"), Column("Tokens drawn", "n"), Column("Epochs", "n"),
    ]  # fmt: skip
    caps = any(part.max_epochs for part in parts)
    if caps:
        columns.append(Column("Cap", "n", hint="most epochs allowed; bold where it holds the corpus back"))
    repeats = batch_size is not None and any(part.repeats_at is not None for part in parts)
    if repeats:
        columns.append(Column("Repeats from step", "n"))
    rows = []
    for part in sorted(parts, key=lambda part: -part.sampled()):
        cells = (
            name_cell(language_name(part.code)) + name_cell(part.name, code=True)
            + tier_cell(part.tier, tiers.get(part.tier, "")) + name_cell(part.source) + _share(part.planned)
            + _share(part.used) + cell(compact(part.tokens), part.tokens)
            + cell(compact(part.sampled()), part.sampled()) + _epochs(part)
        )  # fmt: skip
        cells += _cap(part) if caps else ""
        cells += _repeats(part, batch_size) if repeats and batch_size is not None else ""
        rows.append(("", cells))
    return table(columns, rows, searchable="corpora")


def _cap(part: Part) -> str:
    if part.max_epochs is None:
        return cell("–")
    html = cell(f"{part.max_epochs:g}", part.max_epochs)
    return html.replace(">", "><b>", 1).replace("</td>", "</b></td>") if part.capped else html


def _repeats(part: Part, batch_size: float) -> str:
    if part.repeats_at is None:
        return cell("–")
    step = int(part.repeats_at / batch_size) + 1  # steps are counted from 1 on, samples from 0
    return cell(f"{step:,}", step)


def _bar(share: float | None, top: float, css: str) -> str:
    width = 0.0 if share is None else share / top * 100
    return f'<i class="bar {escape(css)}" style="width:{width:.1f}%"></i>'


def _share(share: float | None) -> str:
    return cell("–") if share is None else cell(percent(share), share)


def _epochs(part: Part) -> str:
    epochs = part.epochs()
    return cell("–") if not math.isfinite(epochs) else cell(f"{epochs:.2f}", epochs)
