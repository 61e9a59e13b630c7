"""The report of tokenizers as one HTML page."""

from __future__ import annotations

from html import escape

from megatron.evaluation.report.frame import facts_list, page
from megatron.evaluation.report.page import tier_classes
from megatron.evaluation.report.scale import compact
from megatron.evaluation.report.tables import section
from megatron.evaluation.report.tokenizers.console import left_out_lines
from megatron.evaluation.report.tokenizers.language_tables import languages_section
from megatron.evaluation.report.tokenizers.sections import (
    bytes_section,
    overview_section,
    ranked_section,
    round_trips_section,
    scripts_section,
    tiers_section,
)
from megatron.evaluation.report.tokenizers.summary import Summary
from megatron.tokenizer.measure.words import SAMPLED_WORDS

_FOOTER = (
    "Tokens are those of the texts alone, without any that begin or end documents. Means give every language the same "
    f"weight. Whole words: of the {SAMPLED_WORDS:,} distinct words of a language with the smallest hashes, or of all "
    "where there are fewer."
)
_STYLE = (
    ".ranked .dots { stroke-width: 5; opacity: 0.8; } .ranked .marklabel { white-space: nowrap; } "
    "td.bars .bar { height: 6px; } .tokens td.bars { width: 22%; } .scripts td.bars { width: 30%; }"
)


def render_tokenizers(summary: Summary) -> str:
    """Return the whole page; the same counts give the same page."""
    tiers = tier_classes([group.name for group in summary.tiers])
    names = summary.names
    title = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return page(
        title=f"{title}: tokenizers",
        header=_header(summary, title),
        sections=[
            ("overview", "Overview", overview_section(summary)),
            ("ranked", "All languages", ranked_section(summary)),
            ("scripts", "Scripts", scripts_section(summary)),
            ("bytes", "Written in bytes", bytes_section(summary)),
            ("tiers", "Tiers", tiers_section(summary, tiers)),
            ("languages", "Languages", languages_section(summary, tiers)),
            ("roundtrips", "Round trips", round_trips_section(summary)),
            ("leftout", "Left out", _left_out(summary)),
        ],
        style=_STYLE,
        footer=_FOOTER,
    )


def _header(summary: Summary, title: str) -> str:
    total, measured = summary.total, summary.measured
    facts = [
        ("Tokenizers", f"{len(measured.tokenizers):,}"),
        ("Languages", f"{total.languages:,}"),
        ("Scripts", f"{len(summary.scripts):,}"),
        ("Documents", f"{total.documents:,}"),
        ("Text", f"{compact(total.bytes)}B"),
        ("Context", f"{measured.settings.context_tokens:,} tokens"),
    ]
    if summary.is_compared:
        facts += [("Pivot", measured.pivot), ("Languages with parallel text", f"{total.compared:,}")]
    if summary.tiers_origin:
        facts += [("Tiers", summary.tiers_origin)]
    return f'<p class="kicker">Tokenizers</p><h1><bdi>{escape(title)}</bdi></h1>{facts_list(facts)}'


def _left_out(summary: Summary) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in left_out_lines(summary.measured))
    body = f'<ul class="runs">{items}</ul>' if items else '<p class="note">Nothing.</p>'
    return section("leftout", "Left out", "What was given and is not in the figures.", body)
