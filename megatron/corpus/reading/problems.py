"""What becomes of records that cannot be used: counted by reason with a few examples, or an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from megatron.config.corpus_schema import ReadConfig
from megatron.corpus.document import CorpusError
from megatron.corpus.reading.compressed import CutShortError, chunks
from megatron.corpus.reading.lines import lines

#: Why records are left out: name and explanation.
REASONS: Mapping[str, str] = MappingProxyType(
    {
        "not_json": "the line is not JSON",
        "not_utf8": "the bytes are not UTF-8",
        "lone_surrogate": "the text holds half of a surrogate pair, which is no character",
        "not_an_object": "the JSON is no object",
        "wrong_fields": "the record lacks the fields of every known kind, or one of them has the wrong type",
        "too_long": "the record is longer than `max_document_bytes`",
        "cut_short": "a compressed file ends in the middle of this record; how many would have followed is not known",
        "blank": "the text, or one side of a pair, is empty or white space",
    }
)

_EXAMPLES = 3
# What is wrong may quote the file, which may hold anything.
_PROBLEM_CHARACTERS = 500
_FIELDS = 30

_Piece = TypeVar("_Piece", bytes, "bytes | None")


class BrokenRecord(Exception):  # noqa: N818 - it never leaves the reader
    """One record that cannot be used.

    Args:
        reason: a name of :data:`REASONS`.
        problem: what is wrong with it.
        advice: what to change.
    """

    def __init__(self, reason: str, problem: str, advice: str) -> None:
        super().__init__(problem)
        self.reason, self.problem, self.advice = reason, _cut(problem, _PROBLEM_CHARACTERS), advice


def listed(fields: Iterable[str]) -> str:
    """Write the names of a record's fields for people: the first of them, cut short."""
    return ", ".join(_cut(str(field), _FIELDS) for field in islice(fields, _FIELDS)) or "no fields"


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}..."


def not_utf8(error: UnicodeDecodeError, unit: str) -> BrokenRecord:
    """Return what is wrong with bytes that are not UTF-8."""
    problem = f"not UTF-8 at byte offset {error.start} of the {unit} ({error.reason})"
    return BrokenRecord("not_utf8", problem, "convert the file to UTF-8")


def blank(what: str) -> BrokenRecord:
    """Return what is wrong with a text that is empty or only white space."""
    return BrokenRecord("blank", f"{what} is blank", "leave it out")


@dataclass
class ReadCounts:
    """What a reader has met so far: every record is counted once, by kind or by the reason why it was left out.

    Attributes:
        kinds: documents handed out, by kind: ``text``, ``pair``, ``instruction`` or ``code``.
        dropped: records left out, by reason (see :data:`REASONS`).
        examples: for the first few of each reason, the reason, and the place with what is wrong there.
        empty_lines: lines without anything; they are no records.
        read_bytes: how much of the file has been read, in bytes on disk.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)
    empty_lines: int = 0
    read_bytes: int = 0

    @property
    def documents(self) -> int:
        """Documents handed out."""
        return sum(self.kinds.values())

    @property
    def blank(self) -> int:
        """Documents left out because their text is empty or only white space."""
        return self.dropped["blank"]

    def read(self, size_bytes: int) -> None:
        """Count bytes that have been read."""
        self.read_bytes += size_bytes


class Problems:
    """Reads one file for the readers of the formats, and decides about its broken records.

    Args:
        path: the file.
        policy: stop with an error, or leave broken records out.
        counts: where they are counted.
        unit: what a record is: ``line``, ``row``, ``unit`` or ``file``.

    Attributes:
        is_cut: whether the file was found to be cut short.
    """

    def __init__(self, path: Path, policy: ReadConfig, counts: ReadCounts, *, unit: str = "line") -> None:
        self.path, self.policy, self.counts, self.unit = path, policy, counts, unit
        self.is_cut = False

    def drop(self, number: int, record: BrokenRecord) -> None:
        """Leave one record out and count it.

        Args:
            number: its place, from 1.
            record: what is wrong with it.

        Raises:
            CorpusError: the policy is to stop at broken records. Blank ones are not broken.
        """
        place = f"{self.path}, {self.unit} {number}: {record.problem}"
        if record.reason != "blank" and self.policy.broken_records == "stop":
            raise CorpusError(f"{place}; {record.advice}")
        self._count(record.reason, place)

    def too_long(self) -> BrokenRecord:
        """Return what is wrong with a record that is longer than the settings allow."""
        problem = f"the {self.unit} is longer than {self.policy.max_document_bytes:,} bytes"
        return BrokenRecord("too_long", problem, "split the document, or raise max_document_bytes")

    def decode(self, data: bytes | None) -> str:
        """Return UTF-8 bytes as a text.

        Raises:
            BrokenRecord: they are not UTF-8, blank, or None, which stands for a record that is too long.
        """
        if data is None:
            raise self.too_long()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise not_utf8(error, self.unit) from None
        if not text or text.isspace():
            raise blank(f"the {self.unit}")
        return text

    def lines(self, path: Path | None = None) -> Iterator[bytes | None]:
        """Yield the lines of the file, or of its other half; where it is cut short, end there if that is the policy."""
        return self._until_cut(lines(path or self.path, self.policy.max_document_bytes, self.counts.read))

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the file in pieces; where it is cut short, end there if that is the policy."""
        return self._until_cut(chunks(self.path, self.counts.read))

    def _until_cut(self, pieces: Iterator[_Piece]) -> Iterator[_Piece]:
        try:
            yield from pieces
        except CutShortError as error:
            if self.policy.cut_short == "stop":
                raise
            self.is_cut = True
            self._count("cut_short", str(error))

    def _count(self, reason: str, place: str) -> None:
        self.counts.dropped[reason] += 1
        if self.counts.dropped[reason] <= _EXAMPLES:
            self.counts.examples.append((reason, place))
