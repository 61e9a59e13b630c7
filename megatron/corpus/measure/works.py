"""The units of work: a file of text, a file of the pivot, a file compared with the pivot's, and a file of pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron.config.corpus_schema import ReadConfig
from megatron.corpus.document import Document
from megatron.corpus.engine.task import Outputs, Report
from megatron.corpus.read import MAX_LINE_BYTES
from megatron.corpus.reading.fields import Record, text_only
from megatron.corpus.reading.jsonl import jsonl_documents
from megatron.corpus.reading.problems import BrokenRecord, Problems, ReadCounts, blank, listed
from megatron.tokenizer.measure.counts import ParallelCounts, Side
from megatron.tokenizer.measure.measurer import Measurer, MeasureSettings, Text
from megatron.tokenizer.measure.source import TokenizerSource, loaded

#: The pivot's numbers of each record: UTF-8 bytes and characters, 0 where it has no such record, then tokens.
TEXT_COLUMNS = 2

# Bytes, not characters: a text has hardly more tokens than bytes, but several for each character of some scripts.
_BATCH_BYTES = 4_000_000
_PAIR_FIELDS = (("src_text", "tgt_text"), ("text", "target"))

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class How:
    """What every unit of work needs: the tokenizers, what is measured, and the field that holds the text."""

    tokenizers: tuple[TokenizerSource, ...]
    settings: MeasureSettings
    text_key: str

    def measurer(self, script: str) -> Measurer:
        """Return what counts text in a script."""
        return Measurer([loaded(source) for source in self.tokenizers], self.settings, script=script)


@dataclass(frozen=True)
class TextWork:
    """Measures one file of text."""

    path: Path
    script: str
    how: How

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`."""
        measurer, reader = self.how.measurer(self.script), _Reader(self.path, report)
        for _, texts in reader.texts(self.how.text_key):
            measurer.add(texts)
        return {"counts": measurer.counts().to_json(), **reader.left_out()}


@dataclass(frozen=True)
class PivotWork:
    """Measures one file of the pivot, and writes the numbers of each of its records to ``<name>.bin``."""

    name: str
    path: Path
    script: str
    how: How

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`."""
        measurer, reader = self.how.measurer(self.script), _Reader(self.path, report)
        written, records = 0, 0
        own = Side.empty(len(self.how.tokenizers))
        for places, texts in reader.texts(self.how.text_key):
            numbers = _numbers(texts, measurer)
            # Records that the pivot does not have are rows of zeros.
            rows = np.zeros((int(places[-1]) + 1 - written, numbers.shape[1]), dtype="<i8")
            rows[places - written] = numbers
            outputs.append(f"{self.name}.bin", rows.tobytes())
            written, records = int(places[-1]) + 1, records + len(texts)
            _add(own, numbers)
        if not written:
            outputs.append(f"{self.name}.bin", b"")
        parallel = ParallelCounts(records, 0, own, Side(own.bytes, own.characters, list(own.tokens)))
        return {
            "counts": measurer.counts().to_json(),
            "parallel": parallel.to_json(),
            "lines": reader.lines,
            **reader.left_out(),
        }


@dataclass(frozen=True)
class PivotRecords:
    """What :class:`PivotWork` has written of a file, its records, and its lines, blank ones among them."""

    path: Path
    records: int
    lines: int


@dataclass(frozen=True)
class AlignedWork:
    """Measures one file, and compares each of its records with the same one of the pivot."""

    path: Path
    script: str
    how: How
    pivot: PivotRecords

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`."""
        measurer, reader = self.how.measurer(self.script), _Reader(self.path, report)
        tokenizers = len(self.how.tokenizers)
        pivot = read_numbers(self.pivot.path, tokenizers)
        found = ParallelCounts.empty(tokenizers)
        records = 0
        for places, texts in reader.texts(self.how.text_key):
            numbers = _numbers(texts, measurer)
            known = places < len(pivot)
            theirs = np.zeros_like(numbers)
            theirs[known] = pivot[places[known]]
            both = theirs[:, 0] > 0
            found.records += int(both.sum())
            _add(found.own, numbers[both])
            _add(found.pivot, theirs[both])
            records += len(texts)
        found.unmatched = records + self.pivot.records - 2 * found.records
        found.uneven = reader.lines != self.pivot.lines
        return {
            "counts": measurer.counts().to_json(),
            "parallel": found.to_json(),
            **reader.left_out(),
        }


@dataclass(frozen=True)
class PairWork:
    """Measures both sides of one file of pairs."""

    path: Path
    scripts: tuple[str, str]
    how: How

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`."""
        measurers, reader = [self.how.measurer(script) for script in self.scripts], _Reader(self.path, report)
        sides = [Side.empty(len(self.how.tokenizers)) for _ in measurers]
        records = 0
        for batch in reader.batches(partial(_pair, kinds=reader.counts.kinds)):
            records += len(batch)
            for number, (measurer, side) in enumerate(zip(measurers, sides, strict=True)):
                _add(side, _numbers([texts[number] for _, texts in batch], measurer))
        return {
            "counts": [measurer.counts().to_json() for measurer in measurers],
            "sides": [vars(side) for side in sides],
            "records": records,
            **reader.left_out(),
        }


def read_numbers(path: Path, tokenizers: int) -> Numbers:
    """Return the pivot's numbers of all records, ``[records, 2 + tokenizers]``, mapped and not read into memory."""
    columns = TEXT_COLUMNS + tokenizers
    if path.stat().st_size == 0:
        return np.zeros((0, columns), dtype=np.int64)
    return np.memmap(path, dtype="<i8", mode="r").reshape(-1, columns)


class _Reader:
    """Reads one file in batches of bounded size, without records that cannot be used; reports how much is done."""

    def __init__(self, path: Path, report: Report) -> None:
        self.counts = ReadCounts()
        self._path, self._report = path, report

    @property
    def lines(self) -> int:
        """Lines read so far, with those that hold nothing."""
        return self.counts.documents + sum(self.counts.dropped.values()) + self.counts.empty_lines

    def left_out(self) -> dict[str, Any]:
        """Return the records that were left out: how many by reason, and where a few of the broken ones are."""
        broken = [place for reason, place in self.counts.examples if reason != "blank"]
        return {"dropped": dict(self.counts.dropped), "broken": broken}

    def texts(self, text_key: str) -> Iterator[tuple[Numbers, list[Text]]]:
        """Yield the places of records, their lines from 0 on, and the one text of each, in batches."""
        for batch in self.batches(partial(text_only, text_key=text_key, kinds=self.counts.kinds)):
            yield np.array([line - 1 for line, _ in batch]), [texts[0] for _, texts in batch]

    def batches(self, to_document: Any) -> Iterator[list[tuple[int, tuple[Text, ...]]]]:
        """Yield lists of (line, texts of the document); blank and broken records are counted and left out."""
        policy = ReadConfig(broken_records="drop", cut_short="drop", max_document_bytes=MAX_LINE_BYTES)
        batch: list[tuple[int, tuple[Text, ...]]] = []
        size_bytes, reported = 0, 0
        for document in jsonl_documents(to_document, self._path.name, Problems(self._path, policy, self.counts)):
            texts = tuple(Text(text, text.encode("utf-8"), document.id) for text in document.texts)
            batch.append((int(document.id.rpartition(":")[2]), texts))
            size_bytes += sum(len(text.data) for text in texts)
            if size_bytes >= _BATCH_BYTES:
                yield batch
                self._report(len(batch), self.counts.read_bytes - reported)
                batch, size_bytes, reported = [], 0, self.counts.read_bytes
        if batch:
            yield batch
        self._report(len(batch), self._path.stat().st_size - reported)


def _pair(record: Record, id: str, *, kinds: Any) -> Document:
    """Make a document of a record that must be a pair of sentences, as raw corpora or the pipeline write it."""
    for first, second in _PAIR_FIELDS:
        text, target = record.get(first), record.get(second)
        if isinstance(text, str) and isinstance(target, str):
            if not text.strip() or not target.strip():
                raise blank("one side of the pair")
            kinds["pair"] += 1
            return Document(text, None, id, target)
    raise BrokenRecord(
        "wrong_fields",
        f"has neither texts src_text and tgt_text nor text and target; it has: {listed(record)}",
        "give the pairs themselves, not documents made of them",
    )


def _numbers(texts: Sequence[Text], measurer: Measurer) -> Numbers:
    """Count texts, and return the numbers of each: bytes, characters, and the tokens of each tokenizer."""
    sizes = np.array([(len(text.data), len(text.text)) for text in texts], dtype=np.int64)
    return np.concatenate([sizes, measurer.add(texts).T], axis=1)


def _add(side: Side, numbers: Numbers) -> None:
    sums = numbers.sum(axis=0, dtype=np.int64).tolist()
    side.add(sums[0], sums[1], sums[TEXT_COLUMNS:])
