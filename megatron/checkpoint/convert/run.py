"""A conversion from beginning to end: what `tools/convert_checkpoint.py` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from megatron.checkpoint.convert.huggingface import HuggingFaceSource, write_huggingface
from megatron.checkpoint.convert.megatron_core import MegatronCoreSource, write_megatron_core
from megatron.checkpoint.convert.native import NativeSource, write_native
from megatron.checkpoint.convert.source import CastSource, ConversionError, Source
from megatron.config.layout import Layout
from megatron.utils.table import text_table

DTYPES: Mapping[str, torch.dtype | None] = {
    "keep": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16
}  # fmt: skip
"""What the tool offers; ``keep`` stores every tensor as it is."""

SOURCES = ("native", "hf", "megatron-core")
"""Formats that can be read."""

TARGETS = ("native", "hf", "megatron-core")
"""Formats that can be written."""


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What is asked for.

    Attributes:
        source_format: one of :data:`SOURCES`.
        source: where it lies.
        target_format: one of :data:`TARGETS`.
        target: folder to write, which must not exist.
        dtype: of the stored weights, one of :data:`DTYPES`.
        layout: of a native target.
        config: Hugging Face folder whose ``config.json`` and tokenizer belong to the model; for formats without them.
    """

    source_format: str
    source: str
    target_format: str
    target: str
    dtype: str = "keep"
    layout: Layout = dataclasses.field(default_factory=Layout)
    config: Path | None = None


_OPEN: Mapping[str, Callable[[Conversion], Source]] = {
    "native": lambda wanted: NativeSource(wanted.source),
    "hf": lambda wanted: HuggingFaceSource(Path(wanted.source)),
    "megatron-core": lambda wanted: MegatronCoreSource(Path(wanted.source), wanted.config),
}


def convert(wanted: Conversion) -> Iterator[str]:
    """Convert, and yield what there is to say.

    Raises:
        ValueError: it cannot be done, or the result is not what the source was.
        OSError: something cannot be read or written.
    """
    source = open_source(wanted)
    yield from source.notes

    def check(result: Source) -> None:
        pass

    if wanted.target_format == "hf":
        write_huggingface(source, Path(wanted.target), check=check)
    elif wanted.target_format == "megatron-core":
        write_megatron_core(source, Path(wanted.target), check=check)
    else:
        write_native(source, wanted.target, layout=wanted.layout, check=check)
    yield f"{source} -> {wanted.target} (dtype: {wanted.dtype})"


def mapping_lines(wanted: Conversion) -> Iterator[str]:
    """Yield what a conversion would make of what; nothing is written."""
    source = open_source(wanted)
    yield from source.notes
    rows = [["tensor", "shape", "dtype", "from"]]
    rows += [
        [name, " x ".join(map(str, shape)), str(source.dtype(name)).removeprefix("torch."), source.origin(name)]
        for name, shape in source.shapes.items()
    ]
    yield text_table(rows)
    yield f"{len(source.shapes):,} tensors, {source.num_bytes:,} bytes"


def open_source(wanted: Conversion) -> Source:
    """Return the source of a conversion, with the dtype that is asked for."""
    if wanted.source_format == wanted.target_format:
        raise ConversionError("--from and --to are the same format")
    source = _OPEN[wanted.source_format](wanted)
    dtype = DTYPES[wanted.dtype]
    return source if dtype is None else CastSource(source, dtype)
