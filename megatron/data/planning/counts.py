"""Sizes of corpora from tables of counts, so that a mixture can be planned before anything is tokenised.

Three layouts of tab-separated tables are read, told apart by their header; lines that begin with ``#`` are comments:

* MaLA's ``languages.tsv``: ``code texts tokens``, and more columns. Its "tokens" are whitespace-separated words.
* MaLA's ``pairs.tsv``: ``pair src_texts src_tokens tgt_tokens total_tokens``, and more columns.
* any other: ``name source``, with ``words`` or ``tokens`` or both, and ``code``, ``documents``, ``bytes`` if known. A
  ``~`` before a count marks it as an estimate.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo
from megatron.data.manifest_rules import CORPUS_CODE

NO_LANGUAGE = "zxx_Zyyy"
"""Code of text without a language, such as code."""

_COUNT = re.compile(r"~?(\d+)")
_GENERIC = ("name", "code", "source", "documents", "words", "tokens", "bytes", "note")
_MOST_SHOWN = 20


class CountsError(ValueError):
    """Tables of counts that cannot be read; the message lists every problem with its file and line."""


@dataclasses.dataclass(frozen=True)
class TokensPerWord:
    """How many tokens a whitespace-separated word has.

    Attributes:
        default: where nothing better is known.
        known: corpus codes (``swh_Latn``) and scripts (``Latn``) with a figure of their own.
    """

    default: float
    known: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def of(self, code: str) -> float:
        """Return the figure of a code, else of its script, else the default; of a pair, the mean of both sides."""
        sides = code.split("-")
        return math.fsum(
            self.known.get(side, self.known.get(side.rpartition("_")[2], self.default)) for side in sides
        ) / len(sides)


@dataclasses.dataclass(frozen=True)
class Counts:
    """Corpora that are known by their counts alone.

    Attributes:
        manifest: one training shard for each corpus. There are no files behind it.
        estimated: names of the corpora whose tokens were reckoned from words, or are estimates in the table itself.
        without_bytes: names of the corpora of languages whose bytes are not known (0 in the manifest).
    """

    manifest: Manifest
    estimated: frozenset[str]
    without_bytes: frozenset[str]

    def require_unit(self, unit: str) -> None:
        """Refuse tiers in bytes where the counts have none, since every such corpus would fall below the lowest tier.

        Raises:
            CountsError: naming some of the corpora.
        """
        if unit == "bytes" and self.without_bytes:
            names = ", ".join(sorted(self.without_bytes)[:3]) + (", ..." if len(self.without_bytes) > 3 else "")
            raise CountsError(
                f"mixture.unit is bytes, but the counts of {len(self.without_bytes)} corpora have none ({names}); "
                "add a column `bytes`, or give the tiers in words"
            )


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One line of a table. ``words`` and ``tokens`` are None where the table does not know them."""

    name: str
    code: str
    source: str
    documents: int
    words: int | None
    tokens: int | None
    bytes: int | None
    tokens_per_word: float
    estimated: bool = True


Row = Mapping[str, str]


def read_tokens_per_word(value: str) -> TokensPerWord:
    """Read a number, or a table with the columns ``code`` (a corpus code, a script or ``*``) and ``tokens_per_word``.

    Raises:
        CountsError: listing every problem.
    """
    try:
        number = float(value)
    except ValueError:
        return _tokens_per_word_table(Path(value))
    if not 0 < number < math.inf:
        raise CountsError(f"{value} tokens per word: give a number above 0, or a table")
    return TokensPerWord(number)


def _tokens_per_word_table(path: Path) -> TokensPerWord:
    problems: list[str] = []
    known: dict[str, float] = {}
    for where, row in _table(path, problems, refuse=_no_figures):
        code, text = row.get("code", ""), row.get("tokens_per_word", "")
        try:
            number = float(text)
        except ValueError:
            number = 0.0
        if not code or not 0 < number < math.inf:
            problems.append(f"{where}: {code or 'no code'} has {text!r} tokens per word; give a number above 0")
        elif code in known:
            problems.append(f"{where}: {code} is given twice; keep one")
        known[code] = number
    if "*" not in known and not problems:
        problems.append(f"{path}: has no row `*`, the figure where no code and no script is known; add one")
    _raise(problems)
    return TokensPerWord(known.pop("*"), known)


def read_counts(files: Sequence[Path | str], *, tokens_per_word: TokensPerWord) -> Counts:
    """Read tables of counts into a manifest without files.

    Args:
        files: the tables.
        tokens_per_word: what tokens are reckoned by where a table has words alone.

    Raises:
        CountsError: listing every problem of all files.
    """
    problems: list[str] = []
    entries: dict[str, _Entry] = {}
    first: dict[str, str] = {}
    for path in map(Path, files):
        before = len(problems) + len(entries)
        for where, row in _table(path, problems, refuse=_no_counts):
            entry = _entry(row, where, problems, tokens_per_word)
            if entry is None:
                continue
            if entry.name in entries:
                problems.append(f"{where}: {entry.name} is given twice, first in {first[entry.name]}; keep one")
            entries.setdefault(entry.name, entry)
            first.setdefault(entry.name, where)
        if len(problems) + len(entries) == before:
            problems.append(f"{path}: holds no counts")
    _raise(problems)
    ordered = sorted(entries.values(), key=lambda entry: entry.name)
    tokenizer = TokenizerInfo(kind="none", fingerprint="counts", vocab_size=1, eod_id=0)
    return Counts(
        manifest=Manifest(tokenizer, tuple(_shard(entry) for entry in ordered)),
        estimated=frozenset(entry.name for entry in ordered if entry.estimated),
        # Text without a language has no size tier, so its bytes are not asked for.
        without_bytes=frozenset(e.name for e in ordered if e.bytes is None and e.code != NO_LANGUAGE),
    )


def _raise(problems: Sequence[str]) -> None:
    if problems:
        more = [f"... and {len(problems) - _MOST_SHOWN} more"] if len(problems) > _MOST_SHOWN else []
        raise CountsError("\n".join([*problems[:_MOST_SHOWN], *more]))


def _table(path: Path, problems: list[str], *, refuse: Callable[[Sequence[str]], str]) -> Iterator[tuple[str, Row]]:
    """Yield (file:line, column to text) for each line after the header; what cannot be read becomes a problem.

    Args:
        path: the table.
        problems: gets what is wrong.
        refuse: says what is wrong with the names of the columns, or nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        problems.append(f"{path}: cannot be read ({error.strerror}); check the path")
        return
    except UnicodeDecodeError as error:
        problems.append(f"{path}: is not UTF-8 at byte {error.start}; save it as UTF-8")
        return
    header: list[str] | None = None
    for number, line in enumerate(lines, start=1):
        cells = [cell.strip() for cell in line.split("\t")]
        if not any(cells) or line.startswith("#"):
            continue
        where = f"{path}:{number}"
        if header is None:
            header = cells
            if refusal := refuse(header):
                problems.append(f"{where}: the columns {' '.join(header)} {refusal}")
                return
        elif len(cells) > len(header):
            problems.append(f"{where}: has {len(cells)} cells, but the header names {len(header)}")
        else:
            # Editors cut empty cells off the end of a line.
            yield where, dict(zip(header, [*cells, *[""] * (len(header) - len(cells))], strict=True))


_Maker = Callable[[Row, str, list[str], TokensPerWord], _Entry]


def _no_figures(columns: Sequence[str]) -> str:
    return "" if {"code", "tokens_per_word"} <= set(columns) else "are not `code` and `tokens_per_word`"


def _no_counts(columns: Sequence[str]) -> str:
    known = (
        "are no table of counts: needed are `code texts tokens` (languages), `pair src_texts src_tokens tgt_tokens "
        f"total_tokens` (pairs), or `name source` with words or tokens and no others than {', '.join(_GENERIC)}"
    )
    return known if _layout(columns) is None else ""


def _layout(columns: Sequence[str]) -> _Maker | None:
    names = set(columns)
    if {"code", "texts", "tokens"} <= names:
        return _language
    if {"pair", "src_texts", "src_tokens", "tgt_tokens", "total_tokens"} <= names:
        return _pair
    generic = {"name", "source"} <= names and names & {"words", "tokens"} and names <= set(_GENERIC)
    return _generic if generic else None


def _entry(row: Row, where: str, problems: list[str], tokens_per_word: TokensPerWord) -> _Entry | None:
    """Return what one line says; None, and a problem for each, when something in it is wrong."""
    maker = _layout(list(row))
    assert maker is not None, "the header was checked"
    found: list[str] = []
    entry = maker(row, where, found, tokens_per_word)
    if not entry.name:
        found.append(f"{where}: has no name")
    if not CORPUS_CODE.fullmatch(entry.code):
        found.append(f"{where}: code {entry.code!r} is not like eng_Latn or eng_Latn-fra_Latn")
    if not found and not entry.tokens and not entry.words:
        found.append(f"{where}: {entry.name} has neither words nor tokens")
    problems += found
    return None if found else entry


def _number(row: Row, column: str, where: str, problems: list[str]) -> int | None:
    """Return a count; None when it is not given. What is no count becomes a problem."""
    text = row.get(column, "")
    match = _COUNT.fullmatch(text)
    if text and match is None:
        problems.append(f"{where}: {column} = {text!r} is not a whole number; write it with digits only")
    return int(match[1]) if match is not None else None


def _language(row: Row, where: str, problems: list[str], tokens_per_word: TokensPerWord) -> _Entry:
    code = row["code"]
    texts, words = (_number(row, column, where, problems) for column in ("texts", "tokens"))
    return _Entry(code, code, "monolingual", texts or 1, words, None, None, tokens_per_word.of(code))


def _pair(row: Row, where: str, problems: list[str], tokens_per_word: TokensPerWord) -> _Entry:
    code = row["pair"]
    columns = ("src_texts", "src_tokens", "tgt_tokens", "total_tokens")
    texts, source, target, total = (_number(row, column, where, problems) for column in columns)
    if source is not None and target is not None and total is not None and source + target != total:
        problems.append(f"{where}: src_tokens + tgt_tokens = {source + target}, but total_tokens = {total}")
    first, _, second = code.partition("-")
    tokens = (source or 0) * tokens_per_word.of(first) + (target or 0) * tokens_per_word.of(second)
    return _Entry(code, code, "bilingual", texts or 1, total, None, None, tokens / total if total else 1.0)


def _generic(row: Row, where: str, problems: list[str], tokens_per_word: TokensPerWord) -> _Entry:
    name = row["name"]
    code = row.get("code", "") or (name if CORPUS_CODE.fullmatch(name) else NO_LANGUAGE)
    if not row["source"]:
        problems.append(f"{where}: {name} has no source; give one, such as monolingual, bilingual or code")
    columns = ("documents", "words", "tokens", "bytes")
    documents, words, tokens, size = (_number(row, column, where, problems) for column in columns)
    estimated = tokens is None or row["tokens"].startswith("~")
    return _Entry(name, code, row["source"], documents or 1, words, tokens, size, tokens_per_word.of(code), estimated)


def _shard(entry: _Entry) -> ShardInfo:
    sides = [side.split("_") for side in entry.code.split("-")]
    words = entry.words if entry.words is not None else round((entry.tokens or 0) / entry.tokens_per_word)
    tokens = entry.tokens if entry.tokens is not None else max(1, round(words * entry.tokens_per_word))
    return ShardInfo(
        name=entry.name,
        path=entry.name,
        split="train",
        source=entry.source,
        language="-".join(side[0] for side in sides),
        script="-".join(side[1] for side in sides),
        documents=entry.documents,
        words=words,
        tokens=tokens,
        bytes=entry.bytes or 0,
        unk_tokens=0,
        dtype="int32",
        content_hash="",
        code=entry.code,
    )
