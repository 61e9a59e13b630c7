"""A conversion from beginning to end: what ``tools/convert_checkpoint.py`` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from megatron.checkpoint.convert import check
from megatron.checkpoint.convert.huggingface import HuggingFaceSource, write_huggingface
from megatron.checkpoint.convert.megatron_core import MegatronCoreSource, write_megatron_core
from megatron.checkpoint.convert.meta import MetaSource
from megatron.checkpoint.convert.native import NativeSource, write_native
from megatron.checkpoint.convert.neox import BY_HEAD, JOINED, NeoxSource
from megatron.checkpoint.convert.source import CastSource, ConversionError, Source
from megatron.config.layout import Layout
from megatron.utils.table import text_table

DTYPES: Mapping[str, torch.dtype | None] = {
    "keep": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16
}  # fmt: skip
"""What the tool offers; ``keep`` stores every tensor as it is."""

SOURCES = ("native", "hf", "meta", "neox", "megatron-core")
"""Formats that can be read."""

TARGETS = ("native", "hf", "megatron-core")
"""Formats that can be written."""

# Nats per token by which one reading of q, k and v must be better than the other.
_CLEARLY_BETTER = 0.5


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
        config: a Hugging Face folder whose ``config.json`` and tokenizer belong to the model, for formats without.
        qkv_layout: how GPT-NeoX has stored q, k and v; by default it is found out.
        checked: whether a text is run through source and result.
        text: that text; by default a few sentences.
    """

    source_format: str
    source: str
    target_format: str
    target: str
    dtype: str = "keep"
    layout: Layout = dataclasses.field(default_factory=Layout)
    config: Path | None = None
    qkv_layout: str | None = None
    checked: bool = True
    text: str | None = None


def convert(wanted: Conversion) -> Iterator[str]:
    """Convert, and yield what there is to say.

    Raises:
        ValueError: it cannot be done, or the result is not what the source was.
        OSError: something cannot be read or written.
    """
    source, notes = open_source(wanted)
    yield from notes
    said: list[str] = []

    def compare(result: Source) -> None:
        if wanted.checked:
            said.append(_compared(wanted, source, result))

    if wanted.target_format == "hf":
        write_huggingface(source, Path(wanted.target), check=compare)
    elif wanted.target_format == "megatron-core":
        write_megatron_core(source, Path(wanted.target), check=compare)
    else:
        write_native(source, wanted.target, layout=wanted.layout, check=compare)
    yield from said
    yield f"{source} -> {wanted.target} (dtype: {wanted.dtype})"


def mapping_lines(wanted: Conversion) -> Iterator[str]:
    """Yield what a conversion would make of what; nothing is written."""
    source, notes = open_source(wanted)
    yield from notes
    rows = [["tensor", "shape", "dtype", "from"]]
    rows += [
        [name, " x ".join(map(str, shape)), str(source.dtype(name)).removeprefix("torch."), source.origin(name)]
        for name, shape in source.shapes.items()
    ]
    yield text_table(rows)
    yield f"{len(source.shapes):,} tensors, {source.num_bytes:,} bytes"


def open_source(wanted: Conversion) -> tuple[Source, tuple[str, ...]]:
    """Return the source of a conversion, with the dtype that is asked for, and what there is to say about it."""
    if wanted.source_format == wanted.target_format:
        raise ConversionError("--from and --to are the same format")
    if wanted.config is not None and wanted.source_format in ("native", "hf"):
        raise ConversionError(f"--config is for formats without a config.json; {wanted.source_format} has its own")
    source = _OPEN[wanted.source_format](wanted)
    notes = source.notes
    if isinstance(source, NeoxSource) and wanted.qkv_layout is None:
        source, note = _likelier_reading(wanted, source)
        notes = (*notes, note)
    return _cast(wanted, source), notes


_OPEN: Mapping[str, Callable[[Conversion], Source]] = {
    "native": lambda wanted: NativeSource(wanted.source),
    "hf": lambda wanted: HuggingFaceSource(Path(wanted.source)),
    "megatron-core": lambda wanted: MegatronCoreSource(Path(wanted.source), wanted.config),
    "meta": lambda wanted: MetaSource(Path(wanted.source), wanted.config),
    "neox": lambda wanted: NeoxSource(Path(wanted.source), wanted.config, qkv_layout=wanted.qkv_layout or JOINED),
}


def _cast(wanted: Conversion, source: Source) -> Source:
    dtype = DTYPES[wanted.dtype]
    return source if dtype is None else CastSource(source, dtype)


def _likelier_reading(wanted: Conversion, joined: NeoxSource) -> tuple[NeoxSource, str]:
    """Tell GPT-NeoX's two layouts of q, k and v apart: read in the wrong one, the model knows no language."""
    readings = {
        JOINED: joined,
        BY_HEAD: NeoxSource(Path(wanted.source), wanted.config, qkv_layout=BY_HEAD),
    }
    ids = check.text_ids(joined, wanted.text)
    if ids is None:
        raise ConversionError(
            "GPT-NeoX has stored q, k and v in two ways, and only text tells which: give --config, a Hugging Face "
            "folder with the tokenizer, or --qkv-layout"
        )
    ids = check.usable(ids, joined)
    losses = {name: check.loss(check.our_logits(source, ids), ids) for name, source in readings.items()}
    best, other = sorted(losses, key=lambda name: losses[name])
    told = f"q, k and v {best}: {losses[best]:.2f} nats per token of text; {other}: {losses[other]:.2f}"
    if not losses[other] - losses[best] > _CLEARLY_BETTER:
        raise ConversionError(f"{told}: too close to tell, is it a trained model? Give --text, or --qkv-layout")
    return readings[best], told


def _compared(wanted: Conversion, source: Source, result: Source) -> str:
    """Run a text through source and result, and return what was found.

    Raises:
        ConversionError: they do not agree.
    """
    ids = check.sample_ids(source, wanted.text)
    judge = check.transformers_logits if check.can_judge() else check.our_logits
    if wanted.source_format == "meta":
        stored = _cast(wanted, MetaSource(Path(wanted.source), wanted.config, permuted=False))
        found = check.compared(check.paired_logits(stored, ids), judge(result, ids))
    elif wanted.source_format == "hf":
        found = check.compared(judge(source, ids), check.our_logits(result, ids))
    else:
        found = check.compared(check.our_logits(source, ids), judge(result, ids))
    told = (
        f"{len(ids)} tokens through both: largest difference of logits {found.difference:.1e} "
        f"({found.relative:.1e} of the largest), KL divergence {found.kl:.1e} nats per token"
    )
    if not found.is_good:
        raise ConversionError(
            f"{told}: the result is not what it was made of. It has not got its name; at most {check.MAX_DIFFERENCE} "
            f"of the largest and {check.MAX_KL} nats would be rounding"
        )
    return told if check.can_judge() else f"{told}; both with this project's model, since transformers is not installed"
