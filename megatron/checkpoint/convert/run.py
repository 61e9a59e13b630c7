"""A conversion from beginning to end: what ``tools/convert_checkpoint.py`` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from megatron.checkpoint.convert import check
from megatron.checkpoint.convert.huggingface import HuggingFaceSource, write_huggingface
from megatron.checkpoint.convert.megatron_arguments import arguments_of
from megatron.checkpoint.convert.megatron_core import MegatronCoreSource
from megatron.checkpoint.convert.megatron_core_writer import write_megatron_core
from megatron.checkpoint.convert.megatron_names import place_of
from megatron.checkpoint.convert.meta import MetaSource
from megatron.checkpoint.convert.native import NativeSource, native_files, write_native
from megatron.checkpoint.convert.neox import BY_HEAD, JOINED, NeoxSource
from megatron.checkpoint.convert.source import CastSource, ConversionError, DisagreementError, Source
from megatron.checkpoint.hf import dtype_name
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
    source, notes = _open_checked(wanted)
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
    """Yield what a conversion would make of what; nothing is written.

    Raises:
        ValueError: as :func:`convert`, as far as that can be known before.
        OSError: something cannot be read.
    """
    source, notes = _open_checked(wanted)
    yield from notes
    place = place_of if wanted.target_format == "megatron-core" else str
    rows = [["tensor", "shape", "dtype", "from"]]
    rows += [
        [place(name), " x ".join(map(str, shape)), dtype_name(source.dtype(name)), source.origin(name)]
        for name, shape in source.shapes.items()
    ]
    yield text_table(rows)
    yield f"{len(source.shapes):,} tensors, {source.num_bytes:,} bytes"


def open_source(wanted: Conversion) -> tuple[Source, tuple[str, ...]]:
    """Return the source of a conversion, with the dtype that is asked for, and what there is to say about it."""
    if wanted.source_format == wanted.target_format:
        raise ConversionError("--from and --to are the same format")
    try:
        source = _OPEN[wanted.source_format](wanted)
    except ValueError as error:
        raise ConversionError(f"{error}{_hint(wanted)}") from error
    notes = source.notes
    if isinstance(source, NeoxSource) and wanted.qkv_layout is None:
        source, note = _likelier_reading(wanted, source)
        notes = (*notes, note)
    return _cast(wanted, source), notes


def _open_checked(wanted: Conversion) -> tuple[Source, tuple[str, ...]]:
    """Open the source, unless the conversion cannot be done: then say all that is wrong with what is asked for."""
    problems = list(_contradictions(wanted))
    if problems:
        raise ConversionError("; ".join(problems))
    source, notes = open_source(wanted)
    if wanted.target_format == "native":
        native_files(source, wanted.layout)
    elif wanted.target_format == "megatron-core":
        arguments_of(source.architecture)
    return source, (*notes, *check.tokenizer_notes(source))


def _contradictions(wanted: Conversion) -> Iterator[str]:
    source, target = Path(wanted.source), Path(wanted.target)
    local = "://" not in wanted.source, "://" not in wanted.target
    if not local[0] and wanted.source_format != "native":
        yield f"only native is read from an object store; fetch {wanted.source} to a folder"
    elif local[0] and not source.exists():
        yield f"{source} does not exist"
    if not local[1] and wanted.target_format != "native":
        yield f"only native is written to an object store; {wanted.target} is no folder"
    elif local[1] and (target.exists() or target.is_symlink()):
        yield f"{target} exists; give another name, or delete it"
    elif all(local) and target.resolve().is_relative_to(source.resolve()):
        yield f"{target} lies in {source}, which is read"
    if wanted.layout.processes > 1 and wanted.target_format != "native":
        yield "--model-parallel-size and --pipe-parallel-size are for --to native"
    if wanted.qkv_layout is not None and wanted.source_format != "neox":
        yield "--qkv-layout is for --from neox"
    if wanted.config is not None and wanted.source_format in ("native", "hf"):
        yield f"--config is for formats without a config.json; {wanted.source_format} has its own"


_MARKS: Mapping[str, tuple[str, ...]] = {
    "native": ("COMPLETE", "global_step*/COMPLETE"),
    "hf": ("config.json",),
    "meta": ("params.json", "consolidated.*.pth"),
    "neox": ("layer_*-model_*-model_states.pt", "mp_rank_*_model_states.pt", "global_step*/*_model_states.pt"),
    "megatron-core": ("latest_checkpointed_iteration.txt", ".metadata"),
}
"""Names that each format's folders have."""


def _hint(wanted: Conversion) -> str:
    """Return what a folder that could not be read in one format looks like."""
    if "://" in wanted.source:
        return ""
    folder = Path(wanted.source)
    found = [name for name, marks in _MARKS.items() if any(next(folder.glob(mark), None) for mark in marks)]
    return "" if wanted.source_format in found or not found else f" (it looks like --from {found[0]})"


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
    shape = joined.architecture
    if shape.head_dim * shape.num_key_value_heads % shape.num_attention_heads:
        return joined, f"q, k and v {JOINED}: {shape.num_attention_heads} query heads cannot share keys {BY_HEAD}"
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
    if not losses[other] - losses[best] > _CLEARLY_BETTER:  # also where they are no numbers
        raise ConversionError(f"{told}: too close to tell, is it a trained model? Give --text, or --qkv-layout")
    return readings[best], told


def _compared(wanted: Conversion, source: Source, result: Source) -> str:
    """Run a text through source and result, and return what was found.

    Raises:
        ConversionError: they do not agree.
    """
    ids, kind = check.sample_ids(source, wanted.text)
    judge = check.transformers_logits if check.can_judge() else check.our_logits
    if wanted.source_format == "meta":
        stored = _cast(wanted, MetaSource(Path(wanted.source), wanted.config, permuted=False))
        found = check.compared(check.paired_logits(stored, ids), judge(result, ids))
    elif wanted.source_format == "hf":
        found = check.compared(judge(source, ids), check.our_logits(result, ids))
    else:
        found = check.compared(check.our_logits(source, ids), judge(result, ids))
    told = f"{len(ids)} {kind} through both: " + (
        "all logits are identical"
        if found.difference == 0.0
        else f"largest difference of logits {found.difference:.1e} ({found.relative:.1e} of the largest), "
        f"KL divergence {found.kl:.1e} nats per token"
    )
    if not found.is_finite:
        why = f"these are no numbers; too large for --dtype {wanted.dtype}?"
        raise DisagreementError(f"{told}: {why} Nothing is left of it")
    if not found.is_good:
        raise DisagreementError(
            f"{told}: the result is not what it was made of. Nothing is left of it; at most {check.MAX_DIFFERENCE} "
            f"of the largest and {check.MAX_KL} nats would be rounding"
        )
    return told if check.can_judge() else f"{told}; both with this project's model, since transformers is not installed"
