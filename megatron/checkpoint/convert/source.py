"""What a conversion reads: the weights of a model, a box at a time, and the small files that belong to it."""

from __future__ import annotations

import functools
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from megatron.checkpoint.hf import dtype_name, parameter_shapes
from megatron.checkpoint.shards import MODEL, Piece, Place
from megatron.checkpoint.store import CheckpointError
from megatron.checkpoint.unfinished import WrongResultError
from megatron.config.architecture import Architecture

_MOST_SHOWN = 6
_MOST_LAYERS = 10_000


class ConversionError(CheckpointError):
    """What should be converted cannot be, or its result is not what it was."""


class DisagreementError(ConversionError, WrongResultError):
    """What was written does not compute what its source does."""


class Source(ABC):
    """A model on disk, whatever its format. Tensors go by the names of our model, which are Hugging Face's.

    Attributes:
        format: as ``--from`` names it.
        architecture: the model's shape.
        notes: what was assumed or left out, for people.
    """

    format: str
    architecture: Architecture
    notes: tuple[str, ...] = ()

    @abstractmethod
    def __str__(self) -> str:
        """Return where it lies."""

    @abstractmethod
    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a tensor."""

    @abstractmethod
    def read(self, name: str, place: Place) -> Tensor:
        """Return a box of a tensor.

        Raises:
            ValueError: it is damaged.
            OSError: it cannot be read.
        """

    @abstractmethod
    def origin(self, name: str) -> str:
        """Return what a tensor is made of, for people."""

    @abstractmethod
    def hf_files(self) -> dict[str, bytes]:
        """Return what lies beside the weights in a Hugging Face folder, by name: ``config.json``, the tokenizer."""

    @abstractmethod
    def identity(self) -> str:
        """Return what is another text once the files are no longer the same."""

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, in the order of the model.

        Raises:
            ConversionError: nobody has a model of so many layers.
        """
        if self.architecture.num_hidden_layers > _MOST_LAYERS:
            raise ConversionError(f"{self} says that it has {self.architecture.num_hidden_layers:,} layers")
        return parameter_shapes(self.architecture)

    def tensor(self, name: str) -> Tensor:
        """Return a whole tensor; raises as :meth:`read`."""
        return self.read(name, tuple(slice(0, size) for size in self.shapes[name]))

    def pieces(self, piece: Piece) -> Iterator[Tensor]:
        """Yield the rows of what is to be written of a tensor, some at a time, in the dtype that is wanted."""
        name = piece.name.removeprefix(f"{MODEL}.")
        for place in piece.rows():
            yield self.read(name, place).to(piece.dtype)

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(math.prod(shape) * self.dtype(name).itemsize for name, shape in self.shapes.items())

    @property
    def main_dtype(self) -> torch.dtype:
        """The dtype that most numbers have."""
        sizes: dict[torch.dtype, int] = {}
        for name, shape in self.shapes.items():
            sizes[self.dtype(name)] = sizes.get(self.dtype(name), 0) + math.prod(shape)
        return max(sizes, key=lambda dtype: sizes[dtype])


class CastSource(Source):
    """A source whose tensors have another dtype.

    Args:
        source: what is cast.
        dtype: what all of its tensors become.
    """

    def __init__(self, source: Source, dtype: torch.dtype) -> None:
        self._source, self._dtype = source, dtype
        self.format, self.architecture, self.notes = source.format, source.architecture, source.notes

    def __str__(self) -> str:
        return str(self._source)

    def dtype(self, name: str) -> torch.dtype:
        """Return the new dtype."""
        return self._dtype

    def read(self, name: str, place: Place) -> Tensor:
        """Return a box of a tensor, cast."""
        return self._source.read(name, place).to(self._dtype)

    def origin(self, name: str) -> str:
        """Return what a tensor is made of."""
        return f"{self._source.origin(name)} as {dtype_name(self._dtype)}"

    def hf_files(self) -> dict[str, bytes]:
        """Return the files of the source."""
        return self._source.hf_files()

    def identity(self) -> str:
        """Return the source's identity; what is written has the dtype in its header."""
        return self._source.identity()


def check_config(stated: Mapping[str, object], config: Architecture, *, where: str) -> None:
    """Compare what a foreign checkpoint says of its model with the configuration that the user gives for it.

    Args:
        stated: fields of the shape.
        config: the shape that is given.
        where: what states them, for people.

    Raises:
        ConversionError: they differ; every field is named.
    """
    problems = [
        f"{field} is {value} in {where}, {getattr(config, field)} in --config"
        for field, value in stated.items()
        if getattr(config, field) != value
    ]
    if problems:
        raise ConversionError(f"--config is of another model: {'; '.join(problems)}")


def shortened(problems: Iterable[str]) -> str:
    """Return problems as one text: each once, and no more than a person reads."""
    each = list(dict.fromkeys(problems))
    return "; ".join(each[:_MOST_SHOWN]) + (f"; and {len(each) - _MOST_SHOWN} more" if len(each) > _MOST_SHOWN else "")


def identity_of(files: Iterable[Path]) -> str:
    """Return a text that differs when a file has another name, size or time of change."""
    found = ((path.resolve(), path.stat()) for path in sorted(files))
    facts = ((str(path), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in found)
    return hashlib.sha256(repr(list(facts)).encode("utf-8", "surrogateescape")).hexdigest()
