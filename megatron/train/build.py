"""Makes the parts of a run from the sections that describe them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from megatron.checkpoint.hf import load_weights
from megatron.config.derive import architecture_of
from megatron.config.schema import DataConfig, EvaluationConfig, ModelConfig, TokenizerConfig
from megatron.data.loader import Loader
from megatron.data.manifest import Manifest, load_manifest
from megatron.data.mixture import Mixture, plan_mixture
from megatron.data.order import SampleOrder
from megatron.evaluation.bits_per_byte import HeldOutSet
from megatron.model.llama import Llama
from megatron.utils.files import fingerprint_file


@dataclasses.dataclass(frozen=True)
class Data:
    """What a run trains on and is measured on.

    Attributes:
        manifest: the tokenised shards.
        mixture: every corpus's share.
        order: which sample holds what.
        loader: reads samples.
        held_out: the held-out documents, or None when nothing is held out or evaluation is off.
    """

    manifest: Manifest
    mixture: Mixture
    order: SampleOrder
    loader: Loader
    held_out: HeldOutSet | None


def build_data(section: DataConfig, evaluation: EvaluationConfig, *, seed: int) -> Data:
    """Open the corpus of a run and plan its mixture; no shard is read yet.

    Raises:
        ValueError: the manifest is missing or broken, or the mixture cannot be made from it.
    """
    if section.data_manifest is None:
        raise ValueError("data_manifest is not set: give the manifest that tools/preprocess_data.py has written")
    manifest = load_manifest(Path(section.data_manifest))
    mixture = plan_mixture(manifest, section.mixture)
    order = mixture.order(seed=seed, seq_length=section.seq_length)
    loader = Loader(order=order, prefixes=[manifest.prefix(corpus.shard) for corpus in mixture.trained])
    shards = manifest.split("valid") if evaluation.eval_interval else ()
    held_out = (
        HeldOutSet(
            folder=manifest.root, shards=shards, tokenizer=manifest.tokenizer, seq_length=section.seq_length
        )
        if shards
        else None
    )
    return Data(manifest=manifest, mixture=mixture, order=order, loader=loader, held_out=held_out)


def check_tokenizer(section: TokenizerConfig, manifest: Manifest) -> None:
    """Refuse data that another tokenizer made.

    Raises:
        ValueError: naming both sides.
    """
    fingerprint, made_by = fingerprint_file(Path(section.vocab_file)), manifest.tokenizer
    if (section.tokenizer_type, fingerprint) != (made_by.kind, made_by.fingerprint):
        raise ValueError(
            f"the shards were made by a {made_by.kind} with fingerprint {made_by.fingerprint}, but vocab_file "
            f"{section.vocab_file} is a {section.tokenizer_type} with fingerprint {fingerprint}; "
            "tokenise the corpus again with this file, or give the file that made the shards"
        )


def tokenizer_files(section: TokenizerConfig) -> list[Path]:
    """Return the tokenizer's file and, for a Hugging Face one, the settings beside it that name its special tokens."""
    file = Path(section.vocab_file)
    beside = ("tokenizer_config.json", "special_tokens_map.json") if section.tokenizer_type == "HFTokenizer" else ()
    return [file, *(path for name in beside if (path := file.parent / name).exists())]


def build_model(section: ModelConfig, *, vocab_size: int, seed: int, device: torch.device) -> Llama:
    """Return the model in float32 on ``device``, with pretrained weights or, where there are none, random ones."""
    architecture = architecture_of(section, vocab_size=vocab_size)
    with torch.device("meta"):
        model = Llama(architecture)
    model.to_empty(device=device)
    model.model.set_rotation_table()
    if section.hf_model is not None and section.load_weights:
        load_weights(model, Path(section.hf_model))
    else:
        model.init_weights(seed=seed)
    return model
