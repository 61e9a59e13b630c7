"""What a finished corpus holds: sizes of text and tokens for each corpus, language, script and source, and its tier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from megatron.config.mixture_schema import MALA_TIERS
from megatron.corpus.pieces import CorpusName
from megatron.data.manifest import Manifest
from megatron.data.mixing.tiers import BELOW
from megatron.utils.files import write_text
from megatron.utils.table import text_table

#: Tiers of pairs of languages by the words of both sides (``emma500-gen2-bi.yml``, which cites where they are from).
PAIR_TIERS: Mapping[str, float] = {
    "very high": 1e10,
    "high": 1e9,
    "medium-high": 5e8,
    "medium": 1e8,
    "medium-low": 1e7,
    "low": 1e6,
    "very low": 0,
}

_COLUMNS = ("documents", "bytes", "characters", "words")


@dataclass
class TextSizes:
    """What text of each split holds: documents, UTF-8 bytes, code points and whitespace-separated words."""

    splits: dict[str, list[int]] = field(default_factory=dict)

    def add(self, sizes: Mapping[str, Sequence[int]]) -> None:
        """Add the sizes of a piece."""
        for split, counts in sizes.items():
            old = self.splits.get(split, [0] * len(_COLUMNS))
            self.splits[split] = [a + b for a, b in zip(old, counts, strict=True)]

    def of(self, column: str, splits: Iterable[str] = ("train", "valid", "test")) -> int:
        """Return one of the sizes, added up over splits."""
        place = _COLUMNS.index(column)
        return sum(self.splits[split][place] for split in splits if split in self.splits)


@dataclass(frozen=True)
class TokenSizes:
    """What the shards of a corpus hold, by one tokenizer: all splits together."""

    tokens: int = 0
    bytes: int = 0
    unk_tokens: int = 0
    byte_tokens: int = 0

    def __add__(self, other: TokenSizes) -> TokenSizes:
        return TokenSizes(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Row:
    """One corpus, or several added up.

    Attributes:
        name: of the corpus or group.
        text: sizes of its text.
        tokens: for each tokenizer, what its shards hold.
        tier: the tier that its size proposes; empty for groups.
    """

    name: str
    source: str
    text: TextSizes
    tokens: Mapping[str, TokenSizes]
    tier: str


def rows_of(sizes: Mapping[CorpusName, TextSizes], manifests: Mapping[str, Manifest], *, unit: str) -> list[Row]:
    """Return a row for each corpus, the largest first.

    Args:
        sizes: what the text of each corpus holds.
        manifests: the shards of each tokenizer, by its name.
        unit: what tiers are measured in: ``words``, ``bytes``, or ``tokens`` of the first tokenizer.
    """
    tokens: dict[str, dict[str, TokenSizes]] = {}
    for tokenizer, manifest in manifests.items():
        for shard in manifest.shards:
            of_corpus = tokens.setdefault(shard.name, {})
            held = TokenSizes(shard.tokens, shard.bytes, shard.unk_tokens, shard.byte_tokens)
            of_corpus[tokenizer] = of_corpus.get(tokenizer, TokenSizes()) + held
    rows = []
    for corpus, text in sizes.items():
        of_corpus = tokens.get(corpus.name, {})
        size = _size(text, of_corpus, unit)
        rows.append(Row(corpus.name, corpus.source, text, of_corpus, _tier(corpus, size)))
    return sorted(rows, key=lambda row: (-row.text.of("bytes"), row.name))


def grouped(rows: Sequence[Row], sizes: Iterable[CorpusName], by: str) -> list[Row]:
    """Return corpora added up by ``language``, ``script`` or ``source``, the largest first."""
    corpora = {corpus.name: corpus for corpus in sizes}
    key: Callable[[CorpusName], str] = {
        "language": lambda corpus: "-".join(label.language for label in corpus.labels),
        "script": lambda corpus: "-".join(sorted({label.script for label in corpus.labels})),
        "source": lambda corpus: corpus.source,
    }[by]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(corpora[row.name]), []).append(row)
    added = [added_up(name, members) for name, members in groups.items()]
    return sorted(added, key=lambda row: (-row.text.of("bytes"), row.name))


def added_up(name: str, rows: Sequence[Row]) -> Row:
    """Return rows as one."""
    text = TextSizes()
    tokens: dict[str, TokenSizes] = {}
    for row in rows:
        text.add(row.text.splits)
        for tokenizer, held in row.tokens.items():
            tokens[tokenizer] = tokens.get(tokenizer, TokenSizes()) + held
    sources = {row.source for row in rows}
    return Row(name, sources.pop() if len(sources) == 1 else "", text, tokens, "")


def table(rows: Sequence[Row], *, heading: str, shown: int = 0) -> str:
    """Return rows as aligned text, with their sum in the last line.

    Args:
        rows: the rows.
        heading: what they are.
        shown: how many to list; 0 lists all.
    """
    tokenizers = list(dict.fromkeys(name for row in rows for name in row.tokens))
    cells = [_heading(heading, tokenizers)]
    cells += [_cells(row, tokenizers) for row in (rows[:shown] if shown else rows)]
    cells.append(_cells(added_up(f"all {len(rows)}", rows), tokenizers))
    lines = text_table(cells, left=3).splitlines()
    if shown and shown < len(rows):
        lines.insert(-1, f"... and {len(rows) - shown:,} more")
    return "\n".join(lines)


def write_tsv(path: Path, rows: Sequence[Row]) -> None:
    """Write a table of tab-separated values with all numbers as they are: a line for each corpus."""
    tokenizers = list(dict.fromkeys(name for row in rows for name in row.tokens))
    splits = ("train", "valid", "test")
    columns = ["corpus", "source", "tier", *(f"{split}_{column}" for split in splits for column in _COLUMNS)]
    columns += [f"{name}:{column}" for name in tokenizers for column in ("tokens", "unk_tokens", "byte_tokens")]
    lines = ["\t".join(columns)]
    for row in rows:
        numbers = [row.text.of(column, [split]) for split in splits for column in _COLUMNS]
        for name in tokenizers:
            held = row.tokens.get(name, TokenSizes())
            numbers += [held.tokens, held.unk_tokens, held.byte_tokens]
        lines.append("\t".join([row.name, row.source, row.tier, *map(str, numbers)]))
    write_text(path, "\n".join(lines) + "\n")


def _heading(heading: str, tokenizers: Sequence[str]) -> tuple[str, ...]:
    each = [column for name in tokenizers for column in (f"{name}: tokens", "bytes/token", "unk", "byte tokens")]
    return (heading, "source", "tier", "documents", "held out", "bytes", "characters", "words", *each)


def _cells(row: Row, tokenizers: Sequence[str]) -> tuple[str, ...]:
    held_out = row.text.of("documents", ("valid", "test"))
    counts = [row.text.of("documents"), held_out, *(row.text.of(column) for column in _COLUMNS[1:])]
    cells = [row.name, row.source, row.tier, *(f"{count:,}" for count in counts)]
    for name in tokenizers:
        held = row.tokens.get(name)
        if held is None or not held.tokens:
            cells += ["-"] * 4
            continue
        rates = (f"{100 * part / held.tokens:.2f} %" for part in (held.unk_tokens, held.byte_tokens))
        cells += [f"{held.tokens:,}", f"{held.bytes / held.tokens:.2f}", *rates]
    return tuple(cells)


def _size(text: TextSizes, tokens: Mapping[str, TokenSizes], unit: str) -> int:
    if unit == "tokens":
        return next((held.tokens for held in tokens.values()), 0)
    return text.of(unit)


def _tier(corpus: CorpusName, size: int) -> str:
    if not corpus.has_language:
        return ""
    bounds = PAIR_TIERS if corpus.is_pair else {name: tier.above for name, tier in MALA_TIERS.items()}
    return max(((above, name) for name, above in bounds.items() if size > above), default=(0, BELOW))[1]
