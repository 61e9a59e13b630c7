"""What an extension gives each language and script: tokens before and after, and the premium against a reference."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from megatron.languages.script import NO_SCRIPT, main_script
from megatron.tokenizer.extend.gates import Gate, Measured
from megatron.tokenizer.extend.source import Source

_EXAMPLES = 8


@dataclass(frozen=True)
class Row:
    """Held-out text of one corpus, or of all of one script.

    Attributes:
        name: corpus, or script.
        code: its code; of a script, how many corpora.
        script: ISO 15924.
        documents: held out.
        text_bytes: of those, UTF-8.
        before: old tokens.
        after: new tokens.
        premium_before: old tokens per token of the reference on the documents that both hold out, None where there are
            none, or where their numbers need not mean the same text. Of a script, the mean of its corpora.
        premium_after: the same with the new tokens.
        share: of what was learnt from.
        is_cut: whether the corpus has more text than was read.
    """

    name: str
    code: str
    script: str
    documents: int
    text_bytes: int
    before: int
    after: int
    premium_before: float | None
    premium_after: float | None
    share: float
    is_cut: bool = False

    @property
    def saved(self) -> float | None:
        """The part of the old tokens that is saved; None where nothing is held out."""
        return 1 - self.after / self.before if self.before else None


@dataclass(frozen=True)
class Report:
    """All that is told of an extension; ``facts`` are numbers by name."""

    facts: Mapping[str, Any]
    gates: Sequence[Gate]
    corpora: Sequence[Row]
    scripts: Sequence[Row]
    new_tokens: Mapping[str, Sequence[str]]

    def to_json(self) -> str:
        """Return everything as JSON."""
        content = {
            "facts": self.facts,
            "gates": [{**asdict(gate), "passes": gate.passes} for gate in self.gates],
            "corpora": [{**asdict(row), "saved": row.saved} for row in self.corpora],
            "scripts": [{**asdict(row), "saved": row.saved} for row in self.scripts],
            "new_tokens": {
                script: {"count": len(tokens), "first": tokens[:_EXAMPLES]}
                for script, tokens in self.new_tokens.items()
            },
        }
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"

    def to_tsv(self) -> str:
        """Return the rows of the corpora, tabs between."""
        names = [
            "name", "code", "script", "documents", "text_bytes", "before", "after", "premium_before", "premium_after",
            "share", "is_cut",
        ]  # fmt: skip
        lines = ["\t".join([*names, "saved"])]
        for row in self.corpora:
            values = [*(getattr(row, name) for name in names), row.saved]
            lines.append("\t".join("" if value is None else _cell(value) for value in values))
        return "\n".join(lines) + "\n"

    def lines(self) -> list[str]:
        """Return the tables of scripts and of new tokens."""
        lines = ["script  corpora  held-out bytes  tokens before     after   saved  premium before  after"]
        for row in self.scripts:
            values = (row.premium_before, row.premium_after)
            premium = ["-" if value is None else f"{value:.2f}" for value in values]
            lines.append(
                f"{row.script:<6}  {row.code:>7}  {row.text_bytes:>14,}  {row.before:>13,}  {row.after:>8,}  "
                f"{_percent(row.saved):>6}  {premium[0]:>14}  {premium[1]:>5}"
            )
        lines += ["", "script  new tokens  the first"]
        for script, tokens in self.new_tokens.items():
            lines.append(f"{script:<6}  {len(tokens):>10,}  {' '.join(tokens[:_EXAMPLES])}")
        facts = self.facts
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in facts["dropped_tokens"].items() if count)
        return [
            *lines,
            "",
            f"learnt from {facts['learnt_bytes']:,} bytes, {facts['distinct_words']:,} distinct words; "
            f"{facts['rare_words_dropped']:,} occurrences of rarer words were left out",
            f"{facts['new_characters']:,} of the new tokens are single characters; there was no room for "
            f"{facts['characters_without_room']:,} more",
            f"tokens that were learnt and dropped: {left_out or 'none'}",
            *self._missing(),
        ]

    def _missing(self) -> list[str]:
        """Return what the tables do not tell, and why."""
        lines = []
        if few := [row for row in self.corpora if not row.documents]:
            lines.append(f"{len(few):,} corpora have too few documents to hold one out: {_names(few)}")
        parallel = self.facts["settings"]["parallel"]
        if parallel is None:
            lines.append("no premium: --parallel names the corpus whose documents those of the others translate")
        elif alone := [row for row in self.corpora if row.premium_before is None]:
            lines.append(
                f"{len(alone):,} corpora have no premium: another number of documents than {parallel}, or none held "
                f"out that both have: {_names(alone)}"
            )
        if cut := [row for row in self.corpora if row.is_cut and row.share == 0]:
            lines.append(
                f"of {len(cut):,} pivots the text beyond --max-pivot-bytes was neither guarded nor measured: "
                f"{_names(cut)}"
            )
        return lines


def corpus_rows(
    sources: Sequence[Source], measured: Mapping[str, Measured], shares: Mapping[str, float], *, parallel: str | None
) -> list[Row]:
    """Return the row of each corpus.

    Args:
        sources: the corpora.
        measured: by name.
        shares: by name.
        parallel: the corpus whose documents those of the others translate: the same number, the same text.
    """
    reference = next((source for source in sources if source.name == parallel), None)
    rows = []
    for source in sources:
        one = measured[source.name]
        premiums = (None, None) if reference is None else _premiums(source, reference, measured)
        before, after = sum(one.before.values()), sum(one.after.values())
        script = source.code.rpartition("_")[2] if "_" in source.code else NO_SCRIPT
        rows.append(
            Row(
                name=source.name,
                code=source.code,
                script=script,
                documents=sum(tokens > 0 for tokens in one.before.values()),
                text_bytes=one.text_bytes,
                before=before,
                after=after,
                premium_before=premiums[0],
                premium_after=premiums[1],
                share=shares.get(source.name, 0.0),
                is_cut=source.is_cut,
            )
        )
    return rows


def script_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the row of each script, the one with the most old tokens first."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.script].append(row)

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    summed = [
        Row(
            name=script,
            code=str(len(group)),
            script=script,
            documents=sum(row.documents for row in group),
            text_bytes=sum(row.text_bytes for row in group),
            before=sum(row.before for row in group),
            after=sum(row.after for row in group),
            premium_before=mean([row.premium_before for row in group]),
            premium_after=mean([row.premium_after for row in group]),
            share=sum(row.share for row in group),
            is_cut=any(row.is_cut for row in group),
        )
        for script, group in groups.items()
    ]
    return sorted(summed, key=lambda row: (-row.before, row.script))


def by_script(shown: Sequence[str], is_part: Callable[[str], bool]) -> dict[str, list[str]]:
    """Return the new tokens by script, the script with the most first; parts of characters are of no script."""
    groups: dict[str, list[str]] = defaultdict(list)
    for token in shown:
        groups["parts" if is_part(token) else main_script(token)].append(token)
    return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))


def _premiums(
    source: Source, reference: Source, measured: Mapping[str, Measured]
) -> tuple[float | None, float | None]:
    """Return the tokens of a corpus per token of the reference, before and after, on what both have held out."""
    one, other = measured[source.name], measured[reference.name]
    shorter = source if one.total_documents < other.total_documents else reference
    if one.total_documents != other.total_documents and not shorter.is_cut:
        return None, None  # a document is missing somewhere, and moves all that follow
    # Only a part of the last document may have been read of a corpus that is cut.
    ends = [each.total_documents for each, of in ((one, source), (other, reference)) if of.is_cut]
    shared = [
        number for number, tokens in one.before.items() if tokens and other.before.get(number) and number not in ends
    ]
    if not shared:
        return None, None
    before, after = (
        sum(mine[number] for number in shared) / sum(theirs[number] for number in shared)
        for mine, theirs in ((one.before, other.before), (one.after, other.after))
    )
    return before, after


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _names(rows: Sequence[Row]) -> str:
    more = f" and {len(rows) - _EXAMPLES:,} more" if len(rows) > _EXAMPLES else ""
    return f"{', '.join(row.name for row in rows[:_EXAMPLES])}{more}"


def _cell(value: float | int | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
