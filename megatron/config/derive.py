"""Numbers that follow from the configuration: the batch, the length of the schedule, the model's shape."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megatron.config.architecture import Architecture, MissingFolderError, RopeScaling
from megatron.config.schema import REQUIRED_SHAPE_KEYS, SHAPE_KEYS, BatchConfig, Config, ModelConfig, ScheduleConfig


@dataclasses.dataclass(frozen=True)
class Batch:
    """How one optimizer step is cut: ``global_size = micro_size x accumulation_steps x processes``, in sequences."""

    global_size: int
    micro_size: int
    accumulation_steps: int


def derive_batch(section: BatchConfig, *, data_parallel_size: int) -> Batch:
    """Complete the batch: any two of the three numbers give the third.

    One alone means what it means to GPT-NeoX: the steps are 1, and the other size follows.

    Args:
        section: what was given.
        data_parallel_size: number of processes that train on different sequences.

    Raises:
        ValueError: the numbers do not go into each other; the message names all of them.
    """
    total, micro, steps = (
        section.train_batch_size, section.train_micro_batch_size_per_gpu, section.gradient_accumulation_steps
    )
    if total is None:
        if micro is None:
            raise ValueError("neither train_batch_size nor train_micro_batch_size_per_gpu is given: add one of them")
        steps = steps or 1
        return Batch(micro * steps * data_parallel_size, micro, steps)
    if micro is None:
        steps = steps or 1
        micro = total // (steps * data_parallel_size)
    elif steps is None:
        steps = total // (micro * data_parallel_size)
    if micro * steps * data_parallel_size != total:
        raise ValueError(_indivisible(section, total, data_parallel_size))
    return Batch(total, micro, steps)


def _indivisible(section: BatchConfig, total: int, data_parallel_size: int) -> str:
    """Say which numbers do not go into the batch, and the nearest batch that they do go into."""
    factors = {
        "train_micro_batch_size_per_gpu": section.train_micro_batch_size_per_gpu,
        "gradient_accumulation_steps": section.gradient_accumulation_steps,
    }
    given = {key: value for key, value in factors.items() if value is not None}
    unit = math.prod(given.values()) * data_parallel_size
    product = " x ".join([*(f"{key} = {value}" for key, value in given.items()), f"{data_parallel_size} processes"])
    if len(given) == len(factors):
        relation, nearest = "is not", unit
    else:
        relation, nearest = "is not a multiple of", max(1, round(total / unit)) * unit
    equals = f" = {unit}" if given else ""
    return (
        f"train_batch_size = {total} {relation} {product}{equals}. "
        f"Set train_batch_size to {nearest}, or change one of the others."
    )


def decay_steps(section: ScheduleConfig, *, train_iters: int) -> int:
    """Return after how many optimizer steps, warm-up included, the lowest learning rate is reached; at least 1."""
    if section.lr_decay_iters is not None:
        return section.lr_decay_iters
    return max(1, math.floor(train_iters * (section.lr_decay_fraction or 1.0)))


def parse_split(text: str) -> tuple[float, float, float]:
    """Return the parts for training, validation and test that GPT-NeoX's ``split`` names; parts left out are 0.

    Args:
        text: up to three numbers, such as ``969, 30, 1`` or ``9/1``.

    Raises:
        ValueError: naming the broken rule, as the end of a sentence that begins with the key.
    """
    pieces = text.split("," if "," in text else "/")
    try:
        parts = [float(piece) for piece in pieces]
    except ValueError:
        raise ValueError("is not a list of numbers with commas, or slashes, between them") from None
    if len(parts) > 3:
        raise ValueError(f"has {len(parts)} numbers, but there are three parts: training, validation and test")
    if any(part < 0 or not math.isfinite(part) for part in parts):
        raise ValueError("has a number that is below 0 or not finite")
    if parts[0] == 0:
        raise ValueError("leaves nothing to train on, because its first number is 0")
    return (*parts, 0.0, 0.0)[:3]  # type: ignore[return-value]


def warmup_steps(section: ScheduleConfig, *, train_iters: int) -> float:
    """Return the length of the warm-up in optimizer steps, which may be a fraction of one as in GPT-NeoX."""
    return section.warmup * decay_steps(section, train_iters=train_iters)


def architecture_of(section: ModelConfig, *, vocab_size: int | None) -> Architecture:
    """Return the shape of the model that is trained, from ``hf_model``'s ``config.json`` or from the shape keys.

    Args:
        section: the model.
        vocab_size: entries of the tokenizer; used where the configuration has no ``vocab_size``, else compared.

    Raises:
        MissingFolderError: ``hf_model`` is not at hand.
        ValueError: the vocabulary is unknown or smaller than the tokenizer's, the shape is not possible, or that of
            ``hf_model`` is not what the keys beside it say; each line is one problem.
    """
    problems: list[str] = []
    if section.hf_model is not None:
        shape = Architecture.from_folder(Path(section.hf_model))
        rows, origin = shape.vocab_size, f"{section.hf_model}/config.json"
        problems += _differences(section, shape, origin)
    else:
        rows, origin = section.vocab_size or vocab_size or 0, "the configuration"
        if not rows:
            raise ValueError("vocab_size is not known: add vocab_size, or use a tokenizer to take it from")
        shape = _shape_written_out(section, rows)
    if vocab_size is not None and vocab_size > rows:
        problems.append(
            f"vocab_size = {rows} in {origin} is smaller than the tokenizer's {vocab_size} entries. "
            "Use the tokenizer that belongs to the model, or a larger vocab_size."
        )
    if problems:
        raise ValueError("\n".join(problems))
    return shape


def expected_architecture(section: ModelConfig, *, vocab_size: int | None) -> Architecture:
    """Return :func:`architecture_of`, or what the shape keys beside ``hf_model`` say where that folder is not at hand.

    For what needs no weights, on a machine that may have none: a description or a simulation of the run.

    Args:
        section: the model.
        vocab_size: as for :func:`architecture_of`.

    Raises:
        ValueError: as :func:`architecture_of`, of the folder where the shape keys are not whole.
    """
    try:
        return architecture_of(section, vocab_size=vocab_size)
    except MissingFolderError:
        if any(getattr(section, key) is None for key in REQUIRED_SHAPE_KEYS):
            raise
        return architecture_of(section.model_copy(update={"hf_model": None}), vocab_size=vocab_size)


def _differences(section: ModelConfig, shape: Architecture, origin: str) -> Iterator[str]:
    """Compare the shape keys that are given with a folder's shape; others have defaults, which nobody expects of it."""
    found = _as_settings(shape)
    given = section.model_dump(include=section.model_fields_set & {*SHAPE_KEYS}, exclude_none=True)
    for key, value in given.items():
        if value != found[key]:
            rule = f"differs from {json.dumps(found[key])} in {origin}"
            yield f"{key} = {json.dumps(value)} {rule}. Change or remove {key}, or name another folder as hf_model."


def _as_settings(shape: Architecture) -> dict[str, Any]:
    """Return a shape as the values of all shape keys; the inverse of :func:`_shape_written_out`."""
    return {
        "num_layers": shape.num_hidden_layers,
        "hidden_size": shape.hidden_size,
        "num_attention_heads": shape.num_attention_heads,
        "num_kv_heads": shape.num_key_value_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate_size,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.max_position_embeddings,
        "rms_norm_epsilon": shape.rms_norm_eps,
        "rotary_emb_base": shape.rope_theta,
        "rope_scaling": dataclasses.asdict(shape.rope_scaling) if shape.rope_scaling is not None else None,
        "no_weight_tying": not shape.tie_word_embeddings,
        "init_method_std": shape.initializer_range,
    }


def _shape_written_out(section: ModelConfig, vocab_size: int) -> Architecture:
    layers, hidden, heads = section.num_layers, section.hidden_size, section.num_attention_heads
    width, longest = section.intermediate_size, section.max_position_embeddings
    if layers is None or hidden is None or heads is None or width is None or longest is None:
        raise ValueError("neither hf_model nor a whole shape is given: load() lists the missing keys")
    scaling = section.rope_scaling
    return Architecture(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=section.num_kv_heads or heads,
        head_dim=section.head_dim or hidden // heads,
        max_position_embeddings=longest,
        rms_norm_eps=section.rms_norm_epsilon,
        rope_theta=section.rotary_emb_base,
        rope_scaling=RopeScaling(**scaling.model_dump()) if scaling is not None else None,
        tie_word_embeddings=not section.no_weight_tying,
        initializer_range=section.init_method_std,
    )


def known_vocab_size(config: Config) -> int | None:
    """Return the tokenizer's vocabulary as the data manifest tells it, or None while there is no manifest to read."""
    if config.data.data_manifest is None:
        return None
    try:
        manifest = json.loads(Path(config.data.data_manifest).read_text(encoding="utf-8"))
        size = manifest["tokenizer"]["vocab_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # whoever reads the manifest in earnest says what is wrong with it
    return size if isinstance(size, int) else None


def vocab_size_is_known(config: Config) -> bool:
    """Tell whether the model's shape is complete before the tokenizer is read."""
    return (config.model.hf_model or config.model.vocab_size or known_vocab_size(config)) is not None
