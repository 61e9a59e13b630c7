"""The report of scores as one HTML page."""

from __future__ import annotations

from html import escape

from megatron.evaluation.report.frame import facts_list, page
from megatron.evaluation.report.page import tier_classes
from megatron.evaluation.report.scores.benchmark_section import benchmark_section
from megatron.evaluation.report.scores.forgetting_section import forgetting_section
from megatron.evaluation.report.scores.gains_section import gains_section
from megatron.evaluation.report.scores.intervals import RESAMPLES
from megatron.evaluation.report.scores.overview_section import anchor, models_section, overview_section
from megatron.evaluation.report.scores.summary import Summary
from megatron.evaluation.report.scores.trials import trial_sentences
from megatron.evaluation.report.scores.values import UNMAPPED, subject_of

_FOOTER = (
    "Means give every language the same weight. Intervals: 95%, percentile bootstrap over languages and, where the "
    f"items behind the scores are kept, their documents, {RESAMPLES:,} resamples with a fixed seed. "
    "Bits per byte = nats / (ln 2 × UTF-8 bytes)."
)
_STYLE = (
    ".warning { margin: 22px 0; padding: 12px 16px; border: 2px solid var(--bad); border-radius: 10px; "
    "overflow-wrap: anywhere; } .warning b { color: var(--bad); } .warning ul { margin: 6px 0 0; padding-left: 20px; } "
    ".scores td.chg { min-width: 136px; } .flag.warn { color: var(--bad); border-color: currentColor; }"
)


def render_scores(summary: Summary) -> str:
    """Return the whole page; the same numbers give the same page."""
    evaluation = summary.evaluation
    tiers = tier_classes(evaluation.tiers)
    benchmarks = list(dict.fromkeys(table.benchmark for table in evaluation.tables))
    names = evaluation.names
    others = f"{names[1]}" if len(names) == 2 else f"{len(names) - 1} models"
    return page(
        title=f"{others} against {names[0]}: evaluation",
        header=_header(summary, others),
        sections=[
            ("overview", "Overview", overview_section(summary)),
            ("forgetting", "Forgetting", forgetting_section(summary, tiers)),
            ("gains", "Gains over the tiers", gains_section(summary, tiers)),
            *((anchor(name), name, benchmark_section(summary, name, tiers)) for name in benchmarks),
            ("models", "Models", models_section(summary)),
        ],
        style=_STYLE,
        footer=_FOOTER,
    )


def _header(summary: Summary, others: str) -> str:
    evaluation = summary.evaluation
    languages = {subject_of(row.language.code): row.language for table in evaluation.tables for row in table.rows}
    facts = [
        ("Models", f"{len(evaluation.models):,}"),
        ("Benchmarks", f"{len(evaluation.main_tables):,}"),
        ("Languages", f"{len(languages):,}"),
        ("Base", evaluation.models[0].name),
    ]
    if evaluation.tiers_origin:
        unmapped = sum(language.tier == UNMAPPED for language in languages.values())
        facts += [("Tiers", evaluation.tiers_origin), ("Languages without a tier", f"{unmapped:,}")]
    return (
        f'<p class="kicker">Evaluation</p><h1><bdi>{escape(others)}</bdi> against '
        f"<bdi>{escape(evaluation.models[0].name)}</bdi></h1>{_warning(summary)}{facts_list(facts)}"
    )


def _warning(summary: Summary) -> str:
    """Say above everything else that scores are of a trial run."""
    sentences = trial_sentences(summary.evaluation.trials)
    if not sentences:
        return ""
    told = "".join(f"<li><bdi>{escape(sentence)}</bdi></li>" for sentence in sentences)
    return (
        '<div class="warning" role="note"><b>Trial run: these scores are no results.</b> Only the first items of each '
        f"language were asked.<ul>{told}</ul></div>"
    )
