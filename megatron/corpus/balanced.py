"""The same amount of text of every corpus, for a tokenizer that is to know the small languages too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from megatron.corpus.read import CorpusFiles, find_corpora, read_documents
from megatron.utils.log import get_logger, progress

_logger = get_logger(__name__)


def balanced_texts(
    inputs: Sequence[Path], *, max_bytes_per_corpus: int, text_key: str = "text", show_progress: bool = True
) -> Iterator[str]:
    """Yield the first documents of every corpus, up to the same number of UTF-8 bytes; always the same ones.

    Corpora that have less are taken whole, once. The last document of a corpus is cut at the limit.

    Args:
        inputs: document files, and folders as :func:`megatron.corpus.read.find_corpora` takes them.
        max_bytes_per_corpus: UTF-8 bytes of each corpus.
        text_key: the JSON field that holds the text.
        show_progress: draw a progress bar on standard error.

    Raises:
        CorpusError: a corpus cannot be read.
        ValueError: the limit is not positive.
    """
    if max_bytes_per_corpus < 1:
        raise ValueError(f"max_bytes_per_corpus {max_bytes_per_corpus}: must be at least 1")
    corpora = [corpus for path in inputs for corpus in find_corpora(path, text_key=text_key)]
    total_bytes = 0
    for corpus in progress(corpora, description="read", unit="corpus", disable=not show_progress):
        for data in first_bytes(corpus, max_bytes_per_corpus, text_key):
            total_bytes += len(data)
            yield data.decode("utf-8", errors="ignore")  # the cut may go through a character
    _logger.info("%s bytes of text from %d corpora", f"{total_bytes:,}", len(corpora))


def first_bytes(corpus: CorpusFiles, limit_bytes: int, text_key: str) -> Iterator[bytes]:
    """Yield the first documents of a corpus as UTF-8, up to a number of bytes; the last one may be cut."""
    left_bytes = limit_bytes
    for path in corpus.paths:
        for document in read_documents(path, text_key=text_key):
            data = document.text.encode("utf-8")[:left_bytes]
            yield data
            left_bytes -= len(data)
            if left_bytes <= 0:
                return
