"""Parquet files, and the Arrow files of ``datasets.save_to_disk``, a batch of rows at a time.

Both come from pyarrow, which is not needed for anything else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

from megatron.corpus.document import CorpusError
from megatron.corpus.reading.fields import Record
from megatron.corpus.reading.problems import BrokenRecord, Problems, listed, not_utf8

# Few rows at a time, because a page of a few bytes can repeat one long text in every row.
_BATCH_ROWS = 64
_BATCH_BYTES = 4 << 20
_BUFFER_BYTES = 1 << 20
_ARROW_FILE_MAGIC = b"ARROW1"

_Document = TypeVar("_Document")


def table_documents(
    to_document: Callable[[Record, str], _Document],
    columns: Collection[str],
    name: str,
    problems: Problems,
    *,
    is_parquet: bool,
) -> Iterator[_Document]:
    """Yield the documents of a file, one for each row.

    Args:
        to_document: makes a document, or whatever is wanted, of a row and its id.
        columns: the columns to read, those of them that the file has.
        name: begins the documents' ids, ``<name>:<row>``.
        problems: the file, and what to do with rows that cannot be used.
        is_parquet: whether it is a Parquet file, or else Arrow's stream or file format.

    Raises:
        CorpusError: pyarrow is missing; the file is broken or has none of the columns; or a row cannot be used and the
            policy is to stop there. What comes after a broken part cannot be read, whatever the policy.
    """
    number, read_before = 0, problems.counts.read_bytes
    for batch, read_bytes in _batches(problems.path, columns, is_parquet):
        problems.counts.read_bytes = read_before + read_bytes
        names, values = batch.schema.names, batch.columns
        too_long = {row for column in values for row in _too_long(column, problems.policy.max_document_bytes)}
        for row in range(batch.num_rows):
            number += 1
            try:
                if row in too_long:
                    raise problems.too_long()
                record = {key: _value(column, row) for key, column in zip(names, values, strict=True)}
                document = to_document(record, f"{name}:{number}")
            except BrokenRecord as broken:
                problems.drop(number, broken)
                continue
            yield document


def _value(column: Any, row: int) -> Any:
    """Return a value as Python's; older writers do not mark text as text, so bytes are read as UTF-8."""
    try:
        value = column[row].as_py()
        return value.decode("utf-8") if isinstance(value, bytes) else value
    except UnicodeDecodeError as error:
        raise not_utf8(error, "row") from None
    except (ValueError, OverflowError, LookupError, NotImplementedError) as error:
        raise BrokenRecord("wrong_fields", f"holds a value that cannot be read ({error})", "mend the file") from None


def _too_long(column: Any, limit_bytes: int) -> Iterator[int]:
    """Yield the rows whose value takes more than the limit."""
    if column.nbytes > limit_bytes:
        yield from (row for row in range(len(column)) if column.slice(row, 1).nbytes > limit_bytes)


def _batches(path: Path, columns: Collection[str], is_parquet: bool) -> Iterator[tuple[Any, int]]:
    """Yield record batches with the wanted columns, each with the bytes of the file that lie behind it.

    Every way a file can be broken becomes one error.
    """
    arrow = _pyarrow(path)
    try:
        yield from (_parquet_batches if is_parquet else _arrow_batches)(path, columns)
    except MemoryError as error:
        raise CorpusError(f"{path}: asks for more memory than there is; it is broken, or made to do harm") from error
    except (arrow.ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"{path}: cannot be read ({error}); fetch or write it again") from error


def _parquet_batches(path: Path, columns: Collection[str]) -> Iterator[tuple[Any, int]]:
    parquet = importlib.import_module("pyarrow.parquet")
    size_bytes = path.stat().st_size
    # Neither reads ahead nor holds whole row groups: some files are one row group.
    with parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES, memory_map=False) as file:
        chosen = _chosen(path, file.schema_arrow.names, columns)
        metadata = file.metadata
        text_bytes = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES * metadata.num_rows // max(1, text_bytes)))
        done = 0
        for batch in file.iter_batches(rows, columns=chosen, use_threads=False):
            done += batch.num_rows
            yield batch, size_bytes * done // max(1, metadata.num_rows)


def _arrow_batches(path: Path, columns: Collection[str]) -> Iterator[tuple[Any, int]]:
    arrow, ipc = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.ipc")
    with path.open("rb") as raw:
        is_file = raw.read(len(_ARROW_FILE_MAGIC)) == _ARROW_FILE_MAGIC
    open_reader = ipc.open_file if is_file else ipc.open_stream
    with arrow.OSFile(str(path)) as file:
        with open_reader(file) as reader:
            names = reader.schema.names
        wanted = [names.index(name) for name in _chosen(path, names, columns)]
        file.seek(0)
        options = ipc.IpcReadOptions(included_fields=wanted, use_threads=False)
        with open_reader(file, options=options) as reader:
            batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
            for number, batch in enumerate(batches, start=1):
                # The format's own offsets are not checked by its reader: without this a broken file reads anywhere.
                batch.validate(full=True)
                yield batch, path.stat().st_size * number // reader.num_record_batches if is_file else file.tell()


def _chosen(path: Path, names: list[str], columns: Collection[str]) -> list[str]:
    chosen = [name for name in dict.fromkeys(names) if name in columns]
    if not chosen:
        raise CorpusError(
            f"{path}: has none of the columns that are looked for; it has: {listed(names)}. "
            "Name them in the input's settings (text_key and its like)"
        )
    return chosen


def _pyarrow(path: Path) -> Any:
    try:
        return importlib.import_module("pyarrow")
    except ImportError:
        raise CorpusError(f"{path}: reading this format needs pyarrow: pip install pyarrow") from None
