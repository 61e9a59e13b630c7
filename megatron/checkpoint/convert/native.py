"""Our own checkpoints, in and out."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megatron.checkpoint.convert.source import Source
from megatron.checkpoint.folder import hf_tokenizer, stored_architecture, stored_tokenizer
from megatron.checkpoint.hf import config_files
from megatron.checkpoint.index import Index
from megatron.checkpoint.plan import IndexedReader
from megatron.checkpoint.seal import MARKER, STATE, small_sums
from megatron.checkpoint.shards import MODEL, Box, File, Place, arranged_file, file_name, grouped
from megatron.checkpoint.storage import Storage, open_storage, parent_and_name
from megatron.checkpoint.store import CheckpointError, find_checkpoint, read_state, write_checkpoint
from megatron.config.layout import Layout, stage_layers
from megatron.data.manifest import TokenizerInfo
from megatron.parallel.tensor import divided_dim
from megatron.tokenizer.extend.extension import FILE_NAME, Extension

_HF = "hf"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja",
)  # fmt: skip
"""What a tokenizer consists of in a Hugging Face folder."""


class NativeSource(Source):
    """A checkpoint of a run.

    Args:
        place: a ``global_step<N>`` folder, or a run's ``save`` folder, whose newest complete checkpoint is taken; also
            of an object store.

    Raises:
        ValueError: there is no usable checkpoint.
    """

    format = "native"

    def __init__(self, place: str | Path) -> None:
        self._checkpoint = find_checkpoint(open_storage(place))
        self._reader = IndexedReader(self._checkpoint)
        self._state = read_state(self._checkpoint)
        self.architecture = stored_architecture(self._state)
        others = [stored for name, stored in self._reader.index.tensors.items() if not name.startswith(f"{MODEL}.")]
        numbers = sum(math.prod(stored.shape) for stored in others)
        if others:
            self.notes = (f"the optimizer is left out: {len(others):,} tensors with {numbers:,} numbers",)

    def __str__(self) -> str:
        return str(self._checkpoint)

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a tensor."""
        return self._reader.index.tensors[f"{MODEL}.{name}"].dtype

    def read(self, name: str, place: Place) -> Tensor:
        """Return a box of a tensor, compared with its checksums."""
        return self._reader.tensor(f"{MODEL}.{name}", place)

    def origin(self, name: str) -> str:
        """Return the files that hold a tensor."""
        return ", ".join(part.file for part in self._reader.index.tensors[f"{MODEL}.{name}"].parts)

    def hf_files(self) -> dict[str, bytes]:
        """Return the files that came with it from a Hugging Face folder; what is not there is made."""
        carried = {
            Path(name).name: self._checkpoint.read(name)
            for name in small_sums(self._checkpoint)
            if name.startswith(f"{_HF}/")
        }
        tokenizer = self._state.get("tokenizer") or {}
        made = config_files(
            self.architecture, self.main_dtype, bos_id=tokenizer.get("bos_id"), eos_id=tokenizer.get("eod_id")
        )
        if tokenizer and not any(name in carried for name in TOKENIZER_FILES):
            with (
                stored_tokenizer(self._checkpoint, self._state) as loaded,
                tempfile.TemporaryDirectory() as folder,
            ):
                loaded.save(Path(folder), prepend_bos=bool(tokenizer["prepend_bos"]))
                made |= {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        files = made | carried
        if FILE_NAME in files:
            extension = Extension.parse(files.pop(FILE_NAME), place=f"{self._checkpoint}/{_HF}/{FILE_NAME}")
            if tokenizer and tokenizer["fingerprint"] in extension.new_fingerprints:  # else it is of another tokenizer
                files[FILE_NAME] = extension.about(files).to_json().encode("utf-8")
        return files

    def identity(self) -> str:
        """Return its marker, which holds checksums of everything else."""
        return self._checkpoint.read(MARKER).decode("utf-8")


class _Unsealed(NativeSource):
    """A checkpoint whose tensors are all there; what will lie beside them is given, since it is written last."""

    def __init__(self, checkpoint: Storage, index: Index, small: Mapping[str, bytes]) -> None:
        self._checkpoint, self._reader = checkpoint, IndexedReader(checkpoint, index)
        self._small = small
        self.architecture = stored_architecture(json.loads(small[STATE]))

    def hf_files(self) -> dict[str, bytes]:
        """Return those that will be written."""
        return {Path(name).name: data for name, data in self._small.items() if name.startswith(f"{_HF}/")}


def write_native(source: Source, target: str, *, layout: Layout, check: Callable[[Source], None]) -> None:
    """Write a checkpoint of weights, at step 0; ``load`` takes it with ``finetune: true``.

    It appears when it is complete and checked. What an earlier try has finished of its files is not written again.

    Args:
        source: what is written.
        target: the checkpoint's folder, which must not exist; also of an object store.
        layout: each process of it finds what it holds in files of its own. Any other layout loads the checkpoint, too.
        check: called with what has been written; what it raises keeps the checkpoint from appearing.

    Raises:
        ValueError: the model does not fit the layout, or there is something of the target's name.
        OSError: it cannot be written.
    """
    files = native_files(source, layout)
    hf_files = source.hf_files()
    small = {f"{_HF}/{name}": data for name, data in hf_files.items()}
    state: dict[str, Any] = {
        "step": 0, "samples": 0, "tokens": 0, "architecture": dataclasses.asdict(source.architecture),
        "from": source.format, "layout": dataclasses.asdict(layout),
    }  # fmt: skip
    tokenizer_file = next((name for name in ("tokenizer.json", "tokenizer.model") if name in hf_files), None)
    if tokenizer_file:
        state["tokenizer"] = dataclasses.asdict(_tokenizer_info(hf_files))
        state["tokenizer_file"] = f"tokenizer/{tokenizer_file}"
        small |= {f"tokenizer/{name}": hf_files[name] for name in TOKENIZER_FILES if name in hf_files}
    small[STATE] = json.dumps(state, indent=1).encode("utf-8")
    write_checkpoint(
        *parent_and_name(target),
        files,
        source.pieces,
        small=small,
        description="writing weights",
        resumes=source.identity(),
        check=lambda checkpoint, index: check(_Unsealed(checkpoint, index, small)),
    )


def _tokenizer_info(hf_files: dict[str, bytes]) -> TokenizerInfo:
    with tempfile.TemporaryDirectory() as name:
        for file in TOKENIZER_FILES:
            if file in hf_files:
                (Path(name) / file).write_bytes(hf_files[file])
        tokenizer, prepend_bos = hf_tokenizer(Path(name))
        return TokenizerInfo.of(tokenizer, prepend_bos=prepend_bos)


def native_files(source: Source, layout: Layout) -> list[File]:
    """Return the files of every process of a layout: its stage of the pipeline, its part of every matrix.

    Raises:
        ValueError: the model cannot be divided so.
    """
    architecture = source.architecture
    divided = {
        f"vocab_size = {architecture.vocab_size}": architecture.vocab_size,
        f"intermediate_size = {architecture.intermediate_size}": architecture.intermediate_size,
        f"num_key_value_heads = {architecture.num_key_value_heads}": architecture.num_key_value_heads,
    }
    problems = [what for what, size in divided.items() if size % layout.tensor]
    if problems:
        raise CheckpointError(f"model_parallel_size = {layout.tensor} does not divide {' and '.join(problems)}")
    layers = stage_layers(architecture, stages=layout.pipeline, seq_length=architecture.max_position_embeddings)
    stages: list[list[str]] = [[] for _ in layers]
    for name in source.shapes:
        block = name.removeprefix("model.layers.").partition(".")[0]
        if block.isdigit():
            stages[next(number for number, of_stage in enumerate(layers) if int(block) in of_stage)].append(name)
        else:
            stages[0 if "embed_tokens" in name else -1].append(name)
    processes = ((names, rank) for names in stages for rank in range(layout.tensor))
    boxes = ([_box(source, name, rank, layout.tensor) for name in names] for names, rank in processes)
    files = [file for of_one in boxes for file in grouped([box for box in of_one if box is not None])]
    return [arranged_file(file_name(MODEL, number, len(files)), held) for number, held in enumerate(files)]


def _box(source: Source, name: str, rank: int, size: int) -> Box | None:
    """Return a process's part of a tensor; what all have alike is the first one's to store."""
    dim, shape, dtype = divided_dim(name), source.shapes[name], source.dtype(name)
    if dim is None or size == 1:
        return Box.all_of(f"{MODEL}.{name}", dtype, shape) if rank == 0 else None
    part = shape[dim] // size
    offset = tuple(rank * part if number == dim else 0 for number in range(len(shape)))
    extent = tuple(part if number == dim else extent for number, extent in enumerate(shape))
    return Box(f"{MODEL}.{name}", dtype, shape, offset, extent)
