"""The bytes of plain and compressed files, in pieces."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from megatron.corpus.document import CorpusError

_CHUNK_BYTES = 1 << 20
_GZIP_BYTES = 1 << 16
# A zstd block of 4 bytes can stand for 128 KiB, so this much compressed data becomes 128 MiB at the most.
_ZSTD_INPUT_BYTES = 4096

#: Is told how many more bytes of a file, as it lies on disk, have been read.
OnRead = Callable[[int], object]


class CutShortError(CorpusError):
    """A compressed file that ends before its data does."""


def chunks(path: Path, on_read: OnRead = lambda size: None) -> Iterator[bytes]:
    """Yield the uncompressed bytes of a file in pieces of at most 1 MiB.

    Args:
        path: a plain file, or a compressed one whose name ends in ``.gz`` or ``.zst``.
        on_read: told of progress.

    Raises:
        CutShortError: a compressed file ends in the middle; what could be read has been handed out.
        CorpusError: the file cannot be read, or its compressed data is broken.
    """
    try:
        if path.name.endswith((".gz", ".zst")) and path.stat().st_size == 0:
            raise EOFError  # even a file without any text has a header; gzip's reader takes this for an empty file
        if path.name.endswith(".zst"):
            yield from zstd_chunks(path, on_read)
        elif path.name.endswith(".gz"):
            yield from _gzip_chunks(path, on_read)
        else:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    on_read(len(chunk))
                    yield chunk
    except EOFError:
        raise CutShortError(f"{path}: the compressed file is cut short; fetch or write it again") from None
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise CorpusError(f"{path}: the compressed data is broken ({error}); fetch or write it again") from error
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error


def zstd_chunks(path: Path, on_read: OnRead = lambda size: None) -> Iterator[bytes]:
    """Yield the uncompressed bytes of all frames of a file, in pieces of at most 1 MiB.

    The library's own stream reader does not tell the end of a frame from the end of a file that was cut short.

    Raises:
        EOFError: the file ends inside a frame.
        OSError: it cannot be read.
        zstandard.ZstdError: it is no zstd file, or broken.
    """
    context = zstandard.ZstdDecompressor()
    frame = context.decompressobj()
    inside = False
    with path.open("rb") as file:
        # Small inputs at a time, because one call returns all that its input stands for.
        while data := file.read(_ZSTD_INPUT_BYTES):
            on_read(len(data))
            while data:
                inside = True
                found = frame.decompress(data)
                if len(found) <= _CHUNK_BYTES:
                    yield found
                else:
                    yield from (found[start : start + _CHUNK_BYTES] for start in range(0, len(found), _CHUNK_BYTES))
                data = b""
                if frame.eof:
                    data, inside = frame.unused_data, False
                    frame = context.decompressobj()
    if inside:
        raise EOFError


def _gzip_chunks(path: Path, on_read: OnRead) -> Iterator[bytes]:
    place = 0
    with path.open("rb") as raw, gzip.GzipFile(fileobj=cast(BinaryIO, raw)) as file:
        # Not `read`, which would lose what it has when the file ends in the middle.
        while chunk := file.read1(_GZIP_BYTES):
            on_read(raw.tell() - place)
            place = raw.tell()
            yield chunk
        on_read(raw.tell() - place)
