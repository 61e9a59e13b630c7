"""Plain text: a file that is one document, or one with a document a line."""

from __future__ import annotations

from collections.abc import Iterator

from megatron.corpus.document import Document
from megatron.corpus.reading.lines import BYTE_ORDER_MARK
from megatron.corpus.reading.problems import BrokenRecord, Problems


def text_document(code: str | None, name: str, problems: Problems) -> Iterator[Document]:
    """Yield the one document of a file, unless it cannot be used.

    Args:
        code: its language code.
        name: begins its id, ``<name>:1``.
        problems: the file, plain or compressed, and what to do when it cannot be used. Where it is cut short, its one
            document is.

    Raises:
        CorpusError: the file cannot be read, or its text cannot be used and the policy is to stop there.
    """
    data = bytearray()
    try:
        for chunk in problems.chunks():
            data += chunk
            if len(data) > problems.policy.max_document_bytes:
                raise problems.too_long()
        if problems.is_cut:
            return
        text = problems.decode(bytes(data.removeprefix(BYTE_ORDER_MARK)))
    except BrokenRecord as broken:
        problems.drop(1, broken)
        return
    problems.counts.kinds["text"] += 1
    yield Document(text, code, f"{name}:1")


def line_documents(code: str | None, name: str, problems: Problems) -> Iterator[Document]:
    """Yield every line of a file as a document; empty lines are no records. See :func:`text_document`."""
    for number, line in enumerate(problems.lines(), start=1):
        if line is not None and (not line or line.isspace()):
            problems.counts.empty_lines += 1
            continue
        try:
            text = problems.decode(line).removesuffix("\r")
        except BrokenRecord as broken:
            problems.drop(number, broken)
            continue
        problems.counts.kinds["text"] += 1
        yield Document(text, code, f"{name}:{number}")
