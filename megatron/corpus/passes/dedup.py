"""Passes that leave out what came before: keys of every piece, buckets of equal keys, and the pieces without doubles.

A document's keys are hashes that it shares with equal or nearly equal documents (:mod:`megatron.corpus.dedup`). Each
piece's keys are written in their order, so that a range of them is one read. A bucket task takes one range of keys of a
whole language, whose size does not depend on the corpus, and names the documents that have a smaller one in one of
their buckets. Documents are numbered by the order of their pieces, so the result does not depend on who did what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from megatron.config.corpus_schema import DedupConfig
from megatron.corpus.dedup.buckets import duplicates
from megatron.corpus.dedup.keys import DocumentKeys, paragraph_keys, split_paragraphs
from megatron.corpus.document import Document
from megatron.corpus.engine.shuffle import Entries
from megatron.corpus.engine.task import Outputs, Report, Task, TaskRecord, fingerprint_of
from megatron.corpus.pieces import Piece, PieceWriter, read_piece
from megatron.corpus.tally import Key, Tally

_RECIPE = 2  # raise it when the same input gives another result, so that it is made again
_BATCH_BYTES = 4 << 20
#: Entries of one bucket task: about 16 bytes each, and as much again while they are sorted.
BUCKET_ENTRIES = 1 << 21
_ITEM_BITS = 36  # items of a piece; the bits above number the pieces of a language

Unit = Literal["documents", "paragraphs"]
Array = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class KeysWork:
    """Writes the keys of one piece: ``<piece>.keys.npy`` in their order, and ``<piece>.items.npy`` beside them."""

    folder: Path
    piece: Piece
    settings: DedupConfig
    unit: Unit

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`."""
        blocks = list(self._paragraphs(report) if self.unit == "paragraphs" else self._documents(report))
        keys = np.concatenate([np.zeros(0, np.uint64), *(block[0] for block in blocks)])
        items = np.concatenate([np.zeros(0, np.uint64), *(block[1] for block in blocks)])
        order = np.lexsort((items, keys))
        name = f"{self.piece.corpus.name}/{self.piece.stem}"
        np.save(outputs.path(f"{name}.keys.npy"), keys[order], allow_pickle=False)
        np.save(outputs.path(f"{name}.items.npy"), items[order], allow_pickle=False)
        return {"entries": len(keys)}

    def _documents(self, report: Report) -> Iterator[tuple[Array, Array]]:
        script = self.piece.corpus.labels[0].script
        # A sentence is too short for n-grams to say whether it is nearly another one.
        settings = self.settings.model_copy(update={"near": False}) if self.piece.corpus.is_pair else self.settings
        document_keys = DocumentKeys(settings, script=script)
        first = 0
        for texts in _batches(read_piece(self.folder, self.piece), report):
            keys = document_keys.keys(texts)
            items = np.repeat(np.arange(first, first + len(texts), dtype=np.uint64), keys.shape[1])
            yield keys.ravel(), items
            first += len(texts)

    def _paragraphs(self, report: Report) -> Iterator[tuple[Array, Array]]:
        if self.piece.corpus.is_pair or not self.piece.corpus.has_language:
            return  # a sentence belongs to its translation, and a line of code to its program
        first = 0
        for document in read_piece(self.folder, self.piece):
            paragraphs, keys = paragraph_keys(document.text, self.settings)
            has_key = np.flatnonzero(keys)
            yield keys[has_key], (has_key + first).astype(np.uint64)
            first += len(paragraphs)
            report(1, document.size_bytes)


def _batches(documents: Iterator[Document], report: Report) -> Iterator[list[str]]:
    """Yield texts in batches; the sides of a pair make one text."""
    texts: list[str] = []
    size_bytes = 0
    for document in documents:
        texts.append(document.key_text)
        size_bytes += document.size_bytes
        if size_bytes >= _BATCH_BYTES:
            yield texts
            report(len(texts), size_bytes)
            texts, size_bytes = [], 0
    if texts:
        yield texts
        report(len(texts), size_bytes)


@dataclass(frozen=True)
class BucketWork:
    """Finds the doubles among the items whose keys lie in one range: ``<range>.npy`` and ``<range>.exact.npy``."""

    folder: Path
    pieces: tuple[Piece, ...]
    part: int
    parts: int
    name: str

    @property
    def num_sources(self) -> int:
        """How many pieces the group has."""
        return len(self.pieces)

    def slice(self, source: int) -> Entries:
        """Return the keys of a piece that lie in the range, and their items; one read from disk."""
        piece = self.pieces[source]
        stem = self.folder / piece.corpus.name / piece.stem
        keys = np.load(f"{stem}.keys.npy", mmap_mode="r", allow_pickle=False)
        items = np.load(f"{stem}.items.npy", mmap_mode="r", allow_pickle=False)
        bounds = [((self.part + end) << 64) // self.parts for end in (0, 1)]
        first, last = (len(keys) if bound >> 64 else int(np.searchsorted(keys, np.uint64(bound))) for bound in bounds)
        return np.stack([keys[first:last], items[first:last] + np.uint64(source << _ITEM_BITS)])

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`."""
        slices = (self.slice(source) for source in range(self.num_sources))
        return self.finish(np.concatenate(list(slices), axis=1), outputs, report)

    def finish(self, entries: Entries, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """Write the items that have a smaller one in a bucket, sorted, and for each whether an exact key says so."""
        doubles, exact = duplicates(entries[0], entries[1])
        np.save(outputs.path(f"{self.name}.npy"), doubles, allow_pickle=False)
        np.save(outputs.path(f"{self.name}.exact.npy"), exact, allow_pickle=False)
        report(0, entries.nbytes)
        return {"doubles": len(doubles)}


@dataclass(frozen=True)
class ApplyWork:
    """Writes one piece without its doubles."""

    folder: Path
    piece: Piece
    buckets: Path
    parts: tuple[str, ...]
    number: int
    unit: Unit
    settings: DedupConfig
    explain: int

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`."""
        corpus, tally = self.piece.corpus, Tally(self.explain)
        doubles = self._doubles()
        writer = PieceWriter(outputs, self.piece.stem, self.piece.order)
        stage = "dedup" if self.unit == "documents" else "paragraphs"
        item = 0
        for row, document in enumerate(read_piece(self.folder, self.piece)):
            size_bytes = document.size_bytes
            tally.add(Key(stage, corpus.name, "in"), size_bytes)
            report(1, size_bytes)
            rule, kept = (doubles.get(row, ""), document) if self.unit == "documents" else ("", document)
            if self.unit == "paragraphs":
                paragraphs = split_paragraphs(document.text)
                numbers = range(item, item + len(paragraphs))
                left = [text for number, text in zip(numbers, paragraphs, strict=True) if number not in doubles]
                item += len(paragraphs)
                if len(left) < len(paragraphs):
                    kept = replace(document, text="".join(left).strip())
                    rule = "" if kept.text else "repeated_paragraphs"
                    key = Key(stage, corpus.name, "changed", "repeated_paragraphs")
                    tally.record(key, size_bytes, document.id, document.text, kept.text)
            if rule:
                key = Key(stage, corpus.name, "dropped", rule)
                tally.record(key, size_bytes, document.id, "\n".join(document.texts), "")
                continue
            size_bytes = kept.size_bytes
            tally.add(Key(stage, corpus.name, "out"), size_bytes)
            writer.add(corpus, kept, size_bytes=size_bytes)
        return {"pieces": writer.close(), "tally": tally.to_json()}

    def _doubles(self) -> dict[int, str]:
        """Return the items of this piece that go, and why."""
        first, last = (np.uint64((self.number + end) << _ITEM_BITS) for end in (0, 1))
        found: dict[int, str] = {}
        for part in self.parts:
            items = np.load(self.buckets / f"{part}.npy", mmap_mode="r", allow_pickle=False)
            exact = np.load(self.buckets / f"{part}.exact.npy", mmap_mode="r", allow_pickle=False)
            start, stop = (int(np.searchsorted(items, bound)) for bound in (first, last))
            for item, is_exact in zip((items[start:stop] - first).tolist(), exact[start:stop].tolist(), strict=True):
                if is_exact or item not in found:
                    found[item] = "exact_duplicate" if is_exact else "near_duplicate"
        return found


# ---- tasks -----------------------------------------------------------------------------------------------------------


def groups_of(pieces: Sequence[Piece], settings: DedupConfig) -> dict[str, list[Piece]]:
    """Return the pieces that are compared with each other, in their order, by the name of the group."""
    groups: dict[str, list[Piece]] = {}
    for piece in sorted(pieces, key=lambda piece: (piece.order[0], piece.corpus.name, piece.order[1:])):
        name = piece.corpus.name if settings.scope == "corpus" else piece.corpus.group
        groups.setdefault(name, []).append(piece)
    return groups


def keys_tasks(folder: Path, pieces: Sequence[Piece], settings: DedupConfig, unit: Unit) -> list[Task]:
    """Return a task for each piece."""
    fields = settings.model_dump(exclude={"scope", "paragraphs"})
    return [
        Task(
            f"{piece.corpus.name}/{piece.stem}",
            fingerprint_of("keys", _RECIPE, unit, fields, asdict(piece.corpus), piece.hash),
            piece.text_bytes,
            KeysWork(folder, piece, settings, unit),
        )
        for piece in pieces
    ]


def bucket_tasks(
    folder: Path,
    groups: Mapping[str, Sequence[Piece]],
    entries: Mapping[str, int],
    settings: DedupConfig,
    unit: Unit,
) -> list[Task]:
    """Return a task for each range of keys of each group.

    Args:
        folder: the folder of the keys.
        groups: see :func:`groups_of`.
        entries: the keys of each piece, by its path.
        settings: what decided the keys.
        unit: what they are the keys of.
    """
    tasks = []
    for group, pieces in groups.items():
        total = sum(entries[piece.path] for piece in pieces)
        parts = max(1, -(-total // BUCKET_ENTRIES))
        hashes = [(piece.path, piece.hash, asdict(piece.corpus)) for piece in pieces]
        same = fingerprint_of("buckets", _RECIPE, unit, settings.model_dump(), parts, hashes)
        for part in range(parts):
            name = f"{group}/{part:05d}"
            work = BucketWork(folder, tuple(pieces), part, parts, name)
            tasks.append(Task(name, fingerprint_of(same, part), 16 * total // parts, work))
    return tasks


def apply_tasks(
    folder: Path,
    groups: Mapping[str, Sequence[Piece]],
    buckets: Path,
    tasks: Sequence[Task],
    settings: DedupConfig,
    *,
    unit: Unit,
    explain: int,
) -> list[Task]:
    """Return a task for each piece.

    Args:
        folder: the folder of the pieces.
        groups: see :func:`groups_of`.
        buckets: the folder of what the bucket tasks have written.
        tasks: the bucket tasks.
        settings: what decided the keys.
        unit: what is left out.
        explain: examples to keep.
    """
    parts: dict[str, list[Task]] = {}
    for task in tasks:
        parts.setdefault(task.name.rpartition("/")[0], []).append(task)
    applied = []
    for group, pieces in groups.items():
        names = tuple(task.name for task in parts[group])
        same = fingerprint_of("apply", _RECIPE, unit, settings.model_dump(), [t.fingerprint for t in parts[group]])
        for number, piece in enumerate(pieces):
            work = ApplyWork(folder, piece, buckets, names, number, unit, settings, explain)
            name = f"{piece.corpus.name}/{piece.stem}"
            applied.append(Task(name, fingerprint_of(same, number, explain), piece.text_bytes, work))
    return applied


def entries_of(pieces: Sequence[Piece], records: Sequence[TaskRecord]) -> dict[str, int]:
    """Return how many keys each piece has, by its path."""
    return {piece.path: record.result["entries"] for piece, record in zip(pieces, records, strict=True)}
