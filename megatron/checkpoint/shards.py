"""Safetensors files, written one tensor at a time: what is in one, in which order, and its checksums."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO

import orjson
import torch
from torch import Tensor

from megatron.checkpoint.blocks import BlockWriter, FileSums
from megatron.checkpoint.index import DTYPE_NAMES, Part, StoredTensor
from megatron.checkpoint.storage import Storage

MODEL, OPTIMIZER = "model", "optimizer"


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


@dataclasses.dataclass(frozen=True)
class File:
    """A safetensors file: its header, and the pieces that follow it without gaps."""

    name: str
    header: bytes
    pieces: tuple[Piece, ...]


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


def stored_tensors(pieces: Iterable[Piece]) -> dict[str, StoredTensor]:
    """Return the tensors that pieces make up together."""
    parts: dict[str, list[Piece]] = {}
    for piece in pieces:
        parts.setdefault(piece.name, []).append(piece)
    return {
        name: StoredTensor(of_one[0].dtype, of_one[0].whole, tuple(piece.part for piece in of_one))
        for name, of_one in parts.items()
    }


def write_file(folder: Storage, file: File, tensor_of: Callable[[Piece], Tensor]) -> FileSums:
    """Write a safetensors file, durable when this returns, one piece after the other.

    Args:
        folder: where to write.
        file: what is in it.
        tensor_of: returns a piece's elements, on any device.

    Raises:
        OSError: it cannot be written.
    """
    sums: list[FileSums] = []

    def write(stream: BinaryIO) -> None:
        writer = BlockWriter(stream)
        writer.write(file.header)
        for piece in file.pieces:
            flat = tensor_of(piece).detach().cpu().contiguous().view(-1)
            writer.write(flat.view(torch.uint8).numpy().data)
        sums.append(writer.sums())

    folder.put(file.name, write)
    return sums[-1]
