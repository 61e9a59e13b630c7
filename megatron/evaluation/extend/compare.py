"""Bits per byte of every language before and after a vocabulary has grown: tables, files, and what must not change."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import orjson

from megatron.evaluation.language_model import LanguageModel
from megatron.evaluation.metrics.likelihood import text_metrics
from megatron.evaluation.report.scores.tiers import Tiers
from megatron.evaluation.report.scores.values import UNMAPPED
from megatron.evaluation.texts import score_texts
from megatron.monitor.summary import macro_mean
from megatron.utils.files import write_bytes, write_text
from megatron.utils.table import text_table

TSV, JSON = "bits_per_byte.tsv", "bits_per_byte.json"
"""What is written into the new model's folder."""

FEW_TOKENS = 1000
"""With fewer of them a change of a pivot by some percent is chance."""


@dataclasses.dataclass(frozen=True)
class LanguageChange:
    """One language before and after.

    Attributes:
        code: of the corpus.
        script: ISO 15924.
        tier: of the mixture, or where it is not known.
        bytes: of its texts in UTF-8.
        before: bits per byte.
        after: the same.
        tokens_before: that the texts are written with.
        tokens_after: the same.
        lossy_before: share of texts that the tokenizer cannot write, and whose bits per byte say little.
        lossy_after: the same.
    """

    code: str
    script: str
    tier: str
    bytes: int
    before: float
    after: float
    tokens_before: int
    tokens_after: int
    lossy_before: float
    lossy_after: float

    @property
    def percent(self) -> float:
        """Change of the bits per byte; negative is better."""
        return _percent(self.before, self.after)


def score_languages(model: LanguageModel, texts: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """Score the texts of all languages together, and return the metrics of each.

    Args:
        model: scores.
        texts: by corpus code.
    """
    scores = iter(score_texts(model, [text for of_one in texts.values() for text in of_one]))
    return {code: text_metrics([next(scores) for _ in of_one]) for code, of_one in texts.items()}


def compared(
    before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]], *, tiers: Tiers | None
) -> list[LanguageChange]:
    """Join what :func:`score_languages` has found before and after, in the order of the codes."""
    return [
        LanguageChange(
            code=code,
            script=code.partition("_")[2],
            tier=tiers.language(code).tier if tiers else UNMAPPED,
            bytes=round(old["bytes"]),
            before=old["bits_per_byte"],
            after=after[code]["bits_per_byte"],
            tokens_before=round(old["tokens"]),
            tokens_after=round(after[code]["tokens"]),
            lossy_before=old["lossy"],
            lossy_after=after[code]["lossy"],
        )
        for code, old in sorted(before.items())
    ]


def broken_pivots(changes: Iterable[LanguageChange], *, pivots: Sequence[str], most_percent: float) -> Iterator[str]:
    """Tell which pivots have lost more than they may; one whose bits per byte are no number always has."""
    for change in changes:
        if change.code in pivots and not change.percent <= most_percent:
            yield (
                f"{change.code}: {change.before:.4f} bits per byte before, {change.after:.4f} after, "
                f"{change.percent:+.2f}%; at most {most_percent:+g}% is allowed"
            )


def scant_pivots(changes: Iterable[LanguageChange], *, pivots: Sequence[str]) -> Iterator[str]:
    """Tell which pivots have fewer than :data:`FEW_TOKENS` tokens of text."""
    for change in changes:
        if change.code in pivots and change.tokens_before < FEW_TOKENS:
            yield (
                f"{change.code}, a pivot, was measured on {change.tokens_before:,} tokens alone, which say little: "
                f"give text of {FEW_TOKENS:,} or more"
            )


def table_lines(changes: Sequence[LanguageChange], *, tiers: Sequence[str]) -> Iterator[str]:
    """Yield every language, then the macro means of tiers (where there are some), of scripts and of all."""
    header = ("language", "bytes", "before", "after", "change", "tokens before", "tokens after", "change")
    yield text_table([header, *(_cells(change.code, [change]) for change in changes)], ruled=True)
    groups = []
    if tiers:
        groups.append(("tier", _grouped(changes, lambda change: change.tier, order=tiers)))
    groups.append(("script", _grouped(changes, lambda change: change.script)))
    for name, members in groups:
        yield ""
        rows = [_cells(f"{key} ({len(of_one):,})", of_one) for key, of_one in members.items()]
        yield text_table([(name, *header[1:]), *rows, _cells(f"all ({len(changes):,})", changes)], ruled=True)
    lossy = [change.code for change in changes if change.lossy_before or change.lossy_after]
    if lossy:
        yield ""
        yield f"lossy, so that bits per byte say little (see {TSV}): {', '.join(lossy)}"


def write_tables(
    changes: Sequence[LanguageChange], folder: Path, *, about: Mapping[str, object], prefix: str = ""
) -> None:
    """Write all numbers as a table and as JSON.

    Args:
        changes: one for each language.
        folder: where to.
        about: what else JSON says: how the rows were made, which limit there is.
        prefix: of the names of the two files.
    """
    fields = [field.name for field in dataclasses.fields(LanguageChange)]
    rows = [{**dataclasses.asdict(change), "change_percent": change.percent} for change in changes]
    lines = ["\t".join((*fields, "change_percent"))]
    lines += ["\t".join(str(row[field]) for field in (*fields, "change_percent")) for row in rows]
    write_text(folder / f"{prefix}{TSV}", "\n".join(lines) + "\n")
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    write_bytes(folder / f"{prefix}{JSON}", orjson.dumps({**about, "languages": rows}, option=options))


def _grouped(
    changes: Iterable[LanguageChange], key: Callable[[LanguageChange], str], *, order: Sequence[str] = ()
) -> dict[str, list[LanguageChange]]:
    groups: dict[str, list[LanguageChange]] = {}
    for change in changes:
        groups.setdefault(key(change), []).append(change)
    names = [*(name for name in order if name in groups), *sorted(groups.keys() - set(order))]
    return {name: groups[name] for name in names}


def _cells(name: str, changes: Sequence[LanguageChange]) -> tuple[str, ...]:
    """Return a line of a table: bits per byte as macro means, bytes and tokens as sums."""
    before, after = (macro_mean(getattr(change, field) for change in changes) for field in ("before", "after"))
    tokens = [sum(getattr(change, field) for change in changes) for field in ("tokens_before", "tokens_after")]
    return (
        name, f"{sum(change.bytes for change in changes):,}",
        f"{before:.4f}", f"{after:.4f}", f"{_percent(before, after):+.2f}%",
        f"{tokens[0]:,}", f"{tokens[1]:,}", f"{_percent(*tokens):+.1f}%",
    )  # fmt: skip


def _percent(before: float, after: float) -> float:
    return (after / before - 1) * 100 if before else math.nan
