"""Formats of ``torch.save`` in which every rank of tensor parallelism has files of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megatron.checkpoint.convert.pickled import read_pickled
from megatron.checkpoint.convert.source import ConversionError, Source, identity_of, shortened
from megatron.checkpoint.index import DTYPE_NAMES
from megatron.checkpoint.shards import Place
from megatron.config.architecture import Architecture
from megatron.utils.log import get_logger


def whole(tensor: Tensor, architecture: Architecture) -> Tensor:
    """Take a tensor as it is."""
    return tensor


@dataclasses.dataclass(frozen=True)
class Entry:
    """What one of our tensors is made of.

    Attributes:
        name: the foreign tensor's. ``{layer}`` stands for the block's number, and whatever else the format numbers.
        dim: the dimension along which ranks divide it; None where each has all of it.
        take: what of a rank's tensor is ours.
        how: the same, for people.
        padded: there may be more rows than the vocabulary has.
        repeated: with more ranks than heads of keys and values, neighbours have the same ones.
    """

    name: str
    dim: int | None = None
    take: Callable[[Tensor, Architecture], Tensor] = whole
    how: str = ""
    padded: bool = False
    repeated: bool = False


@dataclasses.dataclass(frozen=True)
class Held:
    """A tensor of one rank.

    Attributes:
        path: its file.
        keys: lead to it, from the dictionary that the file holds.
        shape: its shape.
        dtype: its dtype.
    """

    path: Path
    keys: tuple[str, ...]
    shape: torch.Size
    dtype: torch.dtype


_logger = get_logger(__name__)

# Of the largest number: what bfloat16 and another order of sums explain.
_MOST_APART = 0.02


def held_in(path: Path, *keys: str) -> dict[str, Held]:
    """Return the tensors of a file of ``torch.save``, or of a dictionary inside it.

    Raises:
        ConversionError: it is no such file.
    """
    found: Any = read_pickled(path)
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise ConversionError(f"{path} holds no {'.'.join(keys)}")
    return {
        name: Held(path, (*keys, name), value.shape, value.dtype)
        for name, value in found.items()
        if isinstance(name, str) and isinstance(value, Tensor) and _is_plain(path, name, value)
    }


def _is_plain(path: Path, name: str, tensor: Tensor) -> bool:
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.dtype not in DTYPE_NAMES:
        raise ConversionError(f"{path}: {name} is a tensor of {tensor.dtype}, {tensor.layout}, which is not read")
    return True


class AssembledSource(Source):
    """A model whose tensors are put together from those of several ranks. One of them is in memory at a time.

    Args:
        folder: where it lies.
        architecture: the model's shape.
        ranks: the tensors of every rank, by their foreign names.
        table: by our names, with ``{layer}`` for a block's number.
        unused: foreign tensors that are not needed, by the end of their names.

    Raises:
        ConversionError: tensors are missing, not known, or of another shape; every one is listed.
    """

    def __init__(
        self,
        folder: Path,
        architecture: Architecture,
        ranks: Sequence[Mapping[str, Held]],
        table: Mapping[str, Entry],
        *,
        unused: tuple[str, ...] = (),
    ) -> None:
        self._folder, self.architecture, self._ranks, self._table = folder, architecture, ranks, table
        self._last: tuple[str, Tensor] | None = None
        held, layers = max(len(rank) for rank in ranks), architecture.num_hidden_layers
        if layers > held:
            raise ConversionError(f"{folder} holds {held} tensors, too few for {layers:,} layers")
        problems = list(self._problems(unused))
        if problems:
            raise ConversionError(f"{folder} is not this model: {shortened(problems)}")
        self.notes = tuple(self._cut_rows())

    def __str__(self) -> str:
        return str(self._folder)

    def numbers(self, layer: int) -> dict[str, int]:
        """Return what the names in the table are filled with for a block (-1: for what is outside of blocks)."""
        return {"layer": layer}

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a tensor."""
        return self._ranks[0][self._foreign(name)].dtype

    def read(self, name: str, place: Place) -> Tensor:
        """Return a box of a tensor. Consecutive boxes of one tensor read it once."""
        if self._last is None or self._last[0] != name:
            self._last = None  # never two at a time
            self._last = name, self._assembled(name)
        return self._last[1][place]

    def origin(self, name: str) -> str:
        """Return the foreign tensor's name, and how many make up ours."""
        entry = self._entry(name)
        parts = 1 if entry.dim is None else len(self._ranks)
        return ", ".join(
            [self._foreign(name), *([f"{parts} ranks"] if parts > 1 else []), *([entry.how] if entry.how else [])]
        )

    def identity(self) -> str:
        """Return what the files look like from outside, and how they are read."""
        reading = [(name, entry.name, entry.dim, entry.how) for name, entry in sorted(self._table.items())]
        files = identity_of({held.path for rank in self._ranks for held in rank.values()})
        return f"{files} {reading} {self.architecture}"

    def _entry(self, name: str) -> Entry:
        return self._table[_pattern(name)]

    def _foreign(self, name: str) -> str:
        block = name.removeprefix("model.layers.").partition(".")[0]
        return self._entry(name).name.format(**self.numbers(int(block) if block.isdigit() else -1))

    def _assembled(self, name: str) -> Tensor:
        entry, foreign, wanted = self._entry(name), self._foreign(name), self.shapes[name]
        if entry.dim is None:
            return self._agreed(foreign)
        copies = self._copies(name)
        found = torch.empty(wanted, dtype=self._ranks[0][foreign].dtype)
        filled, last = 0, torch.empty(0)
        for number, rank in enumerate(self._ranks):
            part = entry.take(load_held(rank[foreign]), self.architecture)
            if number % copies:
                if not torch.equal(part, last):
                    raise ConversionError(f"{foreign} of ranks {number - 1} and {number} must be the same, and is not")
                continue
            room = found.narrow(entry.dim, filled, min(part.shape[entry.dim], wanted[entry.dim] - filled))
            room.copy_(part.narrow(entry.dim, 0, room.shape[entry.dim]))
            filled += room.shape[entry.dim]
            last = part if copies > 1 else last
        return found

    def _agreed(self, foreign: str) -> Tensor:
        """Return what all ranks have; where rounding has led them apart, the mean, as GPT-NeoX's own converter does."""
        first = load_held(self._ranks[0][foreign])
        others = [load_held(rank[foreign]) for rank in self._ranks[1:]]
        if all(torch.equal(first, other) for other in others):
            return first
        mean = torch.stack([first, *others]).float().mean(0)
        apart = max((tensor.float() - mean).abs().max().item() for tensor in (first, *others))
        most = _MOST_APART * mean.abs().max().item()
        if not apart <= most:
            raise ConversionError(f"{foreign} is not the same in all ranks: {apart:.3g} from their mean")
        _logger.warning("%s is not the same in all ranks: their mean is taken, %.3g from the farthest", foreign, apart)
        return mean.to(first.dtype)

    def _copies(self, name: str) -> int:
        """Return how many ranks that follow each other hold the same part of a tensor."""
        entry, ranks = self._entry(name), len(self._ranks)
        heads = self.architecture.num_key_value_heads
        return ranks // heads if entry.repeated and ranks > heads and ranks % heads == 0 else 1

    def _shape_of(self, name: str) -> tuple[int, ...]:
        """Return the shape that a tensor would have, of which nothing is read."""
        entry, foreign = self._entry(name), self._foreign(name)
        ranks = self._ranks[:: self._copies(name)] if entry.dim is not None else self._ranks
        parts = [entry.take(torch.empty(rank[foreign].shape, device="meta"), self.architecture) for rank in ranks]
        if entry.dim is None and len({part.shape for part in parts}) > 1:
            return ()
        found = parts[0] if entry.dim is None else torch.cat(parts, dim=entry.dim)
        return tuple(found[: self.shapes[name][0]].shape if entry.padded else found.shape)

    def _problems(self, unused: tuple[str, ...]) -> Iterator[str]:
        needed: set[str] = set()
        for name, shape in self.shapes.items():
            foreign = self._foreign(name)
            needed.add(foreign)
            lacking = [str(number) for number, rank in enumerate(self._ranks) if foreign not in rank]
            if lacking:
                yield f"{foreign} is missing" + (f" in rank {', '.join(lacking)}" if len(self._ranks) > 1 else "")
                continue
            dtypes = {rank[foreign].dtype for rank in self._ranks}
            if len(dtypes) > 1:
                yield f"{foreign} is {' and '.join(sorted(map(str, dtypes)))} in different ranks"
            try:
                found = self._shape_of(name)
            except (RuntimeError, IndexError, ValueError):
                found = ()
            if found != shape:
                shapes = {" x ".join(map(str, rank[foreign].shape)) for rank in self._ranks}
                yield f"{foreign} ({', '.join(sorted(shapes))}) does not make {name} of {' x '.join(map(str, shape))}"
        for name in dict.fromkeys(name for rank in self._ranks for name in rank):
            if name not in needed and not name.endswith(unused):
                yield f"{name} is not part of a Llama"

    def _cut_rows(self) -> Iterator[str]:
        for name in self.shapes:
            entry = self._entry(name)
            if entry.padded:
                ranks = self._ranks if entry.dim is not None else self._ranks[:1]
                rows = sum(rank[self._foreign(name)].shape[0] for rank in ranks)
                if entry.dim == 0 and rows > self.architecture.vocab_size:
                    cut = rows - self.architecture.vocab_size
                    yield f"{name}: the last {cut:,} of {rows:,} rows are padding and are left out"


def layered(table: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return a table with ``model.layers.{layer}.`` before the names of a block's tensors."""
    outside = ("model.embed_tokens", "model.norm", "lm_head")
    return {name if name.startswith(outside) else f"model.layers.{{layer}}.{name}": e for name, e in table.items()}


def _pattern(name: str) -> str:
    if not name.startswith("model.layers."):
        return name
    _, _, rest = name.removeprefix("model.layers.").partition(".")
    return f"model.layers.{{layer}}.{rest}"


def load_held(held: Held) -> Tensor:
    """Return a tensor. Its file is mapped for this alone, so that what has been read leaves memory."""
    value: Any = read_pickled(held.path)
    for key in held.keys:
        value = value[key]
    assert isinstance(value, Tensor)
    return value
