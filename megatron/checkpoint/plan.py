"""Who writes and who reads what: PyTorch's planner decides, and every process writes safetensors files of its own.

The planner of ``torch.distributed.checkpoint`` divides what several processes hold alike among them, and finds for each
box of a tensor that is wanted the boxes that were stored, whatever the two layouts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem, SavePlan, WriteItem
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from megatron.checkpoint.blocks import VerifiedFile
from megatron.checkpoint.index import Index, Part, StoredTensor
from megatron.checkpoint.seal import read_index
from megatron.checkpoint.shards import (
    MODEL,
    OPTIMIZER,
    Box,
    File,
    Piece,
    Place,
    arranged_file,
    file_name,
    stored_tensors,
)
from megatron.checkpoint.storage import Storage
from megatron.parallel.process import Peers


def tensors_of(weights: dict[str, Any], moments: dict[str, Any]) -> dict[str, Any]:
    """Return everything of a run that is a tensor, by parameter name; optimizer settings are the configuration's."""
    return {MODEL: weights, OPTIMIZER: {"state": moments["state"]}} if moments else {MODEL: weights}


class SavePlans:
    """What this process writes of a run's state, agreed upon with the others at the first save.

    Args:
        peers: all processes of the run.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._files: tuple[File, ...] | None = None
        self._items: dict[str, WriteItem] = {}
        self._asked: SavePlan | None = None
        self.tensors: Mapping[str, StoredTensor] | None = None
        """Of all processes, known to the main one once :meth:`files` has been called."""

    def files(self, state: dict[str, Any]) -> tuple[tuple[File, ...], dict[Piece, Tensor]]:
        """Return the files that this process writes, and the tensors of their pieces, sharing memory with ``state``.

        Every process must call this at the first save; a later one needs no messages, since a run's state never changes
        its shape.
        """
        planner = DefaultSavePlanner()
        planner.set_up_planner(state, is_coordinator=self._peers.is_main)
        asked = planner.create_local_plan()
        if self._files is None:
            self._agree(planner, asked)
            self._asked = asked
        assert self._files is not None
        assert self._asked is not None
        assert asked.items == self._asked.items, "the state of a run has changed its shape"
        pieces = [piece for file in self._files for piece in file.pieces]
        return self._files, {
            piece: cast("Tensor", planner.resolve_data(self._items[piece.name])).detach() for piece in pieces
        }

    def _agree(self, planner: DefaultSavePlanner, asked: SavePlan) -> None:
        gathered = self._peers.gather(asked)
        plans, _ = planner.create_global_plan(gathered) if gathered is not None else (None, None)
        items = self._peers.scatter(plans).items
        self._items = {item.index.fqn: item for item in items}
        assert len(self._items) == len(items), "one tensor has two boxes in one process"
        self._files = tuple(_arranged(items, self._peers.rank, self._peers.size))
        everyone = self._peers.gather([piece for file in self._files for piece in file.pieces])
        if everyone is not None:
            self.tensors = stored_tensors(piece for pieces in everyone for piece in pieces)


def _arranged(items: Sequence[WriteItem], rank: int, size: int) -> Iterator[File]:
    for kind in (MODEL, OPTIMIZER):
        boxes = [_box(item) for item in items if item.index.fqn.startswith(f"{kind}.")]
        boxes = [box for box in boxes if math.prod(box.shape)]  # there are processes without a row of a small tensor
        if boxes:
            yield arranged_file(file_name(kind, rank, size), boxes)


def _box(item: WriteItem) -> Box:
    data = item.tensor_data
    assert data is not None, f"{item.index.fqn} is no tensor"
    return Box(
        item.index.fqn,
        data.properties.dtype,
        tuple(data.size),
        tuple(data.chunk.offsets),
        tuple(data.chunk.sizes),
    )


class IndexedReader(StorageReader):
    """Fills what PyTorch's planner asks for from a checkpoint's files, every byte compared with its checksum.

    Args:
        checkpoint: where the files lie.
        index: what they hold; by default the checkpoint's own, read with the first use.
    """

    def __init__(self, checkpoint: Storage, index: Index | None = None) -> None:
        self._checkpoint, self._given = checkpoint, index
        self._last: VerifiedFile | None = None

    @functools.cached_property
    def index(self) -> Index:
        """What the checkpoint holds.

        Raises:
            DamagedError: one of its small files is not what was written.
        """
        return self._given or read_index(self._checkpoint)

    @functools.cached_property
    def _files(self) -> dict[str, VerifiedFile]:
        return {name: VerifiedFile(self._checkpoint, name, sums) for name, sums in self.index.files.items()}

    @functools.cached_property
    def _parts(self) -> dict[tuple[str, tuple[int, ...]], Part]:
        return {(name, part.offset): part for name, tensor in self.index.tensors.items() for part in tensor.parts}

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read every item, in the order of files, and cast it to the dtype of its place."""

        def part_of(item: ReadItem) -> Part:
            return self._parts[item.storage_index.fqn, tuple(item.storage_index.offset or ())]

        for item in sorted(plan.items, key=lambda item: (part_of(item).file, part_of(item).start)):
            found = self.read(item.storage_index.fqn, part_of(item), item.storage_offsets, item.lengths)
            target = planner.resolve_tensor(item).detach()
            target.copy_(found)
            planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def read(self, name: str, part: Part, offset: Sequence[int], shape: Sequence[int]) -> Tensor:
        """Return a box of a stored part; only the rows (of the first dimension) that it lies in are read.

        Raises:
            DamagedError: a block of the file is not what was written.
        """
        dtype = self.index.tensors[name].dtype
        row = math.prod(part.shape[1:]) * dtype.itemsize
        first, count = (offset[0], shape[0]) if part.shape else (0, 1)
        file = self._files[part.file]
        if file is not self._last:
            if self._last is not None:
                self._last.forget()  # a block for each file of a large run would be much
            self._last = file
        data = file.read(part.start + first * row, part.start + (first + count) * row)
        rows = torch.from_numpy(data).view(dtype).view([count, *part.shape[1:]] if part.shape else [])
        for dim in range(1, len(shape)):
            rows = rows.narrow(dim, offset[dim], shape[dim])
        return rows

    def tensor(self, name: str, place: Place | None = None) -> Tensor:
        """Return a tensor, or a box of it.

        Raises:
            DamagedError: a block of a file is not what was written.
            OSError: it cannot be read.
        """
        stored = self.index.tensors[name]
        wanted = tuple(slice(0, size) for size in stored.shape) if place is None else place
        found = torch.empty([box.stop - box.start for box in wanted], dtype=stored.dtype)
        for part in stored.parts:
            begin = [max(box.start, at) for box, at in zip(wanted, part.offset, strict=True)]
            edges = zip(wanted, part.offset, part.shape, strict=True)
            shape = [min(box.stop, at + size) - first for (box, at, size), first in zip(edges, begin, strict=True)]
            if any(size <= 0 for size in shape):
                continue
            data = self.read(name, part, [first - at for first, at in zip(begin, part.offset, strict=True)], shape)
            if shape == list(found.shape):
                return data  # all of it, and nothing is copied
            places = zip(begin, shape, wanted, strict=True)
            found[tuple(slice(first - box.start, first - box.start + size) for first, size, box in places)] = data
        return found

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return what the index says."""
        return self.index.metadata()

    def reset(self, checkpoint_id: Any = None) -> None:
        """Begin another load of the same checkpoint: nothing is kept from the one before."""

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Take part in a load; every process reads for itself."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Return the plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Return the plans as they are."""
        return plans

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """Return whether PyTorch may choose this reader by a path; it is always made by hand."""
        return False
