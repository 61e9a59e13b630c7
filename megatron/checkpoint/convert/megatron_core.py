"""Megatron-Core's ``torch_dist`` checkpoints of GPT models, in and out. Megatron-Core itself is not needed.

Layers are stacked: a tensor of theirs holds the same matrix of all layers, along a first dimension
(``megatron.core.dist_checkpointing``; names as of ``megatron.core.models.gpt.GPTModel``).
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import io
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, StorageMeta, TensorProperties
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem, WriteItemType

from megatron.checkpoint.convert.huggingface import read_hf_files
from megatron.checkpoint.convert.megatron_arguments import architecture_of, arguments_of
from megatron.checkpoint.convert.pickled import read_pickled
from megatron.checkpoint.convert.source import ConversionError, Source, check_config, identity_of, shortened
from megatron.checkpoint.convert.torch_dist import METADATA, TorchDistFolder
from megatron.checkpoint.hf import config_files
from megatron.checkpoint.shards import Place, begin, finish
from megatron.checkpoint.storage import LocalStorage
from megatron.config.architecture import Architecture
from megatron.utils.files import atomic_write, fsync_folder, write_bytes, write_text
from megatron.utils.log import progress_bar

Part = Literal["all", "first half", "second half", "queries", "keys", "values"]


@dataclasses.dataclass(frozen=True)
class Row:
    """Where a tensor of ours lies.

    Attributes:
        ours: our name, which is Hugging Face's; ``{}`` is the number of the layer.
        theirs: Megatron-Core's name.
        part: which rows of theirs it is. ``queries``, ``keys`` and ``values`` lie by groups: the heads of queries that
            share a head of keys, that head of keys, its head of values, then the next group.
        alone: other names under which it may lie, by itself.
    """

    ours: str
    theirs: str
    part: Part = "all"
    alone: tuple[str, ...] = ()


_OURS, _THEIRS = "model.layers.{}.", "decoder.layers.{}."
_QKV, _FC1 = f"{_THEIRS}self_attention.linear_qkv.", f"{_THEIRS}mlp.linear_fc1."
EMBEDDING = "embedding.word_embeddings.weight"

MAPPING = (
    Row("model.embed_tokens.weight", EMBEDDING),
    Row(f"{_OURS}input_layernorm.weight", f"{_QKV}layer_norm_weight", alone=(f"{_THEIRS}input_layernorm.weight",)),
    Row(f"{_OURS}self_attn.q_proj.weight", f"{_QKV}weight", "queries"),
    Row(f"{_OURS}self_attn.k_proj.weight", f"{_QKV}weight", "keys"),
    Row(f"{_OURS}self_attn.v_proj.weight", f"{_QKV}weight", "values"),
    Row(f"{_OURS}self_attn.o_proj.weight", f"{_THEIRS}self_attention.linear_proj.weight"),
    Row(
        f"{_OURS}post_attention_layernorm.weight",
        f"{_FC1}layer_norm_weight",
        alone=(f"{_THEIRS}pre_mlp_layernorm.weight",),
    ),
    # `singleton_local_shards` stores the halves apart.
    Row(f"{_OURS}mlp.gate_proj.weight", f"{_FC1}weight", "first half", alone=(f"{_FC1}weight_w",)),
    Row(f"{_OURS}mlp.up_proj.weight", f"{_FC1}weight", "second half", alone=(f"{_FC1}weight_v",)),
    Row(f"{_OURS}mlp.down_proj.weight", f"{_THEIRS}mlp.linear_fc2.weight"),
    Row("model.norm.weight", "decoder.final_layernorm.weight"),
    Row("lm_head.weight", "output_layer.weight"),
)
"""Every tensor of a Llama model, here and there; for reading and for writing."""

# Megatron-Core asks for these. They hold the state of 8-bit training with TransformerEngine, or nothing.
_EXTRA_STATES = (
    f"{_QKV}_extra_state", f"{_THEIRS}self_attention.linear_proj._extra_state", f"{_FC1}_extra_state",
    f"{_THEIRS}self_attention.core_attention._extra_state", f"{_THEIRS}mlp.linear_fc2._extra_state",
    "decoder.final_layernorm._extra_state",
)  # fmt: skip

_OF_MODEL = ("embedding.", "decoder.", "output_layer.")
_TRACKER = "latest_checkpointed_iteration.txt"
_BACKEND = "torch_dist"
_HF = "hf"


@dataclasses.dataclass(frozen=True)
class _Stored:
    """Where a tensor was found: rows of the tensor ``key``, there of the layer ``layer`` if layers are stacked."""

    key: str
    layer: int | None
    part: Part

    def __str__(self) -> str:
        place = self.key if self.layer is None else f"{self.key}[{self.layer}]"
        return place if self.part == "all" else f"{place}: {self.part}"


class MegatronCoreSource(Source):
    """A ``torch_dist`` checkpoint of Megatron-Core's GPT model.

    Args:
        folder: holds ``.metadata`` and ``*.distcp``, or is what Megatron-LM has for ``--load``.
        config: Hugging Face folder with the model's ``config.json`` and tokenizer. By default the folder ``hf`` beside
            the tensors, and without it the arguments of Megatron-LM.

    Raises:
        ValueError: it is no such checkpoint, or not one of a Llama model; everything that is wrong with its tensors is
            listed.
        OSError: it cannot be read.
    """

    format = "megatron-core"

    def __init__(self, folder: Path, config: Path | None) -> None:
        self._folder = _checkpoint_folder(folder)
        self._stored = TorchDistFolder(self._folder)
        beside = self._folder / _HF
        self._config = config or (beside if (beside / "config.json").is_file() else None)
        self.architecture = Architecture.from_folder(self._config) if self._config else self._from_arguments()
        if config is not None:
            self._compare_arguments()
        self._places = self._located()
        self._last: tuple[str, Tensor] | None = None
        self.notes = tuple(self._remarks())

    def __str__(self) -> str:
        return str(self._folder)

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a tensor."""
        return self._stored.dtype(self._places[name].key)

    def read(self, name: str, place: Place) -> Tensor:
        """Return a box of a tensor. The last tensor stays in memory, since it is asked for in groups of rows."""
        if self._last is None or self._last[0] != name:
            self._last = None  # never two at a time
            self._last = (name, self._assembled(name))
        return self._last[1][place]

    def origin(self, name: str) -> str:
        """Return their tensor, and which rows of it."""
        return str(self._places[name])

    def hf_files(self) -> dict[str, bytes]:
        """Return configuration and tokenizer of the Hugging Face folder, or a configuration made from the arguments."""
        if self._config:
            return read_hf_files(self._config)
        return config_files(self.architecture, self.main_dtype, bos_id=None, eos_id=None)

    def identity(self) -> str:
        """Return what the files look like from outside."""
        return identity_of([self._folder / METADATA, *self._folder.glob("*.distcp")])

    def _from_arguments(self) -> Architecture:
        common, size = self._folder / "common.pt", self._stored.tensors.get(EMBEDDING)
        if size is None or self._stored.problem(EMBEDDING):
            raise ConversionError(f"{self._folder} holds no usable {EMBEDDING}")
        known = read_pickled(common, {"argparse.Namespace": argparse.Namespace}) if common.is_file() else {}
        try:
            return architecture_of(known.get("args"), self._stored.shape(EMBEDDING)[0])
        except ConversionError as error:
            raise ConversionError(f"{self._folder}: {error}") from None

    def _compare_arguments(self) -> None:
        try:
            stated = dataclasses.asdict(self._from_arguments())
        except ConversionError:
            return  # there are none to compare with
        known = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
        names = (*known, "head_dim", "rope_theta", "rms_norm_eps", "tie_word_embeddings")
        check_config({name: stated[name] for name in names}, self.architecture, where="common.pt")

    def _located(self) -> dict[str, _Stored]:
        found = {name: _find(name, self._stored.tensors) for name in self.shapes}
        places = {name: place for name, place in found.items() if place is not None}
        used = {place.key for place in places.values()}
        wrong = {key: problem for key in sorted(used) if (problem := self._stored.problem(key))}
        problems = [f"{name} is missing ({_row(name)[0].theirs})" for name, place in found.items() if place is None]
        problems += wrong.values()
        shapes: dict[str, str] = {}
        for name, place in places.items():
            if place.key not in wrong:
                shapes |= self._misshapen(name, place)
        problems += shapes.values()
        problems += [
            f"{key} is not part of this model"
            for key in self._stored.tensors
            if key.startswith(_OF_MODEL) and key not in used and not self._is_tied_head(key)
        ]
        if problems:
            raise ConversionError(f"the tensors in {self._folder} do not fit the model: {shortened(problems)}")
        return places

    def _is_tied_head(self, key: str) -> bool:
        return key == "output_layer.weight" and self.architecture.tie_word_embeddings

    def _misshapen(self, name: str, place: _Stored) -> dict[str, str]:
        shape, found = self.shapes[name], self._stored.shape(place.key)
        rows = sum(self._rows(place.part, shape[0]))
        layers = () if place.layer is None else (self.architecture.num_hidden_layers,)
        wanted = (*layers, rows, *shape[1:])
        # Their vocabulary is padded, so that it can be divided among processes.
        padded = not name.startswith("model.layers.") and len(shape) == 2 and found[1:] == wanted[1:]
        if found == wanted or (padded and found[0] > wanted[0]):
            return {}
        return {place.key: f"{place.key} has shape {list(found)}, the model wants {list(wanted)}"}

    def _rows(self, part: Part, rows: int) -> tuple[int, ...]:
        """Return how many rows of theirs follow each other of each kind, for a tensor of ours of so many rows."""
        if part == "all":
            return (rows,)
        if part in ("first half", "second half"):
            return (rows, rows)
        heads, head = self.architecture.num_attention_heads, self.architecture.head_dim
        shared = self.architecture.num_key_value_heads * head
        return (heads * head, shared, shared)

    def _assembled(self, name: str) -> Tensor:
        place, shape = self._places[name], self.shapes[name]
        rows = self._rows(place.part, shape[0])
        first, count = (rows[0], rows[1]) if place.part == "second half" else (0, rows[0])
        grouped = place.part in ("queries", "keys", "values")
        layer = () if place.layer is None else (place.layer,)
        found = self._stored.read(
            place.key,
            (*layer, first, *(0 for _ in shape[1:])),
            (*(1 for _ in layer), sum(rows) if grouped else count, *shape[1:]),
        )
        found = found.view(found.shape[len(layer) :])
        if not grouped:
            return found
        groups = found.view(self.architecture.num_key_value_heads, -1, *shape[1:])
        sizes = [size // self.architecture.num_key_value_heads for size in rows]
        parts: tuple[Tensor, ...] = groups.split(sizes, dim=1)
        return parts[("queries", "keys", "values").index(place.part)].reshape(shape)

    def _remarks(self) -> Iterator[str]:
        if not self._config:
            yield "the model's shape is from the arguments of Megatron-LM; there is no tokenizer (see --config)"
        embedded = self._stored.shape(EMBEDDING)[0]
        if embedded > self.architecture.vocab_size:
            yield (
                f"{embedded - self.architecture.vocab_size:,} rows of the vocabulary are padding, and left out "
                f"({embedded:,} rows, {self.architecture.vocab_size:,} tokens)"
            )
        used = {place.key for place in self._places.values()}
        others = [name for name in (*self._stored.tensors, *self._stored.others) if name not in used]
        if others:
            kinds = {"_extra_state" if "._extra_state" in name else name.split(".")[0].split("/")[0] for name in others}
            yield f"{len(others):,} entries that are no weights are left out: {', '.join(sorted(kinds))}"


def _checkpoint_folder(folder: Path) -> Path:
    """Return the folder of the tensors, which a ``--load`` folder names."""
    tracker = folder / _TRACKER
    if tracker.is_file():
        text = tracker.read_text(encoding="utf-8", errors="replace").strip()
        if text != "release" and re.fullmatch("[0-9]{1,18}", text) is None:
            raise ConversionError(f"{tracker} says {text[:40]!r}, not an iteration or 'release'")
        folder = folder / (text if text == "release" else f"iter_{int(text):07d}")
    # Megatron-Core writes `metadata.json` last of all.
    kind = folder / "metadata.json"
    for path in (kind, folder / METADATA):
        if not path.is_file():
            raise ConversionError(
                f"{path} does not exist: a torch_dist checkpoint of Megatron-Core is wanted, or a folder that holds "
                f"{_TRACKER}"
            )
    try:
        backend = json.loads(kind.read_bytes())["sharded_backend"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConversionError(f"{kind} does not say how tensors are stored: {error!r}") from None
    if backend != _BACKEND:
        raise ConversionError(f"{kind} says that tensors are stored as {backend!r:.60}; only {_BACKEND} is read")
    return folder


def _row(name: str) -> tuple[Row, int | None]:
    """Return where a tensor of ours belongs, and the number of its layer."""
    number = re.match(r"model\.layers\.([0-9]+)\.", name)
    pattern = name if number is None else f"{_OURS}{name[number.end() :]}"
    return next(row for row in MAPPING if row.ours == pattern), None if number is None else int(number[1])


def _stacked(pattern: str) -> str:
    return pattern.replace("{}.", "")


def _find(name: str, tensors: Mapping[str, object]) -> _Stored | None:
    """Return where a tensor of ours lies among theirs: with the same one of other layers, or in a tensor of its own."""
    row, layer = _row(name)
    choices: list[tuple[str, Part]] = [(row.theirs, row.part), *((other, "all") for other in row.alone)]
    for pattern, part in choices:
        if layer is not None and _stacked(pattern) in tensors:
            return _Stored(_stacked(pattern), layer, part)
        if pattern.format(layer) in tensors:
            return _Stored(pattern.format(layer), None, part)
    return None


def place_of(name: str) -> str:
    """Return where a tensor of ours goes, for people."""
    row, layer = _row(name)
    return str(_Stored(_stacked(row.theirs), layer, row.part))


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
    if target.exists():
        raise ConversionError(f"{target} exists; give another name, or delete it")
    common = {"args": arguments_of(source.architecture), "checkpoint_version": 3.0, "iteration": 0}
    backends = {
        "sharded_backend": _BACKEND, "sharded_backend_version": 1, "common_backend": "torch",
        "common_backend_version": 1,
    }  # fmt: skip
    temporary = target.with_name(f".{target.name}.tmp")
    begin(LocalStorage(temporary), secrets.token_hex())  # never the same: an earlier try is deleted
    folder = temporary / "release"
    _write_tensors(source, folder)
    for name, data in source.hf_files().items():
        write_bytes(folder / _HF / name, data)
    with atomic_write(folder / "common.pt") as file:
        torch.save(common, file)
    write_text(folder / "metadata.json", json.dumps(backends))
    write_text(temporary / _TRACKER, "release")
    for made in (folder / _HF, folder, temporary):
        fsync_folder(made)
    check(MegatronCoreSource(temporary, None))
    finish(LocalStorage(temporary))
    temporary.rename(target)
    fsync_folder(target.parent)


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
            yield WriteItem(MetadataIndex(f"{_stacked(pattern)}/{place}"), WriteItemType.BYTE_IO)


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
            yield planner.tensor(_stacked(theirs), dtypes[theirs], whole, chunk, read)
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
        found.setdefault(_row(name)[0].theirs, set()).add(source.dtype(name))
    problems = [
        f"{_stacked(theirs)} ({', '.join(sorted(str(dtype).removeprefix('torch.') for dtype in dtypes))})"
        for theirs, dtypes in found.items()
        if len(dtypes) > 1
    ]
    if problems:
        raise ConversionError(f"tensors of all layers cannot be of several dtypes; give --dtype: {', '.join(problems)}")
    return {theirs: dtypes.pop() for theirs, dtypes in found.items()}
