"""Safetensors files, written one tensor at a time: what is in one, in which order, and its checksums."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, BinaryIO

import orjson
import torch
import xxhash
from torch import Tensor

from megatron.checkpoint.blocks import BlockWriter, FileSums, read_sums
from megatron.checkpoint.index import DTYPE_NAMES, Part, StoredTensor
from megatron.checkpoint.storage import Storage
from megatron.data.prefetch import Prefetcher
from megatron.utils.log import get_logger, progress_bar

_logger = get_logger(__name__)

MODEL, OPTIMIZER = "model", "optimizer"

Place = tuple[slice, ...]
"""A box of a tensor, one slice for each dimension."""

# What is read and written at once: memory of this size is used again, that of a whole matrix is always new.
_ROWS_BYTES = 16 << 20

FILE_BYTES = 5_000_000_000
"""How large files of weights become."""



@dataclasses.dataclass(frozen=True)
class Box:
    """A box of a tensor that has no place in a file yet; fields as of :class:`Piece` and its part."""

    name: str
    dtype: torch.dtype
    whole: tuple[int, ...]
    offset: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def all_of(cls, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Box:
        """Return the box that is the whole tensor."""
        return cls(name, dtype, shape, (0,) * len(shape), shape)


@dataclasses.dataclass(frozen=True)
class Piece:
    """A box of a tensor that this process writes.

    Attributes:
        name: the tensor's, in the index.
        dtype: of its elements.
        whole: the tensor's shape.
        part: where the box lies in the tensor and in which file.
    """

    name: str
    dtype: torch.dtype
    whole: tuple[int, ...]
    part: Part

    @property
    def num_bytes(self) -> int:
        """Bytes of the box."""
        return math.prod(self.part.shape) * self.dtype.itemsize

    def rows(self) -> Iterator[Place]:
        """Yield the box in groups of rows that follow each other."""
        return row_groups(self.part.shape, self.dtype.itemsize, offset=self.part.offset)


@dataclasses.dataclass(frozen=True)
class File:
    """A safetensors file: its header, and the pieces that follow it without gaps."""

    name: str
    header: bytes
    pieces: tuple[Piece, ...]

    @property
    def num_bytes(self) -> int:
        """Its size."""
        return len(self.header) + sum(piece.num_bytes for piece in self.pieces)


def file_name(kind: str, rank: int = 0, size: int = 1) -> str:
    """Return the name of the file with the weights, or the moments, that one of ``size`` processes writes."""
    return f"{kind}-{rank + 1:05d}-of-{size:05d}.safetensors"


def arranged_file(name: str, boxes: Sequence[Box]) -> File:
    """Return a safetensors file of boxes, the widest dtypes first, so that each begins at a multiple of its width."""
    ordered = sorted(boxes, key=lambda box: -box.dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    starts, end = [], 0
    for box in ordered:
        starts.append(end)
        end += math.prod(box.shape) * box.dtype.itemsize
        entry = {"dtype": DTYPE_NAMES[box.dtype], "shape": box.shape, "data_offsets": [starts[-1], end]}
        header[_name_in_file(box)] = entry
    text = orjson.dumps(header)
    text += b" " * (-len(text) % 8)
    first = 8 + len(text)
    pieces = tuple(
        Piece(box.name, box.dtype, box.whole, Part(box.offset, box.shape, name, first + start))
        for box, start in zip(ordered, starts, strict=True)
    )
    return File(name, len(text).to_bytes(8, "little") + text, pieces)


def _name_in_file(box: Box) -> str:
    """Return a tensor's own name, and for a box of it also where it is, as Python would slice it."""
    name = box.name.removeprefix(f"{MODEL}.").removeprefix(f"{OPTIMIZER}.state.")
    if box.shape == box.whole:
        return name
    slices = ",".join(f"{first}:{first + size}" for first, size in zip(box.offset, box.shape, strict=True))
    return f"{name}[{slices}]"


def row_groups(
    shape: Sequence[int], itemsize: int, *, offset: Sequence[int] | None = None
) -> Iterator[Place]:
    """Yield groups of rows (of the first dimension) that follow each other, of about 16 MiB or a single larger row.

    Args:
        shape: of a tensor, or of a box of it; of a single number, one empty place is yielded.
        itemsize: bytes of an element.
        offset: where the box begins.
    """
    if not shape:
        yield ()
        return
    begin = offset or (0,) * len(shape)
    columns = tuple(slice(first, first + size) for first, size in zip(begin[1:], shape[1:], strict=True))
    step = max(1, _ROWS_BYTES // max(1, math.prod(shape[1:]) * itemsize))
    for first in range(0, shape[0], step):
        yield (slice(begin[0] + first, begin[0] + min(first + step, shape[0])), *columns)


def grouped(boxes: Iterable[Box]) -> Iterator[list[Box]]:
    """Yield boxes in groups for a file each, of at most :data:`FILE_BYTES`."""
    group: list[Box] = []
    size = 0
    for box in boxes:
        num_bytes = math.prod(box.shape) * box.dtype.itemsize
        if group and size + num_bytes > FILE_BYTES:
            yield group
            group, size = [], 0
        group.append(box)
        size += num_bytes
    yield group


def headers_of(files: Iterable[File]) -> str:
    """Return a text that says what is in files, and where."""
    return xxhash.xxh3_128_hexdigest(b"".join(file.name.encode() + file.header for file in files))


def stored_tensors(pieces: Iterable[Piece]) -> dict[str, StoredTensor]:
    """Return the tensors that pieces make up together."""
    parts: dict[str, list[Piece]] = {}
    for piece in pieces:
        parts.setdefault(piece.name, []).append(piece)
    return {
        name: StoredTensor(of_one[0].dtype, of_one[0].whole, tuple(piece.part for piece in of_one))
        for name, of_one in parts.items()
    }


def write_file(
    folder: Storage, file: File, read: Callable[[Piece], Iterable[Tensor]], *, ahead: int = 0
) -> FileSums:
    """Write a safetensors file, durable when this returns, one piece after the other.

    Args:
        folder: where to write.
        file: what is in it.
        read: returns a piece's elements, on any device: tensors whose rows follow each other.
        ahead: so many of these tensors are read, in a thread, while the one before is written.

    Raises:
        OSError: it cannot be written.
    """
    sums: list[FileSums] = []

    def write(stream: BinaryIO) -> None:
        writer = BlockWriter(stream)
        writer.write(file.header)
        tensors = (rows for piece in file.pieces for rows in read(piece))
        with Prefetcher(tensors, ahead) if ahead else nullcontext(tensors) as ready:
            for rows in ready:
                flat = rows.detach().cpu().contiguous().view(-1)
                writer.write(flat.view(torch.uint8).numpy().data)
        sums.append(writer.sums())

    folder.put(file.name, write)
    return sums[-1]


def write_files(
    folder: Storage,
    files: Sequence[File],
    read: Callable[[Piece], Iterable[Tensor]],
    *,
    description: str,
    resumed: bool = False,
) -> dict[str, FileSums]:
    """Write safetensors files in this process alone, behind a progress bar.

    Args:
        folder: where to write.
        files: what is in them.
        read: as for :func:`write_file`.
        description: of the bar.
        resumed: whether an earlier call with the same ``files`` may have finished some of them in this folder; they are
            read instead of written, and all else that lies there is deleted.

    Raises:
        OSError: one cannot be written.
    """
    done: set[str] = set()
    if resumed:
        sizes = folder.sizes()
        done = {file.name for file in files if sizes.get(file.name) == file.num_bytes}
        _logger.info("going on: %d of %d files in %s are done", len(done), len(files), folder)
        for name in set(folder.names()) - done:
            folder.remove(name)  # left by a process that was killed while it wrote
    sums = {}
    with progress_bar(sum(file.num_bytes for file in files), description=description) as advance:

        def shown(piece: Piece) -> Iterator[Tensor]:
            for rows in read(piece):
                advance(rows.nbytes)
                yield rows

        for file in files:
            if file.name in done:
                sums[file.name] = read_sums(folder, file.name, file.num_bytes, advance)
            else:
                sums[file.name] = write_file(folder, file, shown, ahead=2)
                advance(len(file.header))
    return sums
