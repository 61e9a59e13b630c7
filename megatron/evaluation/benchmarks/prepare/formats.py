"""The upstream formats: which files, and which record each row of them makes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from megatron.corpus.reading.problems import BrokenRecord, ReadCounts
from megatron.evaluation.benchmarks.prepare.rows import Record, id_of, object_rows, text_lines, text_of, tsv_rows
from megatron.evaluation.benchmarks.prepare.sources import Source

# Names of the columns of SIB-200 and Taxi-1500, in lower case; files of the latter come without a header.
_TEXT_COLUMNS = ("text", "verse", "sentence")
_LABEL_COLUMNS = ("category", "label", "classification")
_ID_COLUMNS = ("index_id", "id", "verse_id")
_NO_HEADER = ("index_id", "category", "text")
# A line of the Parallel Bible Corpus: book, chapter and verse as eight digits, a tab, the verse.
_VERSE = re.compile(r"(\d{8})\t(.*)", re.DOTALL)


class Row(NamedTuple):
    """A prepared record.

    Attributes:
        code: its upstream language code.
        record: its fields; ``id`` is one of them.
        text: a text in its language.
    """

    code: str
    record: Record
    text: str


class Problem(NamedTuple):
    """A row that cannot be used, with its number."""

    number: int
    broken: BrokenRecord


RowsOf = Callable[[Source, frozenset[str], ReadCounts], Iterator[Row | Problem]]
"""Reads a source; the labels that an answer may have, where it is one of some, come with it."""


class UpstreamFormat(NamedTuple):
    """How a benchmark comes.

    Attributes:
        endings: of its files.
        rows: reads one of them.
        rows_have_codes: whether every row names its language, so that one file may hold many.
    """

    endings: Sequence[str]
    rows: RowsOf
    rows_have_codes: bool = False


def _labelled(source: Source, labels: frozenset[str], counts: ReadCounts) -> Iterator[Row | Problem]:
    """Read a text and its label from each line."""
    columns: Sequence[str] | None = None
    for number, cells in tsv_rows(source.path, counts):
        if columns is None:
            lowered = [cell.strip().lower() for cell in cells]
            has_header = bool(set(lowered) & {*_TEXT_COLUMNS}) and bool(set(lowered) & {*_LABEL_COLUMNS})
            columns = lowered if has_header else _NO_HEADER
            if has_header:
                continue
        try:
            if len(cells) != len(columns):
                problem = f"has {len(cells)} columns instead of {len(columns)}"
                raise BrokenRecord("wrong_columns", problem, "mend the file")
            record: Record = {**dict(zip(columns, cells, strict=True)), "row": str(number)}
            label = text_of(record, *_LABEL_COLUMNS)
            if label not in labels:
                problem = f"has the label {label!r}; known are {', '.join(sorted(labels))}"
                raise BrokenRecord("unknown_label", problem, "add it to `labels` of the definition")
            text = text_of(record, *_TEXT_COLUMNS)
        except BrokenRecord as broken:
            yield Problem(number, broken)
            continue
        yield Row(source.code, {"id": id_of(record, *_ID_COLUMNS), "text": text, "label": label}, text)


def _aligned(source: Source, _labels: frozenset[str], counts: ReadCounts) -> Iterator[Row | Problem]:
    """Read sentences that are aligned by the numbers of their lines."""
    for number, text in text_lines(source.path, counts):
        yield Row(source.code, {"id": str(number), "text": text}, text)


def _texts(source: Source, _labels: frozenset[str], counts: ReadCounts) -> Iterator[Row | Problem]:
    """Read texts, one a line or one an object."""
    code = source.code.partition("-x-bible")[0]
    if source.path.name.removesuffix(".gz").removesuffix(".zst").endswith(".txt"):
        is_bible = code != source.code
        for number, line in text_lines(source.path, counts):
            verse = _VERSE.fullmatch(line)
            if is_bible and verse is None:
                broken = BrokenRecord("no_verse", "is no verse but a comment, or a verse without text", "leave it out")
                yield Problem(number, broken)
                continue
            id, text = (verse[1], verse[2].strip()) if verse else (str(number), line)
            yield Row(code, {"id": id, "text": text}, text)
        return
    yield from _objects(
        source, counts, ("text",), lambda row: ({"id": id_of(row, "id"), "text": text_of(row, "text")}, "text")
    )


def _summaries(source: Source, _labels: frozenset[str], counts: ReadCounts) -> Iterator[Row | Problem]:
    """Read texts with their summaries; MassiveSumm's rows name their language."""

    def made(row: Record) -> tuple[Record, str]:
        text, summary = text_of(row, "text"), text_of(row, "summary")
        return {"id": id_of(row, "id", "url"), "text": text, "summary": summary}, "summary"

    yield from _objects(source, counts, ("id", "url", "text", "summary", "language"), made, codes=("language",))


def _aya(source: Source, _labels: frozenset[str], counts: ReadCounts) -> Iterator[Row | Problem]:
    """Read questions with their answers; rows name language and script."""

    def made(row: Record) -> tuple[Record, str]:
        record = {"id": id_of(row, "id"), "prompt": text_of(row, "inputs"), "target": text_of(row, "targets")}
        return record, "prompt"

    columns = ("id", "inputs", "targets", "language", "script")
    yield from _objects(source, counts, columns, made, codes=("language", "script"))


def _polywrite(source: Source, _labels: frozenset[str], counts: ReadCounts) -> Iterator[Row | Problem]:
    """Read writing tasks, with how they were in English and how well they came back."""

    def made(row: Record) -> tuple[Record, str]:
        record: Record = {"id": id_of(row, "uuid", "id"), "prompt": text_of(row, "prompt_translated", "prompt")}
        for key, name in _POLYWRITE_FIELDS.items():
            if isinstance(row.get(key), str | int | float):
                record[name] = row[key]
        return record, "prompt"

    columns = ("uuid", "id", "prompt_translated", "prompt", "lang_script", *_POLYWRITE_FIELDS)
    yield from _objects(source, counts, columns, made, codes=("lang_script",))


_POLYWRITE_FIELDS: Mapping[str, str] = {
    "name": "name", "category": "category", "prompt_en": "original", "prompt_backtranslated": "back_translation",
    "bleu": "bleu", "chrf++": "chrf++",
}  # fmt: skip


def _objects(
    source: Source,
    counts: ReadCounts,
    columns: Sequence[str],
    made: Callable[[Record], tuple[Record, str]],
    *,
    codes: Sequence[str] = (),
) -> Iterator[Row | Problem]:
    """Read objects; ``made`` gives the record of a row and the field that holds a text in its language."""
    for row in object_rows(source.path, columns, counts):
        try:
            record, text = made(row)
            named = [row[key] for key in codes if isinstance(row.get(key), str) and row[key].strip()]
            code = "_".join(named) if len(named) == len(codes) and codes else source.code
        except BrokenRecord as broken:
            yield Problem(int(row["row"]), broken)
            continue
        yield Row(code, record, record[text])


_OBJECTS = (".jsonl", ".csv", ".parquet")

FORMATS: Mapping[str, UpstreamFormat] = {
    "sib200": UpstreamFormat((".tsv",), _labelled),
    "taxi1500": UpstreamFormat((".tsv",), _labelled),
    "flores200": UpstreamFormat((".dev", ".devtest"), _aligned),
    "xlsum": UpstreamFormat(_OBJECTS, _summaries),
    "massivesumm": UpstreamFormat(_OBJECTS, _summaries, rows_have_codes=True),
    "aya": UpstreamFormat(_OBJECTS, _aya, rows_have_codes=True),
    "polywrite": UpstreamFormat(_OBJECTS, _polywrite, rows_have_codes=True),
    "texts": UpstreamFormat((".txt", ".jsonl"), _texts),
}
"""Every format that data can be prepared from, by name."""
