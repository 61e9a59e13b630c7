"""The last passes over text: what is held out, and the text to train on without what is too close to it.

Stages split and parallel: sentence pairs become documents here, after each pair has been compared and held out by
itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from megatron.config.corpus_schema import DedupConfig, ParallelConfig, SplitConfig
from megatron.corpus.dedup.closeness import HeldOutGuard
from megatron.corpus.document import Document
from megatron.corpus.engine.task import Outputs, Report, Task, TaskRecord, fingerprint_of
from megatron.corpus.held_out import HeldOutChooser, bytes_for, text_hash
from megatron.corpus.pairs.templates import PairTemplate
from megatron.corpus.pieces import CorpusName, Piece, PieceWriter, by_corpus, read_piece
from megatron.corpus.tally import Key, Tally

_RECIPE = 2  # raise it when the same input gives another result, so that it is made again
_CANDIDATES = "candidates.jsonl"
_BATCH_CHARACTERS = 1 << 20


def _hash(document: Document, key: int) -> int:
    return text_hash(document.key_text.encode("utf-8"), key=key)


@dataclass(frozen=True)
class CandidatesWork:
    """Writes the documents of one piece that may be held out."""

    folder: Path
    piece: Piece
    settings: SplitConfig

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`."""
        chooser = _chooser(self.settings)
        possible: dict[int, Document] = {}
        for document in read_piece(self.folder, self.piece):
            digest, size_bytes = _hash(document, self.settings.key), document.size_bytes
            if chooser.add(digest, size_bytes=size_bytes):
                possible[digest] = document
                if len(possible) > 2 * len(chooser) + 1024:
                    possible = {each: possible[each] for each, _ in chooser.candidates() if each in possible}
            report(1, size_bytes)
        candidates = chooser.candidates()
        name = f"{self.piece.corpus.name}/{self.piece.stem}.{_CANDIDATES}"
        for digest, size_bytes in candidates:
            line = {"hash": digest, "bytes": size_bytes, "texts": possible[digest].texts}
            outputs.append(name, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        return {"total_bytes": chooser.total_bytes}


@dataclass(frozen=True)
class ChooseWork:
    """Writes the texts of one corpus that are held out: one line each, with its hash and its split."""

    folder: Path
    corpus: CorpusName
    files: tuple[tuple[str, int], ...]
    settings: SplitConfig

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`."""
        chooser = _chooser(self.settings)
        for file, total_bytes in self.files:
            chooser.merge(
                ((line["hash"], line["bytes"]) for line in _lines(self.folder / file)), total_bytes=total_bytes
            )
            report(0, (self.folder / file).stat().st_size)
        chosen = dict(chooser.choose())
        texts: dict[int, list[str]] = {}
        for file, _ in self.files:
            texts.update({line["hash"]: line["texts"] for line in _lines(self.folder / file) if line["hash"] in chosen})
        outputs.append(f"{self.corpus.name}.jsonl", b"")
        for digest, split in sorted(chosen.items()):
            line = {"hash": digest, "split": split, "texts": texts[digest]}
            outputs.append(f"{self.corpus.name}.jsonl", orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        return {}


@dataclass(frozen=True)
class SplitWork:
    """Writes the texts of one piece to train on, to validate and to test with."""

    folder: Path
    piece: Piece
    chosen: Path
    language: tuple[str, ...]
    settings: SplitConfig
    dedup: DedupConfig
    parallel: ParallelConfig
    explain: int

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`."""
        corpus, tally = self.piece.corpus, Tally(self.explain)
        chosen = {line["hash"]: line["split"] for line in _lines(self.chosen / f"{corpus.name}.jsonl")}
        guards = self._guards()
        writer = _SplitWriter(outputs, self.piece, self.parallel, tally)
        for documents in _batches(read_piece(self.folder, self.piece)):
            splits = [chosen.get(_hash(document, self.settings.key), "train") for document in documents]
            for document, split, share in zip(documents, splits, _shares(documents, splits, guards), strict=True):
                size_bytes = document.size_bytes
                tally.add(Key("split", corpus.name, "in"), size_bytes)
                report(1, size_bytes)
                if share >= (self.settings.near_held_out or math.inf):
                    key = Key("split", corpus.name, "dropped", "near_held_out")
                    detail = f"{share:.2f} of its n-grams are held out"
                    tally.record(key, size_bytes, document.id, "\n".join(document.texts), detail)
                    continue
                tally.add(Key("split", corpus.name, "out", split), size_bytes)
                writer.add(split, document)
        return {"pieces": writer.close(), "tally": tally.to_json(), "sizes": writer.sizes}

    def _guards(self) -> dict[str, HeldOutGuard]:
        """Return what knows the held-out texts of the piece's language, for the splits that must not come near them."""
        if not self.settings.near_held_out:
            return {}
        lines = [line for name in self.language for line in _lines(self.chosen / f"{name}.jsonl")]
        texts = {
            "train": ["\n".join(sorted(line["texts"])) for line in lines],
            "test": ["\n".join(sorted(line["texts"])) for line in lines if line["split"] == "valid"],
        }
        script = self.piece.corpus.labels[0].script
        return {split: HeldOutGuard(held, self.dedup, script=script) for split, held in texts.items() if held}


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """Yield documents in batches: measured together they take half the time."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += sum(map(len, document.texts))
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _shares(documents: Sequence[Document], splits: Sequence[str], guards: Mapping[str, HeldOutGuard]) -> list[float]:
    """Return which part of each document is held out; 0 for documents whose split may hold anything."""
    shares = [0.0] * len(documents)
    for split, guard in guards.items():
        places = [place for place, each in enumerate(splits) if each == split]
        measured = guard.shares([documents[place].key_text for place in places])
        for place, share in zip(places, measured.tolist(), strict=True):
            shares[place] = share
    return shares


class _SplitWriter:
    """Writes documents by split; sentence pairs are collected until there are enough for a document.

    Attributes:
        sizes: documents, bytes, characters and whitespace-separated words of each split.
    """

    def __init__(self, outputs: Outputs, piece: Piece, settings: ParallelConfig, tally: Tally) -> None:
        self._corpus, self._tally = piece.corpus, tally
        self._writer = PieceWriter(outputs, piece.stem, piece.order)
        self.sizes: dict[str, list[int]] = {}
        self._pairs: dict[str, list[Document]] = {}
        self._size = settings.pairs_per_document
        labels = piece.corpus.labels
        self._template = PairTemplate(settings, source=labels[0], target=labels[1]) if len(labels) == 2 else None

    def add(self, split: str, document: Document) -> None:
        if self._template is None or document.target is None:
            self._write(split, document)
            return
        pairs = self._pairs.setdefault(split, [])
        pairs.append(document)
        if len(pairs) == self._size:
            self._flush(split)

    def close(self) -> list[dict[str, Any]]:
        for split in list(self._pairs):
            self._flush(split)
        return self._writer.close()

    def _flush(self, split: str) -> None:
        pairs = self._pairs.pop(split)
        assert self._template is not None
        text = self._template.document([(pair.text, pair.target or "") for pair in pairs])
        document = Document(text, id=pairs[0].id)
        self._tally.add(Key("parallel", self._corpus.name, "out", split), document.size_bytes)
        self._write(split, document)

    def _write(self, split: str, document: Document) -> None:
        counted = (1, document.size_bytes, len(document.text), len(document.text.split()))
        sizes = self.sizes.setdefault(split, [0, 0, 0, 0])
        for place, count in enumerate(counted):
            sizes[place] += count
        self._writer.add(self._corpus, document, prefix=f"{split}-", size_bytes=counted[1])


def settings_of(corpus: CorpusName, settings: SplitConfig) -> SplitConfig:
    """Return the settings of one corpus, so that those of others do not make it anew."""
    wanted = bytes_for(corpus, settings.valid_bytes_for, default=settings.valid_bytes)
    return settings.model_copy(update={"valid_bytes": wanted, "valid_bytes_for": {}})


def _chooser(settings: SplitConfig) -> HeldOutChooser:
    return HeldOutChooser(
        valid_bytes=settings.valid_bytes, test_bytes=settings.test_bytes, max_fraction=settings.max_fraction
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            yield orjson.loads(line)


# ---- tasks -----------------------------------------------------------------------------------------------------------


def candidates_tasks(folder: Path, pieces: Sequence[Piece], settings: SplitConfig) -> list[Task]:
    """Return a task for each piece."""
    def fields(piece: Piece) -> Mapping[str, Any]:
        return settings_of(piece.corpus, settings).model_dump(exclude={"near_held_out", "valid_bytes_for"})

    return [
        Task(
            f"{piece.corpus.name}/{piece.stem}",
            fingerprint_of("candidates", _RECIPE, fields(piece), piece.hash, asdict(piece.corpus)),
            piece.text_bytes,
            CandidatesWork(folder, piece, settings_of(piece.corpus, settings)),
        )
        for piece in pieces
    ]


def choose_tasks(
    folder: Path, pieces: Sequence[Piece], records: Sequence[TaskRecord], settings: SplitConfig
) -> list[Task]:
    """Return a task for each corpus.

    Args:
        folder: the folder of the candidates.
        pieces: the pieces.
        records: what the candidates' task of each piece has found.
        settings: how much to hold out.
    """
    record_of = {piece.path: record for piece, record in zip(pieces, records, strict=True)}
    tasks = []
    for corpus, of_corpus in by_corpus(pieces).items():
        of_pieces = [record_of[piece.path] for piece in of_corpus]
        files = tuple((file, record.result["total_bytes"]) for record in of_pieces for file in record.files)
        size_bytes = sum(size for record in of_pieces for size, _ in record.files.values())
        fingerprint = fingerprint_of("choose", _RECIPE, [record.fingerprint for record in of_pieces])
        work = ChooseWork(folder, corpus, files, settings_of(corpus, settings))
        tasks.append(Task(corpus.name, fingerprint, size_bytes, work))
    return tasks


def split_tasks(
    folder: Path,
    pieces: Sequence[Piece],
    chosen: Path,
    choices: Sequence[Task],
    settings: SplitConfig,
    dedup: DedupConfig,
    parallel: ParallelConfig,
    *,
    explain: int,
) -> list[Task]:
    """Return a task for each piece.

    Args:
        folder: the folder of the pieces.
        pieces: the pieces.
        chosen: the folder of what is held out.
        choices: the tasks that chose it, one for each corpus.
        settings: what to hold out.
        dedup: how texts are compared.
        parallel: how pairs become documents.
        explain: examples to keep.
    """
    choice_of = {task.name: task.fingerprint for task in choices}
    corpora = list(by_corpus(pieces))
    tasks = []
    for piece in pieces:
        language = tuple(corpus.name for corpus in corpora if corpus.group == piece.corpus.group)
        own = settings_of(piece.corpus, settings)
        of_split = own.model_dump(exclude={"valid_bytes_for"})
        fields = [of_split, dedup.model_dump(exclude={"scope"}), parallel.model_dump(), explain]
        same = [(name, choice_of[name]) for name in language]
        fingerprint = fingerprint_of("split", _RECIPE, fields, same, piece.path, piece.hash, asdict(piece.corpus))
        work = SplitWork(folder, piece, chosen, language, own, dedup, parallel, explain)
        tasks.append(Task(f"{piece.corpus.name}/{piece.stem}", fingerprint, piece.text_bytes, work))
    return tasks
