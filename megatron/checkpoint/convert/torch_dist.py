"""Checkpoints of ``torch.distributed.checkpoint``, read without running anything that they ask for."""

from __future__ import annotations

import io
import itertools
import math
import pickle
import pickletools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, ReadItem
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list

from megatron.checkpoint.convert.pickled import Nothing
from megatron.checkpoint.convert.source import ConversionError
from megatron.checkpoint.index import DTYPE_NAMES

METADATA = ".metadata"
"""The file that says which tensors there are, and where."""


class _Properties:
    """What is known of a tensor besides its size; only the dtype is of use."""

    dtype: Any = None

    def __setstate__(self, state: Any) -> None:
        self.dtype = state[0]


_CLASSES: Mapping[tuple[str, str], type] = {
    **{
        (kind.__module__, kind.__qualname__): kind
        for kind in (
            Metadata, MetadataIndex, TensorStorageMetadata, BytesStorageMetadata, ChunkStorageMetadata, _StorageInfo,
            torch.Size,
        )
    },
    ("torch.distributed.checkpoint.metadata", "TensorProperties"): _Properties,
    # where torch 2.2 and earlier had it
    ("torch.distributed._shard.sharded_tensor.metadata", "TensorProperties"): _Properties,
    # what Megatron-Core had instead of torch's own
    ("megatron.core.dist_checkpointing.strategies.torch", "MCoreMetadata"): Metadata,
}  # fmt: skip


_MOST_NESTED = 100


class _Unpickler(pickle.Unpickler):
    """Knows plain values and the classes above. Everything else becomes an object that holds and does nothing."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._classes: dict[tuple[str, str], type] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a class."""
        dtype = vars(torch).get(name) if module == "torch" else None
        return dtype if isinstance(dtype, torch.dtype) else self._own((module, name))

    def _own(self, name: tuple[str, str]) -> Any:
        """Return a class of this file's own: a pickle may set attributes of what it names."""
        if name not in self._classes:
            known = _CLASSES.get(name, Nothing)
            self._classes[name] = known if known is torch.Size else type(known.__name__, (known,), {})
        return self._classes[name]


class _Into(DefaultLoadPlanner):
    """Lets what is read fall into a tensor."""

    def __init__(self, target: Tensor) -> None:
        super().__init__()
        self._target = target

    def resolve_tensor(self, read_item: ReadItem) -> Tensor:
        box: Tensor = self.transform_tensor(read_item, self._target)
        return box

    def commit_tensor(self, read_item: ReadItem, tensor: Tensor) -> None:
        pass


class TorchDistFolder:
    """The tensors of a checkpoint, a box at a time.

    Attributes:
        tensors: what is known of each, by name.
        others: names of what is no tensor.

    Args:
        folder: holds ``.metadata`` and ``*.distcp``.

    Raises:
        ConversionError: ``.metadata`` is damaged, or is something else.
        OSError: it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        metadata = _read_metadata(folder / METADATA)
        entries = {str(name): entry for name, entry in metadata.state_dict_metadata.items()}
        self.tensors = {name: entry for name, entry in entries.items() if isinstance(entry, TensorStorageMetadata)}
        self.others = tuple(name for name in entries if name not in self.tensors)
        self._reader = FileSystemReader(folder)
        self._reader.set_up_storage_reader(metadata, is_coordinator=True)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(self.tensors[name].size)

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a tensor."""
        return self.tensors[name].properties.dtype

    def problem(self, name: str) -> str | None:
        """Return what is wrong with what is said about a tensor, if there is something."""
        stored = self.tensors[name]
        dtype = getattr(getattr(stored, "properties", None), "dtype", None)
        if not isinstance(dtype, torch.dtype) or dtype not in DTYPE_NAMES:
            return f"{name} has no dtype that is known here"
        size, chunks = getattr(stored, "size", None), getattr(stored, "chunks", None)
        if not isinstance(size, torch.Size) or not isinstance(chunks, list):
            return f"{name} has no shape"
        for chunk in chunks:
            offsets, sizes = getattr(chunk, "offsets", None), getattr(chunk, "sizes", None)
            if not isinstance(offsets, torch.Size) or not isinstance(sizes, torch.Size):
                return f"{name} has a part without a place"
            if not len(offsets) == len(sizes) == len(size) or any(
                first < 0 or extent < 1 or first + extent > end
                for first, extent, end in zip(offsets, sizes, size, strict=True)
            ):
                return f"{name} has a part outside of it"
            if not _is_usable(self._reader.storage_data.get(MetadataIndex(name, offsets))):
                return f"{name} has a part that lies outside of the folder, or that is packed"
        return None

    def read(self, name: str, offset: Sequence[int], shape: Sequence[int]) -> Tensor:
        """Return a box of a tensor; of the stored parts only those are read that the box touches.

        Raises:
            ConversionError: it is not all there, or damaged.
            OSError: it cannot be read.
        """
        box = ChunkStorageMetadata(torch.Size(offset), torch.Size(shape))
        items = create_read_items_for_chunk_list(name, self.tensors[name], [box])
        if sum(math.prod(item.lengths) for item in items) != math.prod(shape) or any(
            _overlap(first, second) for first, second in itertools.combinations(items, 2)
        ):
            raise ConversionError(f"{self._folder / METADATA}: the parts of {name} do not make it up")
        found = torch.empty(tuple(shape), dtype=self.dtype(name))
        try:
            self._reader.read_data(LoadPlan(items), _Into(found)).wait()
        except OSError:
            raise
        except Exception as error:  # anything may come of bytes that were not written as such
            reason = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
            raise ConversionError(f"{self._folder}: {name} is damaged: {reason}") from None
        return found


def _read_metadata(path: Path) -> Metadata:
    try:
        data = path.read_bytes()
        tuples = 0
        for code, number, _ in pickletools.genops(data):
            # A number in a memo is the length of a list that is made for it.
            if "PUT" in code.name and int(number or 0) > len(data):
                raise ValueError("it numbers more objects than it can hold")
            # One in another without end is more than Python can compare.
            tuples = tuples + 1 if code.name.startswith("TUPLE") else 0
            if tuples > _MOST_NESTED:
                raise ValueError("its tuples lie too deep in each other")
        found = _Unpickler(io.BytesIO(data)).load()
    except OSError:
        raise
    except Exception as error:  # a pickle can fail in any way
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        raise ConversionError(f"{path} cannot be read: {reason}") from None
    parts = [getattr(found, name, None) for name in ("state_dict_metadata", "storage_data")]
    if not isinstance(found, Metadata) or not all(isinstance(part, dict) for part in parts):
        raise ConversionError(f"{path} is not what torch.distributed.checkpoint writes")
    # Keys are compared by their class, too.
    stored = {_key(key): value for key, value in found.storage_data.items()}
    return Metadata(found.state_dict_metadata, storage_data=stored)


def _key(key: Any) -> MetadataIndex:
    offset = getattr(key, "offset", None)
    return MetadataIndex(str(getattr(key, "fqn", "")), offset if isinstance(offset, torch.Size) else None)


def _is_usable(where: Any) -> bool:
    """Return whether a part lies in a file of the folder, as it is."""
    name = getattr(where, "relative_path", None)
    return (
        isinstance(where, _StorageInfo)
        and isinstance(name, str)
        and Path(name).name == name
        and name.endswith(".distcp")
        and all(type(getattr(where, key, None)) is int and getattr(where, key) >= 0 for key in ("offset", "length"))
        and not where.transform_descriptors
    )


def _overlap(first: ReadItem, second: ReadItem) -> bool:
    return all(
        a < b + b_size and b < a + a_size
        for a, a_size, b, b_size in zip(
            first.dest_offsets, first.lengths, second.dest_offsets, second.lengths, strict=True
        )
    )
