"""Raw files as documents, whatever their format: stage read of the corpus pipeline.

Files are read as streams: memory is bounded by the longest record, whatever the file's size. Every file may be broken
or made to do harm.
"""

from __future__ import annotations

from collections.abc import Iterator

from megatron.config.corpus_schema import InputConfig, InstructionsConfig, ReadConfig
from megatron.corpus.document import Document
from megatron.corpus.instructions import InstructionTemplate
from megatron.corpus.reading.fields import RecordFields, language_codes
from megatron.corpus.reading.find import InputFile
from megatron.corpus.reading.jsonl import jsonl_documents
from megatron.corpus.reading.moses import moses_codes, moses_documents
from megatron.corpus.reading.problems import REASONS, Problems, ReadCounts
from megatron.corpus.reading.tables import table_documents
from megatron.corpus.reading.text import line_documents, text_document
from megatron.corpus.reading.tmx import tmx_documents
from megatron.utils.log import get_logger

__all__ = ["REASONS", "ReadCounts", "read_input"]

_UNITS = {"parquet": "row", "arrow": "row", "tmx": "unit", "text": "file"}

_logger = get_logger(__name__)


def read_input(
    file: InputFile,
    settings: InputConfig,
    policy: ReadConfig,
    *,
    counts: ReadCounts,
    instructions: InstructionsConfig,
) -> Iterator[Document]:
    """Yield the documents of one file, or of the two of a Moses pair, in order and as a stream.

    The ids are ``<name of the file>:<record>``; records are lines, rows or units, from 1.

    Args:
        file: the file.
        settings: the input that it belongs to: field names, and the codes of documents that carry none.
        policy: what to do with broken records and with compressed files that are cut short, and the longest record.
        counts: filled while reading, so that nothing is left out without a count.
        instructions: the template of instructions.

    Raises:
        CorpusError: the file cannot be read, or holds a broken record and the policy is to stop there; says where.
    """
    name, path, codes = file.name, file.paths[0], language_codes(settings)
    problems = Problems(path, policy, counts, unit=_UNITS.get(file.format, "line"))
    if file.format == "moses":
        yield from moses_documents((path, file.paths[1]), moses_codes(file.paths, codes), name, problems)
    elif file.format == "tmx":
        yield from tmx_documents(codes, name, problems)
    elif file.format in ("text", "lines"):
        read_text = text_document if file.format == "text" else line_documents
        yield from read_text(next(iter(codes), None), name, problems)
    else:
        fields = RecordFields(settings, InstructionTemplate(instructions), counts.kinds)
        if file.format == "jsonl":
            yield from jsonl_documents(fields.document, name, problems)
        else:
            is_parquet = file.format == "parquet"
            yield from table_documents(fields.document, fields.names, name, problems, is_parquet=is_parquet)
    if file.source == "monolingual" and (counts.kinds["instruction"] or counts.kinds["code"]):
        _logger.warning(
            "%s: counts as monolingual text, but holds %d instructions and %d documents of code; give it a `source`",
            path,
            counts.kinds["instruction"],
            counts.kinds["code"],
        )
