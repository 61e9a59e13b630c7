"""Pieces of corpora on disk: compressed JSON lines, the units of work between the stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import zstandard

from megatron.corpus.document import CorpusError, Document
from megatron.corpus.engine.task import Outputs, TaskRecord
from megatron.corpus.languages import Label
from megatron.corpus.reading.compressed import zstd_chunks

SUFFIX = ".jsonl.zst"

# A frame is compressed when it is full, or when all frames that are being filled take too much memory together.
_FRAME_BYTES = 4 << 20
_WAITING_BYTES = 48 << 20
_LEVEL = 3

# A piece also ends after so many documents, since what later stages hold for each of them is in memory.
_PIECE_DOCUMENTS = 1 << 17

_ADVICE = "delete the file and run the pipeline again"


@dataclass(frozen=True)
class CorpusName:
    """Which corpus a document belongs to.

    Attributes:
        name: its folder.
        source: ``monolingual``, ``bilingual``, ``code``, ``instruction``, ``book`` or ``paper``.
        code: ``xxx_Ssss``, or two of them joined by ``-`` for a pair.
    """

    name: str
    source: str
    code: str

    @property
    def labels(self) -> tuple[Label, ...]:
        """The label of each side."""
        return tuple(Label(*code.split("_")) for code in self.code.split("-"))

    @property
    def group(self) -> str:
        """What its text is compared with: the code, of a pair whichever side comes first."""
        return "-".join(sorted(self.code.split("-")))

    @property
    def is_pair(self) -> bool:
        """Whether its documents are pairs of sentences."""
        return "-" in self.code

    @property
    def has_language(self) -> bool:
        """Whether it is text in a language, not code."""
        return not self.code.startswith("zxx")


@dataclass(frozen=True)
class Piece:
    """A file of documents of one corpus.

    Attributes:
        corpus: the corpus.
        path: the file, relative to the folder of its pass.
        order: where it stands among the pieces of its corpus, and of its language: by input, file and number.
        documents: its documents.
        text_bytes: UTF-8 bytes of their texts.
        hash: hash of the file.
    """

    corpus: CorpusName
    path: str
    order: tuple[int, str, int]
    documents: int
    text_bytes: int
    hash: str

    @property
    def stem(self) -> str:
        """Its file name without ending."""
        return Path(self.path).name.removesuffix(SUFFIX)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; the hash is in the record."""
        return {**asdict(self), "order": list(self.order)}


def pieces_of(records: Iterable[TaskRecord]) -> list[Piece]:
    """Return the pieces that tasks have written, in their order within each corpus."""
    pieces = []
    for record in records:
        for content in record.result["pieces"]:
            piece = Piece(
                CorpusName(**content["corpus"]),
                content["path"],
                (content["order"][0], content["order"][1], content["order"][2]),
                content["documents"],
                content["text_bytes"],
                record.files[content["path"]][1],
            )
            pieces.append(piece)
    return sorted(pieces, key=lambda piece: (piece.corpus.name, piece.order, piece.path))


def by_corpus(pieces: Iterable[Piece]) -> Mapping[CorpusName, list[Piece]]:
    """Return the pieces of each corpus, in the order given."""
    groups: dict[CorpusName, list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(piece.corpus, []).append(piece)
    return groups


def read_piece(folder: Path, piece: Piece) -> Iterator[Document]:
    """Yield the documents of a piece.

    Args:
        folder: the folder of its pass.
        piece: the piece.

    Raises:
        CorpusError: the file is not as it was written.
    """
    path = folder / piece.path
    rest, documents = b"", 0
    try:
        for chunk in zstd_chunks(path):
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            for line in lines:
                yield Document(**orjson.loads(line))
            documents += len(lines)
    except (OSError, EOFError, zstandard.ZstdError, orjson.JSONDecodeError, TypeError) as error:
        raise CorpusError(f"{path}: damaged ({error}); {_ADVICE}") from error
    if rest or documents != piece.documents:
        raise CorpusError(f"{path}: damaged ({documents} documents, not {piece.documents}); {_ADVICE}")


@dataclass
class _Open:
    piece: Piece
    waiting: bytearray
    frame_bytes: int = 0


class PieceWriter:
    """Writes documents of any number of corpora into pieces, with bounded memory and no open files.

    Args:
        outputs: takes the files.
        name: what the files are called; unique among the tasks of the pass that write to the same corpus.
        order: the order of the pieces; where they are numbered, the number takes its last place.
        piece_bytes: text of a corpus that fills a piece, which is then numbered; None for one piece for each corpus.
    """

    def __init__(
        self, outputs: Outputs, name: str, order: tuple[int, str, int], *, piece_bytes: int | None = None
    ) -> None:
        self._outputs = outputs
        self._name, self._order = name, order
        self._piece_bytes = piece_bytes
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        self._open: dict[tuple[str, str], _Open] = {}
        self._waiting_bytes = 0
        self._pieces: list[Piece] = []
        self._numbers: dict[tuple[str, str], int] = {}

    def add(self, corpus: CorpusName, document: Document, *, prefix: str = "", size_bytes: int | None = None) -> None:
        """Append one document.

        Args:
            corpus: where it belongs.
            document: the document.
            prefix: put before the file's name, such as ``train-``.
            size_bytes: its UTF-8 bytes, where they are known.
        """
        key = (corpus.name, prefix)
        opened = self._open.get(key)
        if opened is None:
            opened = self._open[key] = _Open(self._new_piece(corpus, prefix), bytearray())
        line = document.to_json()
        opened.waiting += line
        self._waiting_bytes += len(line)
        piece = opened.piece
        text_bytes = piece.text_bytes + (document.size_bytes if size_bytes is None else size_bytes)
        opened.piece = replace(piece, documents=piece.documents + 1, text_bytes=text_bytes)
        if self._piece_bytes is not None and (
            text_bytes >= self._piece_bytes or opened.piece.documents >= _PIECE_DOCUMENTS
        ):
            self._close(key)
        elif len(opened.waiting) >= _FRAME_BYTES:
            self._flush(opened)
        elif self._waiting_bytes >= _WAITING_BYTES:
            self._flush(max(self._open.values(), key=lambda each: len(each.waiting)))

    def close(self) -> list[dict[str, Any]]:
        """Write what is waiting, and return all pieces as plain values for the task's result."""
        for key in list(self._open):
            self._close(key)
        return [piece.to_json() for piece in self._pieces]

    def _new_piece(self, corpus: CorpusName, prefix: str) -> Piece:
        start = f"{corpus.name}/{prefix}{self._name}"
        if self._piece_bytes is None:
            return Piece(corpus, f"{start}{SUFFIX}", self._order, 0, 0, "")
        number = self._numbers[(corpus.name, prefix)] = self._numbers.get((corpus.name, prefix), -1) + 1
        return Piece(corpus, f"{start}-{number:05d}{SUFFIX}", (*self._order[:2], number), 0, 0, "")

    def _close(self, key: tuple[str, str]) -> None:
        opened = self._open.pop(key)
        self._flush(opened)
        self._pieces.append(opened.piece)

    def _flush(self, opened: _Open) -> None:
        if opened.waiting:
            self._outputs.append(opened.piece.path, self._compressor.compress(bytes(opened.waiting)))
        self._waiting_bytes -= len(opened.waiting)
        opened.waiting.clear()
