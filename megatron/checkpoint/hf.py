"""Hugging Face model folders: safetensors in and out, under the names that our own model uses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from megatron.checkpoint.index import DTYPES
from megatron.checkpoint.shards import MODEL, Box, Piece, arranged_file, grouped, write_files
from megatron.checkpoint.storage import LocalStorage
from megatron.config.architecture import Architecture
from megatron.model.llama import Llama
from megatron.parallel.parts import local_part
from megatron.utils.files import fsync_folder, write_bytes, write_text

_INDEX = "model.safetensors.index.json"


class WeightsError(ValueError):
    """A folder's weights are not those of the model that should be filled."""


def load_weights(model: Llama, folder: Path) -> None:
    """Fill ``model`` with the safetensors of a Hugging Face folder, one tensor at a time, cast to the model's dtype.

    Of a model that is divided among processes each reads only its own parts, and checks all the same that nothing else
    is missing.

    Raises:
        WeightsError: files are missing or broken, or names or shapes differ; every difference is listed, and nothing
            has been loaded.
    """
    weights = FolderWeights(folder, model.architecture)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            part, place = local_part(parameter)
            if part.numel():
                part.copy_(weights.read(name, place))


def find_weights(folder: Path, architecture: Architecture) -> dict[str, Path]:
    """Return the file of every parameter of a model.

    Raises:
        WeightsError: files are missing or broken, or names or shapes differ; every difference is listed.
    """
    found: dict[str, tuple[Path, tuple[int, ...]]] = {}
    for path in weight_files(folder):
        with _opened(path) as handle:
            for name in handle.keys():  # noqa: SIM118 - this is no dictionary
                found[name] = (path, tuple(handle.get_slice(name).get_shape()))
    wanted = parameter_shapes(architecture)
    if "lm_head.weight" not in wanted:
        # Some writers store a tied head a second time.
        found.pop("lm_head.weight", None)
    # Frequencies that transformers stored before 4.32; they follow from the config.
    found = {name: place for name, place in found.items() if not name.endswith("rotary_emb.inv_freq")}
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is not part of this model" for name in found if name not in wanted]
    problems += [
        f"{name} has shape {list(found[name][1])}, the model wants {list(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name][1] != shape
    ]
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise WeightsError(f"the weights in {folder} do not fit the model: {shown}")
    return {name: path for name, (path, _) in found.items()}


def parameter_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of a model, by name, in its order."""
    with torch.device("meta"):
        return {name: tuple(parameter.shape) for name, parameter in Llama(architecture).named_parameters()}


class FolderWeights:
    """The weights of a Hugging Face folder, a box at a time.

    Args:
        folder: the folder.
        architecture: its model.

    Raises:
        WeightsError: as :func:`find_weights`.
    """

    def __init__(self, folder: Path, architecture: Architecture) -> None:
        self._files = find_weights(folder, architecture)

    def file(self, name: str) -> Path:
        """Return the file that holds a tensor."""
        return self._files[name]

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype that a tensor is stored in."""
        with _opened(self._files[name]) as handle:
            return DTYPES[handle.get_slice(name).get_dtype()]

    def read(self, name: str, place: tuple[slice, ...]) -> Tensor:
        """Return a box of a tensor. The file is mapped for this alone, so that what has been read leaves memory."""
        with _opened(self._files[name]) as handle:
            box: Tensor = handle.get_slice(name)[place]
        return box


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a Hugging Face folder, by its index where it has one.

    Raises:
        WeightsError: there are none, the index is broken, or it names files outside the folder or missing ones.
    """
    index = folder / _INDEX
    if not index.exists():
        single = folder / "model.safetensors"
        if not single.exists():
            raise WeightsError(f"{folder} holds neither model.safetensors nor {_INDEX}; only safetensors are read")
        return [single]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index} is no safetensors index: {error!r}") from None
    strange = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if strange:
        raise WeightsError(f"{index} names files outside its folder: {strange}")
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise WeightsError(f"{folder} lacks files that its index names: {', '.join(missing)}")
    return [folder / name for name in names]


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from None


def save_model(
    weights: Mapping[str, Tensor],
    architecture: Architecture,
    folder: Path,
    *,
    dtype: torch.dtype,
    bos_id: int | None,
    eos_id: int | None,
) -> None:
    """Write weights, ``config.json`` and ``generation_config.json`` as a Hugging Face folder.

    Args:
        weights: tensors by their Hugging Face names; each is asked for once, in the order of the model.
        architecture: becomes ``config.json``, and says which tensors there are.
        folder: made when missing. Weights that it holds already are deleted first.
        dtype: dtype of the stored tensors.
        bos_id: id that starts a text, if there is one.
        eos_id: id that ends a text, if it is known.
    """
    shapes = {name: (dtype, shape) for name, shape in parameter_shapes(architecture).items()}

    def read(piece: Piece) -> Iterator[Tensor]:
        yield weights[_hf_name(piece.name)].detach().to(device="cpu", dtype=dtype)

    write_model(shapes, read, folder)
    for name, data in config_files(architecture, dtype, bos_id=bos_id, eos_id=eos_id).items():
        write_bytes(folder / name, data)
    fsync_folder(folder)


def write_model(
    tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    read: Callable[[Piece], Iterable[Tensor]],
    folder: Path,
    *,
    resumed: bool = False,
) -> None:
    """Write the safetensors of a Hugging Face folder, and their index where they are several.

    Args:
        tensors: dtype and shape of each, in the order of the model.
        read: as for :func:`megatron.checkpoint.shards.write_files`.
        folder: made when missing. Weights that it holds already are deleted first, unless they are resumed from.
        resumed: as for :func:`megatron.checkpoint.shards.write_files`.
    """
    boxes = [Box.all_of(f"{MODEL}.{name}", dtype, shape) for name, (dtype, shape) in tensors.items()]
    shards = list(grouped(boxes))
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    names = names if len(shards) > 1 else ["model.safetensors"]
    files = [arranged_file(name, shard) for name, shard in zip(names, shards, strict=True)]
    if not resumed:
        # Weights of an earlier export, in another number of files, would be taken for these.
        for stale in [*folder.glob("model*.safetensors"), folder / _INDEX]:
            stale.unlink(missing_ok=True)
    write_files(LocalStorage(folder), files, read, description="writing weights", resumed=resumed)
    if len(shards) > 1:
        total = sum(piece.num_bytes for file in files for piece in file.pieces)
        index = {_hf_name(box.name): name for name, shard in zip(names, shards, strict=True) for box in shard}
        write_text(folder / _INDEX, json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=2))


def config_files(
    architecture: Architecture, dtype: torch.dtype, *, bos_id: int | None, eos_id: int | None
) -> dict[str, bytes]:
    """Return ``config.json`` and ``generation_config.json``; arguments as for :func:`save_model`."""
    known = {"bos_token_id": bos_id, "eos_token_id": eos_id}
    tokens = {name: value for name, value in known.items() if value is not None}
    config = {**architecture.to_hf(), **tokens, "dtype": dtype_name(dtype)}
    # transformers 4 reads the older name.
    config["torch_dtype"] = config["dtype"]
    files = {"config.json": config, "generation_config.json": {**tokens, "do_sample": False}}
    return {name: (json.dumps(entries, indent=2) + "\n").encode("utf-8") for name, entries in files.items()}


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype as ``config.json`` has it: ``bfloat16``."""
    return str(dtype).removeprefix("torch.")


def _hf_name(name: str) -> str:
    return name.removeprefix(f"{MODEL}.")
