"""Small tokenizers with new tokens, as tools/extend_tokenizer.py writes them, and models of the old ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from megatron.checkpoint.hf import save_model
from megatron.config.architecture import Architecture
from megatron.model.llama import Llama
from megatron.tokenizer.base import Tokenizer
from megatron.tokenizer.extend.byte_level_old import ByteLevelOld
from megatron.tokenizer.extend.extension import Extension
from megatron.tokenizer.extend.old import OldTokenizer, Text
from megatron.tokenizer.extend.sentencepiece_old import SentencePieceOld

SHAPE = Architecture(1, 64, 96, 2, 4, 2, 16, 128)
PIECES = ["गग", "▁गग", "กก", "กกก", "оо"]


def extend_sentencepiece(old: Path, folder: Path, pieces: Sequence[str] = PIECES) -> Extension:
    """Append pieces to a model, their scores below all others, and write folder and extension.json."""
    return _extended(SentencePieceOld(old, longest=16), folder, pieces)


def extend_byte_level(old: Path, folder: Path, words: Sequence[str]) -> Extension:
    """Append whole words, with the merges that make them, to a tokenizer.json of bytes; its special tokens stay."""
    return _extended(ByteLevelOld(old, longest=16), folder, [word.encode() for word in words])


def _extended(old: OldTokenizer[Text], folder: Path, tokens: Sequence[Text]) -> Extension:
    folder.mkdir(parents=True)
    old.write(tokens, folder, prepend_bos=False)
    extension = Extension(
        old.tokenizer.fingerprint, Extension.fingerprints_in(folder), old.tokenizer.vocab_size, old.spellings(tokens)
    )
    extension.save(folder)
    return extension


def model_with(
    tokenizer: Tokenizer,
    folder: Path,
    *,
    rows: int | None = None,
    dtype: torch.dtype = torch.float32,
    prepend_bos: bool = True,
    shape: Architecture = SHAPE,
    **changes: Any,
) -> Path:
    """Write a random Hugging Face model for a tokenizer, with so many rows."""
    shape = dataclasses.replace(shape, vocab_size=rows or tokenizer.vocab_size, **changes)
    model = Llama(shape)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.15, generator=generator)
    weights = dict(model.state_dict())
    save_model(weights, shape, folder, dtype=dtype, bos_id=tokenizer.bos_id, eos_id=tokenizer.eod_id)
    tokenizer.save(folder, prepend_bos=prepend_bos)
    return folder
