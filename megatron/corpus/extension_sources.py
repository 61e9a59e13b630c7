"""The corpora that a tokenizer is extended for, and the pivots whose segmentation must stay."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Protocol

from megatron.config.corpus_schema import ReadConfig
from megatron.corpus.read import MAX_LINE_BYTES, CorpusError, CorpusFiles, find_corpora
from megatron.corpus.reading.fields import text_only
from megatron.corpus.reading.jsonl import jsonl_documents
from megatron.corpus.reading.problems import Problems, ReadCounts
from megatron.tokenizer.extend.source import Source
from megatron.utils.log import get_logger

_DOCUMENT_BYTES = 1 << 16  # of a plain text
_NOT_PLAIN = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".gz", ".zst")
_logger = get_logger(__name__)


class _Reader(Protocol):
    def __call__(self) -> Iterator[str]: ...
    def is_cut(self) -> bool: ...
    def size_bytes(self) -> int: ...


@dataclass(frozen=True)
class _Documents:
    """The documents of a corpus up to a number of bytes; the last one is cut there. Each call begins anew.

    A line without a document is an empty text, so that a document's number is that of its line, as in parallel text.
    """

    corpus: CorpusFiles
    limit_bytes: int
    text_key: str

    def __call__(self) -> Iterator[str]:
        left_bytes = self.limit_bytes
        for data in self._documents():
            yield data[:left_bytes].decode("utf-8", errors="ignore")  # the cut may go through a character
            left_bytes -= len(data)
            if left_bytes <= 0:
                return

    def is_cut(self) -> bool:
        """Return whether the corpus has more."""
        total_bytes = 0
        return any((total_bytes := total_bytes + len(data)) > self.limit_bytes for data in self._documents())

    def size_bytes(self) -> int:
        """Return how large the files are."""
        return sum(path.stat().st_size for path in self.corpus.paths)

    def _documents(self) -> Iterator[bytes]:
        policy = ReadConfig(broken_records="stop", cut_short="stop", max_document_bytes=MAX_LINE_BYTES)
        for path in self.corpus.paths:
            counts, last = ReadCounts(), 0
            to_document = partial(text_only, text_key=self.text_key, kinds=counts.kinds)
            for document in jsonl_documents(to_document, "line", Problems(path, policy, counts)):
                line = int(document.id.rpartition(":")[2])
                yield from repeat(b"", line - last - 1)
                yield document.text.encode("utf-8")
                last = line
            yield from repeat(b"", counts.documents + counts.dropped.total() + counts.empty_lines - last)


@dataclass(frozen=True)
class _PlainText:
    """A plain text file up to a number of bytes, as documents of some kilobytes that end with a line or are cut."""

    path: Path
    limit_bytes: int

    def __call__(self) -> Iterator[str]:
        left_bytes = self.limit_bytes
        lines: list[bytes] = []
        size_bytes = 0
        with self.path.open("rb") as file:
            # A file may be one line: no more of it is read than is used.
            while left_bytes > 0 and (line := file.readline(left_bytes)):
                left_bytes -= len(line)
                lines.append(line)
                size_bytes += len(line)
                if size_bytes >= _DOCUMENT_BYTES:
                    yield _text(lines)
                    lines, size_bytes = [], 0
        if lines:
            yield _text(lines)

    def is_cut(self) -> bool:
        """Return whether the file has more."""
        return self.size_bytes() > self.limit_bytes

    def size_bytes(self) -> int:
        """Return how large the file is."""
        return self.path.stat().st_size


def extension_sources(
    inputs: Sequence[Path],
    *,
    pivots: Sequence[str],
    pivot_texts: Sequence[Path],
    max_bytes_per_corpus: int,
    max_pivot_bytes: int,
    text_key: str = "text",
    weighted: Collection[str] = (),
) -> list[Source]:
    """Find the corpora to learn from and the pivots.

    Args:
        inputs: document files, and folders as :func:`megatron.corpus.read.find_corpora` takes them.
        pivots: codes or names of corpora that are pivots, or sources: ``code`` is all corpora ``code-...`` too.
        pivot_texts: further pivots: document files, folders of them, or plain text files.
        max_bytes_per_corpus: UTF-8 bytes of each corpus to learn from.
        max_pivot_bytes: the same of each pivot; a warning names pivots that have more.
        text_key: the JSON field that holds the text.
        weighted: codes whose share of what is learnt from is to change: not those of pivots.

    Raises:
        CorpusError: a corpus cannot be read, a pivot is not there, two corpora have one name, or only pivots have a
            code that is weighted.
        ValueError: a limit is not positive.
    """
    for name, limit in (("max_bytes_per_corpus", max_bytes_per_corpus), ("max_pivot_bytes", max_pivot_bytes)):
        if limit < 1:
            raise ValueError(f"{name} {limit}: must be at least 1")
    corpora = [corpus for path in inputs for corpus in find_corpora(path, text_key=text_key)]
    _check_pivots(corpora, pivots)
    sources = []
    for corpus in corpora:
        is_pivot = not _keys(corpus).isdisjoint(pivots)
        read = _Documents(corpus, max_pivot_bytes if is_pivot else max_bytes_per_corpus, text_key)
        sources.append(_source(corpus.name, corpus.code, read, is_pivot=is_pivot))
    for path in pivot_texts:
        if path.is_file() and not path.name.endswith(_NOT_PLAIN):
            sources.append(_source(f"pivot:{path}", "zxx_Zyyy", _PlainText(path, max_pivot_bytes), is_pivot=True))
            continue
        for corpus in find_corpora(path, text_key=text_key):
            read = _Documents(corpus, max_pivot_bytes, text_key)
            sources.append(_source(f"pivot:{corpus.name}", corpus.code, read, is_pivot=True))
    names = [source.name for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CorpusError(f"two corpora are named {', '.join(twice)}; rename one")
    learnt = {source.code for source in sources if not source.is_pivot}
    if idle := sorted({source.code for source in sources if source.is_pivot}.intersection(weighted) - learnt):
        raise CorpusError(f"--weights {', '.join(idle)}: a pivot, from which nothing is learnt; leave its weight out")
    return sources


def _source(name: str, code: str, read: _Reader, *, is_pivot: bool) -> Source:
    source = Source(name, code, read, is_pivot, is_cut=read.is_cut())
    if is_pivot and source.is_cut:
        _logger.warning(
            "%s: has more text than --max-pivot-bytes (its files have %s bytes); what follows is neither guarded nor "
            "measured, and may get other ids",
            name, f"{read.size_bytes():,}",
        )  # fmt: skip
    return source


def _keys(corpus: CorpusFiles) -> set[str]:
    """Return by what a corpus may be named: its name, its code, and its source where that is not text of a language."""
    source = corpus.name.partition("-")[0] if corpus.source not in ("monolingual", "bilingual") else corpus.name
    return {corpus.name, corpus.code, source}


def _check_pivots(corpora: Sequence[CorpusFiles], pivots: Sequence[str]) -> None:
    known = {key for corpus in corpora for key in _keys(corpus)}
    if missing := [pivot for pivot in pivots if pivot not in known]:
        names = [corpus.name for corpus in corpora]
        more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
        raise CorpusError(
            f"pivots {', '.join(missing)}: no corpus of the input has this name or code; they are "
            f"{', '.join(names[:20])}{more}"
        )


def _text(lines: Sequence[bytes]) -> str:
    return b"".join(lines).decode("utf-8", errors="ignore").removesuffix("\n")
