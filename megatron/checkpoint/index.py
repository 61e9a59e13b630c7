"""The index of a checkpoint: which part of which tensor lies where. JSON, so that reading it runs no code."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import orjson
import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)

from megatron.checkpoint.blocks import BLOCK_BYTES, DamagedError, FileSums

VERSION = 1

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
        "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
        "BOOL": torch.bool,
    }
)  # fmt: skip
"""The names that safetensors gives to dtypes."""

DTYPE_NAMES: Mapping[torch.dtype, str] = MappingProxyType({dtype: name for name, dtype in DTYPES.items()})


@dataclasses.dataclass(frozen=True)
class Part:
    """A box of a tensor, and where it lies.

    Attributes:
        offset: where it begins in the tensor, for each dimension.
        shape: its extent.
        file: the file that holds its elements in row-major order.
        start: the first byte in the file.
    """

    offset: tuple[int, ...]
    shape: tuple[int, ...]
    file: str
    start: int


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint.

    Attributes:
        dtype: of its elements.
        shape: of the whole.
        parts: boxes that together are the whole.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    parts: tuple[Part, ...]

    def num_bytes(self, part: Part) -> int:
        """Return the bytes of one of its parts."""
        return math.prod(part.shape) * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class Index:
    """What a checkpoint's files hold.

    Attributes:
        tensors: by name: ``model.<parameter>`` and ``optimizer.state.<parameter>.<what>``.
        files: what each file must be.
    """

    tensors: Mapping[str, StoredTensor]
    files: Mapping[str, FileSums]

    def to_json(self) -> bytes:
        """Return the index as it is stored."""
        tensors = {
            name: {
                "dtype": DTYPE_NAMES[tensor.dtype],
                "shape": tensor.shape,
                "parts": [[part.offset, part.shape, part.file, part.start] for part in tensor.parts],
            }
            for name, tensor in self.tensors.items()
        }
        files = {name: {"bytes": sums.bytes, "blocks": sums.blocks} for name, sums in self.files.items()}
        return orjson.dumps({"version": VERSION, "files": files, "tensors": tensors})

    @classmethod
    def from_json(cls, data: bytes) -> Index:
        """Read an index.

        Raises:
            DamagedError: it is not one, or it contradicts itself.
        """
        try:
            value = orjson.loads(data)
            if value["version"] != VERSION:
                raise DamagedError(f"its index has version {value['version']!r}; this program reads version {VERSION}")
            files = {
                name: FileSums(_count(file["bytes"]), tuple(map(str, file["blocks"])))
                for name, file in value["files"].items()
            }
            tensors = {name: _tensor(stored) for name, stored in value["tensors"].items()}
            problem = next(_contradictions(tensors, files), None)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, DamagedError):
                raise
            raise DamagedError(f"its index cannot be read: {error!r}") from None
        if problem:
            raise DamagedError(f"its index contradicts itself: {problem}")
        return cls(tensors, files)

    def metadata(self) -> Metadata:
        """Return the index as PyTorch's planner wants it."""
        return Metadata(
            {
                name: TensorStorageMetadata(
                    properties=TensorProperties(dtype=tensor.dtype),
                    size=torch.Size(tensor.shape),
                    chunks=[ChunkStorageMetadata(torch.Size(p.offset), torch.Size(p.shape)) for p in tensor.parts],
                )
                for name, tensor in self.tensors.items()
            }
        )


def _tensor(stored: Any) -> StoredTensor:
    parts = tuple(
        Part(_counts(offset), _counts(shape), str(file), _count(start))
        for offset, shape, file, start in stored["parts"]
    )
    return StoredTensor(DTYPES[stored["dtype"]], _counts(stored["shape"]), parts)


def _counts(values: Any) -> tuple[int, ...]:
    return tuple(map(_count, values))


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _contradictions(tensors: Mapping[str, StoredTensor], files: Mapping[str, FileSums]) -> Iterator[str]:
    for name, sums in files.items():
        if "/" in name or name.startswith("."):
            yield f"{name!r} is not the name of a file beside it"
        if len(sums.blocks) != -(-sums.bytes // BLOCK_BYTES):
            yield f"{name} has {len(sums.blocks)} checksums for {sums.bytes} bytes"
    for name, tensor in tensors.items():
        for part in tensor.parts:
            ends = [offset + size for offset, size in zip(part.offset, part.shape, strict=True)]
            if any(end > size for end, size in zip(ends, tensor.shape, strict=True)):
                yield f"a part of {name} lies outside of it"
            if part.file not in files or part.start + tensor.num_bytes(part) > files[part.file].bytes:
                yield f"a part of {name} lies outside of {part.file}"
        if sum(math.prod(part.shape) for part in tensor.parts) != math.prod(tensor.shape):
            yield f"the parts of {name} are not the whole of it"
        if _overlap(tensor.parts):
            yield f"parts of {name} overlap"


def _overlap(parts: tuple[Part, ...]) -> bool:
    """Return whether two boxes share an element. Boxes that begin later than others end need no comparison."""
    if len(parts) < 2:
        return False
    if not parts[0].offset:
        return True  # a single number, twice
    open_: list[Part] = []
    for part in sorted(parts, key=lambda part: part.offset[0]):
        open_ = [other for other in open_ if other.offset[0] + other.shape[0] > part.offset[0]]
        if any(_share_an_element(part, other) for other in open_):
            return True
        open_.append(part)
    return False


def _share_an_element(one: Part, other: Part) -> bool:
    return all(
        max(one.offset[dim], other.offset[dim])
        < min(one.offset[dim] + one.shape[dim], other.offset[dim] + other.shape[dim])
        for dim in range(len(one.shape))
    )
