"""Between Hugging Face folders and checkpoints of ours, one tensor at a time."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megatron.checkpoint.folder import hf_tokenizer, stored_architecture, stored_tokenizer
from megatron.checkpoint.hf import FolderWeights, parameter_shapes, save_model
from megatron.checkpoint.index import StoredTensor
from megatron.checkpoint.plan import IndexedReader
from megatron.checkpoint.seal import STATE, small_sums
from megatron.checkpoint.shards import MODEL, Box, File, Piece, arranged_file, file_name
from megatron.checkpoint.storage import Storage, open_storage, parent_and_name
from megatron.checkpoint.store import CheckpointError, find_checkpoint, read_state, write_checkpoint
from megatron.config.architecture import Architecture
from megatron.config.layout import Layout, stage_layers
from megatron.data.manifest import TokenizerInfo
from megatron.parallel.tensor import divided_dim

DTYPES: Mapping[str, torch.dtype | None] = {
    "keep": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16
}  # fmt: skip
"""What the tool offers; ``keep`` stores every tensor as it is."""

_HF = "hf"
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja",
)  # fmt: skip
_CARRIED = ("config.json", "generation_config.json", *_TOKENIZER_FILES)


def native_to_hf(source: str | Path, target: Path, *, dtype: torch.dtype | None) -> Storage:
    """Write weights, configuration and tokenizer, ready for ``AutoModelForCausalLM`` and ``AutoTokenizer``.

    The folder appears when it is complete. No more than one tensor is in memory. A checkpoint that came from a Hugging
    Face folder and has not been trained on gives its other files back as they were.

    Args:
        source: a ``global_step<N>`` folder, or a run's ``save`` folder, whose newest complete checkpoint is taken; also
            of an object store.
        target: folder to write, which must not exist.
        dtype: dtype of the stored weights; None for that of the checkpoint.

    Returns:
        The checkpoint that was taken.

    Raises:
        ValueError: there is no usable checkpoint, or something of the target's name.
    """
    if target.exists():
        raise CheckpointError(f"{target} exists; give another name, or delete it")
    checkpoint = find_checkpoint(open_storage(source))
    state, weights = read_state(checkpoint), _StoredWeights(checkpoint)
    dtype = dtype or weights.dtype
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    tokenizer = state.get("tokenizer") or {}
    architecture = stored_architecture(state)
    bos_id, eos_id = tokenizer.get("bos_id"), tokenizer.get("eod_id")
    save_model(weights, architecture, temporary, dtype=dtype, bos_id=bos_id, eos_id=eos_id)
    carried = [name for name in small_sums(checkpoint) if name.startswith(f"{_HF}/")]
    if carried:
        for name in carried:
            (temporary / Path(name).name).write_bytes(checkpoint.read(name))
        _set_dtype(temporary / "config.json", dtype)
    elif tokenizer:
        with stored_tokenizer(checkpoint, state) as loaded:
            loaded.save(temporary, prepend_bos=bool(tokenizer["prepend_bos"]))
    temporary.rename(target)
    return checkpoint


def hf_to_native(
    source: Path, target: str, *, dtype: torch.dtype | None, layout: Layout | None = None
) -> None:
    """Write a Hugging Face folder as a checkpoint of weights, at step 0; ``load`` takes it with ``finetune: true``.

    The folder appears when it is complete. No more than one tensor is in memory.

    Args:
        source: a folder with safetensors.
        target: the checkpoint's folder, which must not exist; also of an object store.
        dtype: dtype of the stored weights; None to keep each as it is.
        layout: each process of it finds what it holds in a file of its own. Any other layout loads the checkpoint, too.

    Raises:
        ValueError: the folder has no usable weights, or does not fit the layout, or there is something of the target's
            name.
    """
    architecture = Architecture.from_folder(source)
    weights = FolderWeights(source, architecture)
    files = list(_files(architecture, layout or Layout(), lambda name: dtype or weights.dtype(name)))

    def tensor_of(piece: Piece) -> Tensor:
        part = piece.part
        place = tuple(slice(first, first + size) for first, size in zip(part.offset, part.shape, strict=True))
        return weights.read(piece.name.removeprefix(f"{MODEL}."), place).to(piece.dtype)

    small = {f"{_HF}/{name}": (source / name).read_bytes() for name in _CARRIED if (source / name).is_file()}
    state: dict[str, Any] = {
        "step": 0, "samples": 0, "tokens": 0, "architecture": dataclasses.asdict(architecture), "from": "hf",
        "layout": dataclasses.asdict(layout or Layout()),
    }  # fmt: skip
    if any((source / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        tokenizer, prepend_bos = hf_tokenizer(source)
        state["tokenizer"] = dataclasses.asdict(TokenizerInfo.of(tokenizer, prepend_bos=prepend_bos))
        name = "tokenizer.json" if (source / "tokenizer.json").is_file() else "tokenizer.model"
        state["tokenizer_file"] = f"tokenizer/{name}"
        small |= {f"tokenizer/{name}": small[f"{_HF}/{name}"] for name in _TOKENIZER_FILES if f"{_HF}/{name}" in small}
    small[STATE] = json.dumps(state, indent=1).encode("utf-8")
    write_checkpoint(*parent_and_name(target), files, tensor_of, small=small, description="writing weights")


def _files(architecture: Architecture, layout: Layout, dtype_of: Any) -> Iterator[File]:
    """Yield the file of every process of a layout: its stage of the pipeline, its part of every matrix."""
    if architecture.vocab_size % layout.tensor or architecture.num_key_value_heads % layout.tensor:
        raise CheckpointError(
            f"model_parallel_size = {layout.tensor} divides not both vocab_size = {architecture.vocab_size} and the "
            f"{architecture.num_key_value_heads} heads of keys and values"
        )
    shapes = parameter_shapes(architecture)
    layers = stage_layers(architecture, stages=layout.pipeline, seq_length=architecture.max_position_embeddings)
    stages: list[list[str]] = [[] for _ in layers]
    for name in shapes:
        block = name.removeprefix("model.layers.").partition(".")[0]
        if block.isdigit():
            stages[next(number for number, of_stage in enumerate(layers) if int(block) in of_stage)].append(name)
        else:
            stages[0 if "embed_tokens" in name else -1].append(name)
    for stage, names in enumerate(stages):
        for rank in range(layout.tensor):
            boxes = [_box(name, shapes[name], dtype_of(name), rank, layout.tensor) for name in names]
            number = stage * layout.tensor + rank
            kept = [box for box in boxes if box is not None]
            yield arranged_file(file_name(MODEL, number, layout.tensor * layout.pipeline), kept)


def _box(name: str, shape: tuple[int, ...], dtype: torch.dtype, rank: int, size: int) -> Box | None:
    """Return a process's part of a tensor; what all have alike is the first one's to store."""
    dim = divided_dim(name)
    if dim is None or size == 1:
        return Box.all_of(f"{MODEL}.{name}", dtype, shape) if rank == 0 else None
    part = shape[dim] // size
    offset = tuple(rank * part if number == dim else 0 for number in range(len(shape)))
    extent = tuple(part if number == dim else extent for number, extent in enumerate(shape))
    return Box(f"{MODEL}.{name}", dtype, shape, offset, extent)


def _set_dtype(path: Path, dtype: torch.dtype) -> None:
    """Let a carried ``config.json`` name the dtype of the weights; where it does already it stays as it is."""
    text = path.read_text(encoding="utf-8")
    config, name = json.loads(text), str(dtype).removeprefix("torch.")
    keys = [key for key in ("dtype", "torch_dtype") if key in config] or ["dtype", "torch_dtype"]
    if any(config.get(key) != name for key in keys):
        config.update(dict.fromkeys(keys, name))
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


class _StoredWeights(Mapping[str, Tensor]):
    """The weights of a checkpoint, read when they are asked for."""

    def __init__(self, checkpoint: Storage) -> None:
        self._reader = IndexedReader(checkpoint)
        self._stored: dict[str, StoredTensor] = {
            name.removeprefix(f"{MODEL}."): tensor
            for name, tensor in self._reader.index.tensors.items()
            if name.startswith(f"{MODEL}.")
        }

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that most numbers have."""
        sizes: dict[torch.dtype, int] = {}
        for tensor in self._stored.values():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + torch.Size(tensor.shape).numel()
        return max(sizes, key=lambda dtype: sizes[dtype])

    def __getitem__(self, name: str) -> Tensor:
        return self._reader.tensor(f"{MODEL}.{name}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)
