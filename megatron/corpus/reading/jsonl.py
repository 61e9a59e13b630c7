"""JSON lines: one object a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import orjson

from megatron.corpus.reading.fields import Record, kind_of
from megatron.corpus.reading.problems import BrokenRecord, Problems, not_utf8

_Document = TypeVar("_Document")


def jsonl_documents(
    to_document: Callable[[Record, str], _Document], name: str, problems: Problems
) -> Iterator[_Document]:
    """Yield the documents of a file, plain or compressed.

    Args:
        to_document: makes a document, or whatever is wanted, of an object and its id.
        name: begins the documents' ids, ``<name>:<line>``; no ids without it.
        problems: the file, and what to do with lines that cannot be used.

    Raises:
        CorpusError: the file cannot be read, or a line is broken and the policy is to stop there.
    """
    prefix = f"{name}:" if name else ""
    for number, line in enumerate(problems.lines(), start=1):
        try:
            if line is None:
                raise problems.too_long()
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                if not line or line.isspace():
                    problems.counts.empty_lines += 1
                    continue
                _explain(line, error)
            if type(record) is not dict:
                problem = f"not a JSON object but {kind_of(record)}"
                raise BrokenRecord("not_an_object", problem, 'write one {"text": ...} a line')
            document = to_document(record, f"{prefix}{number}" if prefix else "")
        except BrokenRecord as broken:
            problems.drop(number, broken)
            continue
        yield document


def _explain(line: bytes, error: orjson.JSONDecodeError) -> NoReturn:
    """Say why a line is not JSON: most often because it is not UTF-8, which JSON has to be."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as broken:
        raise not_utf8(broken, "line") from None
    if "surrogate" in str(error):
        problem = f"a lone surrogate escape (\\ud800 to \\udfff) is no character: {error}"
        raise BrokenRecord("lone_surrogate", problem, "mend the text")
    raise BrokenRecord("not_json", f"not JSON: {error}", "write one JSON object a line")
