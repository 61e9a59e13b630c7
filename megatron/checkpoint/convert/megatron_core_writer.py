"""Writes Megatron-Core's ``torch_dist`` checkpoints of GPT models. Megatron-Core itself is not needed."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, StorageMeta, TensorProperties
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem, WriteItemType

from megatron.checkpoint.convert.megatron_arguments import arguments_of
from megatron.checkpoint.convert.megatron_core import MegatronCoreSource
from megatron.checkpoint.convert.megatron_names import (
    BACKEND,
    EMBEDDING,
    FC1,
    HF,
    MAPPING,
    QKV,
    THEIRS,
    TRACKER,
    Row,
    row_of,
    stacked,
)  # fmt: skip
from megatron.checkpoint.convert.source import ConversionError, Source
from megatron.checkpoint.hf import dtype_name
from megatron.checkpoint.storage import LocalStorage
from megatron.checkpoint.unfinished import publish, unfinished
from megatron.utils.files import atomic_write, fsync_folder, write_bytes, write_text
from megatron.utils.log import progress_bar

# Megatron-Core asks for these. They hold the state of 8-bit training with TransformerEngine, or nothing.
_EXTRA_STATES = (
    f"{QKV}_extra_state", f"{THEIRS}self_attention.linear_proj._extra_state", f"{FC1}_extra_state",
    f"{THEIRS}self_attention.core_attention._extra_state", f"{THEIRS}mlp.linear_fc2._extra_state",
    "decoder.final_layernorm._extra_state",
)  # fmt: skip


def write_megatron_core(source: Source, target: Path, *, check: Callable[[Source], None]) -> None:
    """Write a folder that Megatron-LM takes with ``--load`` and ``--finetune``, at any parallel layout.

    It appears when it is complete and checked. An interrupted conversion begins anew.

    Args:
        source: what is written.
        target: folder to write, which must not exist.
        check: called with what has been written; what it raises keeps the folder from appearing.

    Raises:
        ValueError: there is something of the target's name, or Megatron-Core computes no such model.
        OSError: it cannot be written.
    """
    common = {"args": arguments_of(source.architecture), "checkpoint_version": 3.0, "iteration": 0}
    backends = {
        "sharded_backend": BACKEND, "sharded_backend_version": 1, "common_backend": "torch",
        "common_backend_version": 1,
    }  # fmt: skip
    parent = LocalStorage(target.parent)
    with unfinished(parent, target.name, source.identity(), resumable=False) as (temporary, _):
        whole = Path(str(temporary))
        folder = whole / "release"
        _write_tensors(source, folder)
        for name, data in source.hf_files().items():
            write_bytes(folder / HF / name, data)
        with atomic_write(folder / "common.pt") as file:
            torch.save(common, file)
        write_text(folder / "metadata.json", json.dumps(backends))
        write_text(whole / TRACKER, "release")
        for made in (folder / HF, folder, whole):
            fsync_folder(made)
        check(MegatronCoreSource(whole, None))
        publish(parent, target.name)


class _Writer(FileSystemWriter):
    def storage_meta(self) -> StorageMeta:
        """Return nothing: the folder's name would be there, and Python 3.13's paths are unknown to older ones."""
        return StorageMeta()


class _Planner(DefaultSavePlanner):
    """Gets what is to be written at the moment when it is written.

    Args:
        advance: called with the bytes of every tensor.
    """

    def __init__(self, advance: Callable[[int], object]) -> None:
        super().__init__(flatten_state_dict=False)
        self._advance = advance
        self._data: dict[MetadataIndex, Callable[[], Tensor]] = {}

    def tensor(
        self, key: str, dtype: torch.dtype, whole: tuple[int, ...], chunk: ChunkStorageMetadata,
        read: Callable[[], Tensor],
    ) -> WriteItem:  # fmt: skip
        """Return an item for a box of a tensor, which ``read`` gives."""
        index = MetadataIndex(key, chunk.offsets)
        self._data[index] = read
        data = TensorWriteData(chunk, TensorProperties(dtype=dtype), torch.Size(whole))
        return WriteItem(index, WriteItemType.SHARD, tensor_data=data)

    def resolve_data(self, write_item: WriteItem) -> Tensor | io.BytesIO:
        """Return what an item consists of."""
        if write_item.type == WriteItemType.BYTE_IO:
            file = io.BytesIO()
            torch.save([torch.empty(0, dtype=torch.uint8)], file)
            return file
        assert write_item.tensor_data is not None
        found = self._data[write_item.index]().view(write_item.tensor_data.chunk.sizes)
        self._advance(found.nbytes)
        return found


def _write_tensors(source: Source, folder: Path) -> None:
    """Write ``.metadata`` and a file for each layer: the writer holds what it writes until a file is closed."""
    # Copying ahead is for tensors of a GPU.
    writer = _Writer(folder, per_thread_copy_ahead=0)
    with progress_bar(source.num_bytes, description="writing weights") as advance:
        planner = _Planner(advance)
        plans = [SavePlan(list(items)) for items in _items(source, planner)]
        plans, metadata = planner.create_global_plan(plans)
        writer.set_up_storage_writer(is_coordinator=True)
        plans = writer.prepare_global_plan([writer.prepare_local_plan(plan) for plan in plans])
        writer.finish(metadata, [writer.write_data(plan, planner).wait() for plan in plans])


def _items(source: Source, planner: _Planner) -> Iterator[list[WriteItem]]:
    """Yield what comes into each file: the embedding, every layer, all that follows."""
    dtypes = _dtypes(source)
    in_layers = [row for row in MAPPING if "{}" in row.ours]
    after = [row for row in MAPPING if row.ours in source.shapes and row.theirs != EMBEDDING]
    yield [*_tensors(source, planner, dtypes, [row for row in MAPPING if row.theirs == EMBEDDING], None)]
    for layer in range(source.architecture.num_hidden_layers):
        yield [*_extra_states(source, layer), *_tensors(source, planner, dtypes, in_layers, layer)]
    yield [*_extra_states(source, None), *_tensors(source, planner, dtypes, after, None)]


def _extra_states(source: Source, layer: int | None) -> Iterator[WriteItem]:
    place = "shard_0_1" if layer is None else f"shard_{layer}_{source.architecture.num_hidden_layers}"
    for pattern in _EXTRA_STATES:
        if ("{}" in pattern) == (layer is not None):
            yield WriteItem(MetadataIndex(f"{stacked(pattern)}/{place}"), WriteItemType.BYTE_IO)


def _tensors(
    source: Source, planner: _Planner, dtypes: Mapping[str, torch.dtype], rows: list[Row], layer: int | None
) -> Iterator[WriteItem]:
    """Yield items for the tensors of theirs that rows of the mapping make up; of a layer, for its part of them."""
    outer = () if layer is None else (source.architecture.num_hidden_layers,)
    for theirs in dict.fromkeys(row.theirs for row in rows):
        names = [row.ours.format(layer) for row in rows if row.theirs == theirs]
        columns = source.shapes[names[0]][1:]
        counts = [source.shapes[name][0] for name in names]
        reads: list[Callable[[], Tensor]] = [functools.partial(source.tensor, name) for name in names]
        whole = (*outer, sum(counts), *columns)
        if any(row.theirs == theirs and row.part == "queries" for row in rows):
            # Their rows alternate, so that it is one box. Halves are written as two, as Megatron-Core does.
            counts, reads = [sum(counts)], [functools.partial(_grouped, source, names)]
        first = 0
        for count, read in zip(counts, reads, strict=True):
            offset = (first, *(0 for _ in columns))
            chunk = ChunkStorageMetadata(
                torch.Size(offset if layer is None else (layer, *offset)),
                torch.Size((*(1 for _ in outer), count, *columns)),
            )
            yield planner.tensor(stacked(theirs), dtypes[theirs], whole, chunk, read)
            first += count


def _grouped(source: Source, names: list[str]) -> Tensor:
    """Return queries, keys and values of a layer as they lie in theirs (see :class:`Row`)."""
    groups = source.architecture.num_key_value_heads
    parts = [source.tensor(name) for name in names]
    return torch.cat([part.view(groups, -1, *part.shape[1:]) for part in parts], dim=1)


def _dtypes(source: Source) -> dict[str, torch.dtype]:
    """Return the one dtype that each tensor of theirs has, for all layers.

    Raises:
        ConversionError: one would have several.
    """
    found: dict[str, set[torch.dtype]] = {}
    for name in source.shapes:
        found.setdefault(row_of(name)[0].theirs, set()).add(source.dtype(name))
    problems = [
        f"{stacked(theirs)} ({', '.join(sorted(dtype_name(dtype) for dtype in dtypes))})"
        for theirs, dtypes in found.items()
        if len(dtypes) > 1
    ]
    if problems:
        raise ConversionError(f"tensors of all layers cannot be of several dtypes; give --dtype: {', '.join(problems)}")
    return {theirs: dtypes.pop() for theirs, dtypes in found.items()}
