"""Generated texts in the report, in any script and either writing direction."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from megatron.evaluation.report.data import Sample, language_name, language_tag
from megatron.evaluation.report.tables import note, section

_MAX_SAMPLES = 300
_MAX_SAMPLE_CHARACTERS = 1500


def samples_section(samples: Sequence[Sample]) -> str:
    """Return the section; a plain note when there are none."""
    title = "Samples"
    if not samples:
        return section("samples", title, "", note("No generated text: give samples.jsonl, as generate.py writes it."))
    lead = "The prompt is grey, the rest is the model's. In the corner: why it stopped."
    more = ""
    if len(samples) > _MAX_SAMPLES:
        more = note(f"The first {_MAX_SAMPLES} of {len(samples):,} samples.")
    cards = "".join(_card(sample) for sample in samples[:_MAX_SAMPLES])
    return section("samples", title, lead, f'{more}<div class="cards">{cards}</div>')


def _card(sample: Sample) -> str:
    tag = language_tag(sample.code)
    lang = f' lang="{escape(tag)}"' if tag else ""
    head = ""
    if sample.code:
        name = language_name(sample.code)
        head = f"<b><bdi>{escape(name)}</bdi></b> " if name else ""
        head += f"<code><bdi>{escape(sample.code)}</bdi></code>"
    stop = f'<span class="stop"><bdi>{escape(sample.stop_reason)}</bdi></span>' if sample.stop_reason else ""
    text = f'<span class="prompt">{_cut(sample.prompt)}</span>{_cut(sample.output)}'
    if not sample.output:
        text += '<span class="empty">(nothing)</span>'
    return f'<article><header><span>{head}</span>{stop}</header><p dir="auto"{lang}>{text}</p></article>'


def _cut(text: str) -> str:
    """Escape a text, cut to a length that keeps the page light."""
    if len(text) <= _MAX_SAMPLE_CHARACTERS:
        return escape(text)
    more = len(text) - _MAX_SAMPLE_CHARACTERS
    return f'{escape(text[:_MAX_SAMPLE_CHARACTERS])}<span class="empty"> … {more:,} more characters</span>'
