"""The sections of the page: overview, every language in order, scripts, bytes, tiers, round trips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from megatron.corpus.pairs.names import script_name
from megatron.evaluation.report.data import language_name
from megatron.evaluation.report.scale import compact, decimal, value_bounds
from megatron.evaluation.report.scores.gain_charts import Lane, Spot, lane_chart
from megatron.evaluation.report.tables import Column, cell, name_cell, note, section, table, tier_cell
from megatron.evaluation.report.tokenizers.charts import Series, bars_cell, colour_of, ranked_chart
from megatron.evaluation.report.tokenizers.forms import FORMS, share
from megatron.evaluation.report.tokenizers.summary import BYTES_FROM, Row, Summary
from megatron.tokenizer.measure.figures import Group, mean


def overview_section(summary: Summary) -> str:
    """Return a row for each tokenizer: what it is, and the means over all languages."""
    columns = [Column("Tokenizer"), Column("Vocabulary", "n"), Column("Byte tokens in it", "n")]
    names = ["bytes_per_token", "tokens_per_word", "byte_share", "whole_words", "failure_share"]
    if summary.is_compared:
        names.insert(0, "premium")
        columns += [Column("Gini", "n", hint="of the premium: 0 where all languages are treated alike")]
        columns += [Column("Highest premium", "n")]
    else:
        columns += [Column("Gini", "n", hint="of tokens per character: 0 where all languages are treated alike")]
    columns += [Column(FORMS[name].title, "n", hint=FORMS[name].meaning) for name in names]
    rows = []
    for number, facts in enumerate(summary.measured.tokenizers):
        figures, ginis = summary.total.figures[number], summary.ginis[number]
        cells = f'<td><i class="tier {colour_of(number)}"></i><bdi>{escape(facts.name)}</bdi></td>'
        cells += cell(f"{facts.vocab_size:,}", facts.vocab_size) + cell(f"{facts.byte_tokens:,}", facts.byte_tokens)
        if summary.is_compared:
            highest = summary.total.highest[number]
            cells += cell(decimal_or_dash(ginis["premium"], 3)) + cell(FORMS["premium"].text(highest), highest)
        else:
            cells += cell(decimal_or_dash(ginis["tokens_per_character"], 3))
        cells += "".join(cell(FORMS[name].text(value), value) for name in names for value in [getattr(figures, name)])
        rows.append(("", cells))
    lead = "Means over languages, each with the same weight."
    return section("overview", "Overview", lead, table(columns, rows, css="tight"))


def ranked_section(summary: Summary) -> str:
    """Return the picture of all languages, in the order of the premium, or of tokens per character without one."""
    name = summary.ruler
    form = FORMS[name]
    rows = [row for row in summary.languages if not all(math.isnan(getattr(each, name)) for each in row.figures)]
    if not rows:
        return section("ranked", form.title, "", note("No language can be compared."))
    # By the mean of the tokenizers, so that none of them is the ruler for the others.
    rows.sort(key=lambda row: (mean(getattr(each, name) for each in row.figures), row.language.code))
    series = [
        Series(each, [getattr(row.figures[number], name) for row in rows]) for number, each in enumerate(summary.names)
    ]
    lead = f"{form.title}: {meaning(summary, name)}. Every dot is a language with a tokenizer. Hover to read values."
    chart = ranked_chart(
        [_label(row) for row in rows], series, ends=[_end(row, name) for row in rows],
        title=f"{form.title} of {len(rows):,} languages", note="in the order of the tokenizers' mean", form=decimal,
        line=1.0 if summary.is_compared else None,
    )  # fmt: skip
    return section("ranked", form.title, lead, chart)


def scripts_section(summary: Summary) -> str:
    """Return a row for each script, with bars for all tokenizers."""
    name = summary.ruler
    lead = f"Means over the languages of a script; bars: {FORMS[name].title.lower()}, one for each tokenizer."
    return section("scripts", "Scripts", lead, _group_table(summary, summary.scripts, name, "Script"))


def bytes_section(summary: Summary) -> str:
    """Return the scripts whose characters tokenizers have no tokens for, and write in bytes."""
    groups = summary.written_in_bytes()
    lead = (
        f"At least {BYTES_FROM:.0%} of their tokens are pieces of characters with one of the tokenizers: every "
        "character costs several tokens, and none of them means anything by itself."
    )
    if not groups:
        return section("bytes", "Scripts written in bytes", "", note("No script is written in bytes."))
    columns = [Column("Script"), Column("Languages", "n"), Column("Byte tokens", "bars", sortable=False)]
    columns += [_tokenizer_column(summary, number) for number in range(len(summary.names))]
    rows = []
    for group in groups:
        shares = [each.byte_share for each in group.figures]
        cells = script_cell(group.name) + cell(f"{group.languages:,}") + bars_cell(shares, 1.0)
        rows.append(("", cells + "".join(_marked(share) for share in shares)))
    return section("bytes", "Scripts written in bytes", lead, table(columns, rows, css="tight"))


def tiers_section(summary: Summary, tiers: Mapping[str, str]) -> str:
    """Return the premium over the tiers, or bytes per token without one: a picture for each tokenizer, and a table."""
    if not summary.tiers:
        return section("tiers", "Tiers", "", note("No tiers were given: --tiers names the file that says them."))
    lead = "Every dot is a language; the shade spans the middle half of a tier, the bar is its median."
    # Bytes per token depend on the script: between tiers, which have other scripts, they compare scripts.
    name = "premium" if summary.is_compared else "bytes_per_token"
    form, better = FORMS[name], "more" if FORMS[name].higher_is_better else "less"
    values = [getattr(each, name) for row in summary.languages for each in row.figures]
    bounds = value_bounds([value for value in values if not math.isnan(value)], [0.0], zero=True)
    charts = "".join(
        lane_chart(
            _lanes(summary, number, tiers, name), title=tokenizer, note=f"{meaning(summary, name)}, {better} is better",
            bounds=bounds, form=decimal, what=f"{form.title} of languages",
        )
        for number, tokenizer in enumerate(summary.names)
    )  # fmt: skip
    grouped = _group_table(summary, summary.tiers, name, "Tier", tiers=tiers)
    return section("tiers", "Tiers", lead, f'<div class="charts lanes">{charts}</div><h3>Means</h3>{grouped}')


def round_trips_section(summary: Summary) -> str:
    """Return how many documents do not come back, and examples."""
    columns = [
        Column("Language"), Column("Tokenizer"), Column("Documents", "n"), Column("Failed", "n"),
        Column("Text", sortable=False), Column("Decoded", sortable=False), Column("Place", sortable=False),
    ]  # fmt: skip
    rows = []
    for row in summary.rows:
        for number, name in enumerate(summary.names):
            counts, kept = row.language.counts.tokens[number], row.language.counts.examples[number]
            for digest in sorted(kept):
                example = kept[digest]
                cells = name_cell(row.language.code, code=True) + name_cell(name)
                cells += cell(f"{counts.checked:,}", counts.checked) + cell(f"{counts.failures:,}", counts.failures)
                cells += "".join(f'<td class="value"><bdi>{escape(text)}</bdi></td>' for text in example[1:])
                rows.append(("", cells + name_cell(example.place)))
    checked = sum(counts.checked for row in summary.rows for counts in row.language.counts.tokens)
    tried = summary.measured.settings.round_trip_share
    part = "all documents" if tried == 1 else f"{share(tried)} of the documents, chosen by their hash,"
    lead = f"Decoded again with every tokenizer: {part}; {checked:,} round trips."
    body = table(columns, rows, css="long") if rows else note("Every one of them came back as it was.")
    return section("roundtrips", "Round trips", lead, body)


def meaning(summary: Summary, name: str) -> str:
    """Return what a figure means, in this report."""
    context = f"{summary.measured.settings.context_tokens:,}"
    return FORMS[name].meaning.format(pivot=summary.measured.pivot, context=context)


def script_cell(script: str) -> str:
    """Return the cell of a script: its name and its code; of all scripts, just that."""
    name = script_name(script)
    code = f" <code><bdi>{escape(script)}</bdi></code>" if name != script else ""
    return f"<td><bdi>{escape(name)}</bdi>{code}</td>"


def decimal_or_dash(value: float, digits: int) -> str:
    """Write a number; a dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _group_table(
    summary: Summary, groups: Sequence[Group], name: str, heading: str, tiers: Mapping[str, str] | None = None
) -> str:
    form, compared = FORMS[name], summary.is_compared
    columns = [Column(heading), Column("Languages", "n"), Column("Text", "n lesser", hint="UTF-8 bytes")]
    if compared:
        columns += [Column("Byte premium", "n lesser", hint=f"bytes per byte of {summary.measured.pivot}")]
    columns += [Column(form.title, "bars", sortable=False)]
    numbers = range(len(summary.names))
    columns += [_tokenizer_column(summary, number) for number in numbers]
    columns += [_tokenizer_column(summary, number, "byte tokens") for number in numbers]
    found = [getattr(each, name) for group in groups for each in group.figures]
    largest = max((value for value in found if math.isfinite(value)), default=0.0)
    rows = []
    for group in [*groups, summary.total]:
        values = [getattr(each, name) for each in group.figures]
        cells = tier_cell(group.name, tiers.get(group.name, "")) if tiers is not None else script_cell(group.name)
        text = cell(f"{compact(group.bytes)}B", group.bytes).replace('class="n"', 'class="n lesser"')
        cells += cell(f"{group.languages:,}", group.languages) + text
        if compared:
            premium = cell(decimal_or_dash(group.byte_premium, 2), group.byte_premium)
            cells += premium.replace('class="n"', 'class="n lesser"')
        cells += bars_cell(values, largest) + "".join(cell(form.text(value), value) for value in values)
        cells += "".join(cell(share(each.byte_share), each.byte_share) for each in group.figures)
        rows.append(("total" if group is summary.total else "", cells))
    return table(columns, rows, css="tight")


def _tokenizer_column(summary: Summary, number: int, what: str = "") -> Column:
    dot = f'<i class="tier {colour_of(number)}"></i>'
    return Column(f"{summary.names[number]}{f', {what}' if what else ''}", "n", key=dot)


def _marked(value: float) -> str:
    text = cell(share(value), value)
    return text.replace('class="n"', 'class="n bad"') if value >= BYTES_FROM else text


def _lanes(summary: Summary, number: int, tiers: Mapping[str, str], name: str) -> list[Lane]:
    members: dict[str, list[Spot]] = {group.name: [] for group in summary.tiers}
    for row in summary.languages:
        value = getattr(row.figures[number], name)
        if not math.isnan(value):
            text = FORMS[name].text(value)
            members[row.tier].append(Spot(_label(row), text, None, value, row.tier, tiers.get(row.tier, "t7")))
    return [Lane(tier, tiers.get(tier, "t7"), spots) for tier, spots in members.items() if spots]


def _end(row: Row, name: str) -> str:
    """Return what is written beside a dot: the language, and the highest value of the tokenizers."""
    highest = max(value for each in row.figures if not math.isnan(value := getattr(each, name)))
    return f"{language_name(row.language.code) or row.language.code} {FORMS[name].text(highest)}"


def _label(row: Row) -> str:
    name = language_name(row.language.code)
    known = ", ".join(part for part in (row.language.code, row.tier) if part)
    return f"{name} ({known})" if name else known
