"""Hugging Face folders, in and out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from megatron.checkpoint.convert.native import TOKENIZER_FILES
from megatron.checkpoint.convert.source import Source, identity_of
from megatron.checkpoint.hf import FolderWeights, dtype_name, write_model
from megatron.checkpoint.shards import Place
from megatron.checkpoint.storage import LocalStorage
from megatron.checkpoint.unfinished import publish, unfinished
from megatron.config.architecture import Architecture
from megatron.tokenizer.extend.extension import FILE_NAME
from megatron.utils.files import fsync_folder, write_bytes

_FILES = ("config.json", "generation_config.json", *TOKENIZER_FILES, FILE_NAME)


class HuggingFaceSource(Source):
    """A folder with ``config.json`` and safetensors.

    Args:
        folder: the folder.

    Attributes:
        folder: as given.

    Raises:
        ValueError: the folder has no usable weights.
    """

    format = "hf"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.architecture = Architecture.from_folder(folder)
        self._weights = FolderWeights(folder, self.architecture)

    def __str__(self) -> str:
        return str(self.folder)

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a tensor."""
        return self._weights.dtype(name)

    def read(self, name: str, place: Place) -> Tensor:
        """Return a box of a tensor."""
        return self._weights.read(name, place)

    def origin(self, name: str) -> str:
        """Return the file that holds a tensor."""
        return self._weights.file(name).name

    def hf_files(self) -> dict[str, bytes]:
        """Return its small files as they are."""
        return read_hf_files(self.folder)

    def identity(self) -> str:
        """Return what the files look like from outside."""
        return identity_of({self._weights.file(name) for name in self.shapes})


def read_hf_files(folder: Path) -> dict[str, bytes]:
    """Return configuration and tokenizer of a Hugging Face folder, as far as they are there."""
    return {name: (folder / name).read_bytes() for name in _FILES if (folder / name).is_file()}


def write_huggingface(source: Source, target: Path, *, check: Callable[[Source], None]) -> None:
    """Write weights, configuration and tokenizer, ready for ``AutoModelForCausalLM`` and ``AutoTokenizer``.

    The folder appears when it is complete and checked. What an earlier try has finished of its files is not written
    again.

    Args:
        source: what is written.
        target: folder to write, which must not exist.
        check: called with what has been written; what it raises keeps the folder from appearing.

    Raises:
        ValueError: there is something of the target's name.
        OSError: it cannot be written.
    """
    shapes = {name: (source.dtype(name), shape) for name, shape in source.shapes.items()}
    files = source.hf_files()
    files["config.json"] = _with_dtype(files["config.json"], source.main_dtype)
    parent = LocalStorage(target.parent)
    with unfinished(parent, target.name, f"{source.identity()} {shapes}") as (temporary, resumed):
        folder = Path(str(temporary))
        write_model(shapes, source.pieces, folder, resumed=resumed)
        for name, data in files.items():
            write_bytes(folder / name, data)
        fsync_folder(folder)
        check(HuggingFaceSource(folder))
        publish(parent, target.name)


def _with_dtype(config: bytes, dtype: torch.dtype) -> bytes:
    """Return ``config.json`` with the dtype of the weights; where it has it already it stays as it is."""
    entries, name = json.loads(config), dtype_name(dtype)
    keys = [key for key in ("dtype", "torch_dtype") if key in entries] or ["dtype", "torch_dtype"]
    if all(entries.get(key) == name for key in keys):
        return config
    entries.update(dict.fromkeys(keys, name))
    return (json.dumps(entries, indent=2) + "\n").encode("utf-8")
