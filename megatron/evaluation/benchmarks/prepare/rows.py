"""The rows of upstream files, whatever they are written in."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from megatron.config.corpus_schema import ReadConfig
from megatron.corpus.reading.fields import kind_of
from megatron.corpus.reading.jsonl import jsonl_documents
from megatron.corpus.reading.problems import BrokenRecord, Problems, ReadCounts, listed
from megatron.corpus.reading.tables import table_documents

Record = dict[str, Any]

_POLICY = ReadConfig(max_document_bytes=16 << 20)


def object_rows(path: Path, columns: Sequence[str], counts: ReadCounts) -> Iterator[Record]:
    """Yield the objects of a file of JSON lines, of CSV with a header, or of Parquet; each with its ``row`` number.

    Args:
        path: the file.
        columns: those that matter, for Parquet.
        counts: counts what cannot be read.

    Raises:
        CorpusError: the file cannot be read.
    """
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    if name.endswith(".parquet"):
        problems = Problems(path, _POLICY, counts, unit="row")
        yield from table_documents(_with_number, columns, "", problems, is_parquet=True)
    elif name.endswith(".csv"):
        yield from _csv_rows(path, counts)
    else:
        yield from jsonl_documents(_with_number, "row", Problems(path, _POLICY, counts))


def _with_number(record: Any, id: str) -> Record:
    return {**record, "row": id.rpartition(":")[2]}


def _csv_rows(path: Path, counts: ReadCounts) -> Iterator[Record]:
    """Yield the rows of a CSV file as objects; texts in quotes may have line feeds."""
    problems = Problems(path, _POLICY, counts, unit="row")
    header: list[str] | None = None
    number = 0

    def lines() -> Iterator[str]:
        for line in problems.lines():
            try:
                if line is None:
                    raise problems.too_long()
                yield line.decode("utf-8") + "\n"
            except (UnicodeDecodeError, BrokenRecord):
                # A line cannot be left out of the middle of a quoted text: the reader of rows must see that it is bad.
                yield "\0\n"

    rows = csv.reader(lines(), strict=True)
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            number += 1
            problems.drop(number, BrokenRecord("wrong_columns", f"no row of CSV ({error})", "mend the file"))
            continue
        if header is None:
            header = cells
            continue
        number += 1
        if len(cells) != len(header) or any("\0" in cell for cell in cells):
            advice = "mend the file"
            problems.drop(number, BrokenRecord("wrong_columns", f"has {len(cells)} cells of {len(header)}", advice))
            continue
        yield {**dict(zip(header, cells, strict=True)), "row": str(number)}


def tsv_rows(path: Path, counts: ReadCounts) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each line of a file of tab-separated values, with the line's number.

    A cell that begins with a quotation mark is read as CSV does, unless that leaves fewer cells than there are tabs.

    Raises:
        CorpusError: the file cannot be read.
    """
    problems = Problems(path, _POLICY, counts)
    for number, line in enumerate(problems.lines(), start=1):
        if line is not None and not line.strip():
            counts.empty_lines += 1
            continue
        try:
            text = problems.decode(line).removesuffix("\r")
        except BrokenRecord as broken:
            problems.drop(number, broken)
            continue
        plain = text.split("\t")
        try:
            quoted = next(csv.reader([text], delimiter="\t"))
        except (csv.Error, StopIteration):
            quoted = plain
        yield number, quoted if len(quoted) == len(plain) else plain


def text_lines(path: Path, counts: ReadCounts) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file that are not blank, with their numbers from 1.

    Raises:
        CorpusError: the file cannot be read.
    """
    problems = Problems(path, _POLICY, counts)
    for number, line in enumerate(problems.lines(), start=1):
        try:
            yield number, problems.decode(line).strip()
        except BrokenRecord as broken:
            problems.drop(number, broken)


def text_of(record: Record, *keys: str) -> str:
    """Return the first of some fields that has a value, as a text without blanks at its ends.

    Raises:
        BrokenRecord: none has one, or it is no text, or blank.
    """
    key = next((key for key in keys if record.get(key) is not None), None)
    if key is None:
        problem = f"has no field {' or '.join(map(repr, keys))}; it has: {listed(record)}"
        raise BrokenRecord("wrong_fields", problem, "is this the benchmark that was named?")
    value = record[key]
    if not isinstance(value, str):
        raise BrokenRecord("wrong_fields", f"field {key!r} is not a text but {kind_of(value)}", "mend the file")
    if not value or value.isspace():
        raise BrokenRecord("blank", f"field {key!r} is blank", "leave it out")
    return value.strip()


def id_of(record: Record, *keys: str) -> str:
    """Return the first of some fields that has a value, as a text; the number of the row where none has."""
    for key in keys:
        value = record.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()[:200]
    return str(record["row"])
