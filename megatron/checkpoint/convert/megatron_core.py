"""Reads Megatron-Core's ``torch_dist`` checkpoints of GPT models. Megatron-Core itself is not needed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from megatron.checkpoint.convert.huggingface import read_hf_files
from megatron.checkpoint.convert.megatron_arguments import architecture_of
from megatron.checkpoint.convert.megatron_names import BACKEND, EMBEDDING, HF, TRACKER, Part, Stored, row_of, stacked
from megatron.checkpoint.convert.pickled import read_pickled
from megatron.checkpoint.convert.source import ConversionError, Source, check_config, identity_of, shortened
from megatron.checkpoint.convert.torch_dist import METADATA, TorchDistFolder
from megatron.checkpoint.hf import config_files
from megatron.checkpoint.shards import Place
from megatron.config.architecture import Architecture, RopeScaling

_OF_MODEL = ("embedding.", "decoder.", "output_layer.")


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
        beside = self._folder / HF
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
        return f'{identity_of([self._folder / METADATA, *self._folder.glob("*.distcp")])} {self.architecture}'

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
        scaling = stated["rope_scaling"]
        stated["rope_scaling"] = scaling and RopeScaling(**scaling)
        check_config(
            {name: stated[name] for name in (*names, "rope_scaling")}, self.architecture, where="common.pt"
        )

    def _located(self) -> dict[str, Stored]:
        found = {name: _find(name, self._stored.tensors) for name in self.shapes}
        places = {name: place for name, place in found.items() if place is not None}
        used = {place.key for place in places.values()}
        wrong = {key: problem for key in sorted(used) if (problem := self._stored.problem(key))}
        problems = [f"{name} is missing ({row_of(name)[0].theirs})" for name, place in found.items() if place is None]
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

    def _misshapen(self, name: str, place: Stored) -> dict[str, str]:
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
    tracker = folder / TRACKER
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
                f"{TRACKER}"
            )
    try:
        backend = json.loads(kind.read_bytes())["sharded_backend"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConversionError(f"{kind} does not say how tensors are stored: {error!r}") from None
    if backend != BACKEND:
        raise ConversionError(f"{kind} says that tensors are stored as {backend!r:.60}; only {BACKEND} is read")
    return folder


def _find(name: str, tensors: Mapping[str, object]) -> Stored | None:
    """Return where a tensor of ours lies among theirs: with the same one of other layers, or in a tensor of its own."""
    row, layer = row_of(name)
    choices: list[tuple[str, Part]] = [(row.theirs, row.part), *((other, "all") for other in row.alone)]
    for pattern, part in choices:
        if layer is not None and stacked(pattern) in tensors:
            return Stored(stacked(pattern), layer, part)
        if pattern.format(layer) in tensors:
            return Stored(pattern.format(layer), None, part)
    return None
