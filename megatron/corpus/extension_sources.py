"""The corpora that a tokenizer is extended for, and the pivots whose segmentation must stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron.corpus.balanced import first_bytes
from megatron.corpus.read import CorpusError, CorpusFiles, find_corpora
from megatron.tokenizer.extend.source import Source

_DOCUMENT_BYTES = 1 << 16  # of a plain text


@dataclass(frozen=True)
class _Documents:
    """The documents of a corpus up to a number of bytes, as :func:`megatron.corpus.balanced.balanced_texts` has them.

    Each call begins anew.
    """

    corpus: CorpusFiles
    limit_bytes: int
    text_key: str

    def __call__(self) -> Iterator[str]:
        for data in first_bytes(self.corpus, self.limit_bytes, self.text_key):
            yield data.decode("utf-8", errors="ignore")  # the cut may go through a character


@dataclass(frozen=True)
class _PlainText:
    """A plain text file up to a number of bytes, as documents of some kilobytes that end with a line."""

    path: Path
    limit_bytes: int

    def __call__(self) -> Iterator[str]:
        left_bytes = self.limit_bytes
        with self.path.open("rb") as file:
            while left_bytes > 0 and (lines := file.readlines(min(left_bytes, _DOCUMENT_BYTES))):
                data = b"".join(lines)[:left_bytes]
                left_bytes -= len(data)
                yield data.decode("utf-8", errors="ignore").removesuffix("\n")


def extension_sources(
    inputs: Sequence[Path],
    *,
    pivots: Sequence[str],
    pivot_texts: Sequence[Path],
    max_bytes_per_corpus: int,
    max_pivot_bytes: int,
    text_key: str = "text",
) -> list[Source]:
    """Find the corpora to learn from and the pivots.

    Args:
        inputs: document files, and folders as :func:`megatron.corpus.read.find_corpora` takes them.
        pivots: codes or names of corpora that are pivots.
        pivot_texts: further pivots: document files, folders of them, or plain text files.
        max_bytes_per_corpus: UTF-8 bytes of each corpus to learn from.
        max_pivot_bytes: the same of each pivot.
        text_key: the JSON field that holds the text.

    Raises:
        CorpusError: a corpus cannot be read, a pivot is not there, or two corpora have one name.
        ValueError: a limit is not positive.
    """
    for name, limit in (("max_bytes_per_corpus", max_bytes_per_corpus), ("max_pivot_bytes", max_pivot_bytes)):
        if limit < 1:
            raise ValueError(f"{name} {limit}: must be at least 1")
    sources = []
    for corpus in (corpus for path in inputs for corpus in find_corpora(path, text_key=text_key)):
        is_pivot = corpus.code in pivots or corpus.name in pivots
        limit = max_pivot_bytes if is_pivot else max_bytes_per_corpus
        sources.append(Source(corpus.name, corpus.code, _Documents(corpus, limit, text_key), is_pivot))
    known = {key for source in sources for key in (source.name, source.code)}
    if missing := [pivot for pivot in pivots if pivot not in known]:
        raise CorpusError(f"pivots {', '.join(missing)}: no corpus of the input has this name or code")
    for path in pivot_texts:
        if path.is_file() and not path.name.endswith((".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".gz", ".zst")):
            sources.append(Source(f"pivot:{path}", "zxx_Zyyy", _PlainText(path, max_pivot_bytes), is_pivot=True))
            continue
        for corpus in find_corpora(path, text_key=text_key):
            read = _Documents(corpus, max_pivot_bytes, text_key)
            sources.append(Source(f"pivot:{corpus.name}", corpus.code, read, is_pivot=True))
    names = [source.name for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CorpusError(f"two corpora are named {', '.join(twice)}; rename one")
    return sources
