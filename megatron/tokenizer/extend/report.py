"""What an extension gives each language and script: tokens before and after, and the premium against a reference."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from megatron.corpus.script import NO_SCRIPT, main_script
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
        premium_before: old tokens per token of the reference on the same documents, None where there are none. Of a
            script, the mean of its corpora.
        premium_after: the same with the new tokens.
        share: of what was learnt from.
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

    @property
    def saved(self) -> float:
        """The part of the old tokens that is saved."""
        return 1 - self.after / self.before if self.before else 0.0


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
            "share",
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
                f"{100 * row.saved:>5.1f}%  {premium[0]:>14}  {premium[1]:>5}"
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
        ]


def corpus_rows(
    sources: Sequence[Source], measured: Mapping[str, Measured], shares: Mapping[str, float], *, parallel: str | None
) -> list[Row]:
    """Return the row of each corpus.

    Args:
        sources: the corpora.
        measured: by name.
        shares: by name.
        parallel: the corpus whose documents those of the others translate, in order, where there are as many of them.
    """
    reference = measured.get(parallel or "")
    rows = []
    for source in sources:
        one = measured[source.name]
        premiums: tuple[float | None, float | None] = (None, None)
        if reference and one.total_documents == reference.total_documents and sum(reference.before.values()):
            premiums = (
                sum(one.before.values()) / sum(reference.before.values()),
                sum(one.after.values()) / sum(reference.after.values()),
            )
        before, after = sum(one.before.values()), sum(one.after.values())
        script = source.code.rpartition("_")[2] if "_" in source.code else NO_SCRIPT
        rows.append(
            Row(
                name=source.name,
                code=source.code,
                script=script,
                documents=one.documents,
                text_bytes=one.text_bytes,
                before=before,
                after=after,
                premium_before=premiums[0],
                premium_after=premiums[1],
                share=shares.get(source.name, 0.0),
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


def _cell(value: float | int | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
