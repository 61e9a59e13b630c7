"""Small tokenizers with new tokens, as tools/extend_tokenizer.py writes them, and models of the old ones."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
from sentencepiece import sentencepiece_model_pb2

from megatron.checkpoint.hf import save_model
from megatron.config.architecture import Architecture
from megatron.model.llama import Llama
from megatron.tokenizer.base import Tokenizer
from megatron.tokenizer.export import byte_letters
from megatron.tokenizer.extend.extension import Extension
from megatron.tokenizer.load import load_tokenizer

SHAPE = Architecture(1, 64, 96, 2, 4, 2, 16, 128)
PIECES = ["गग", "▁गग", "กก", "กกก", "оо"]


def extend_sentencepiece(old: Path, folder: Path, pieces: Sequence[str] = PIECES) -> Extension:
    """Append pieces to a model, their scores below all others, and write folder and extension.json."""
    tokenizer = load_tokenizer("SPMTokenizer", old)
    schema: Any = sentencepiece_model_pb2
    proto = schema.ModelProto.FromString(old.read_bytes())
    ids = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    lowest = min(piece.score for piece in proto.pieces)
    spellings = []
    for number, piece in enumerate(pieces):
        proto.pieces.add(piece=piece, score=lowest - 1 - number)
        # A character that is no piece is its bytes.
        parts = [[ids[c]] if c in ids else [ids[f"<0x{byte:02X}>"] for byte in c.encode()] for c in piece]
        spellings.append(tuple(token for part in parts for token in part))
    folder.mkdir(parents=True)
    (folder / "tokenizer.model").write_bytes(proto.SerializeToString())
    new = load_tokenizer("SPMTokenizer", folder / "tokenizer.model")
    extension = Extension(tokenizer.fingerprint, new.fingerprint, tokenizer.vocab_size, spellings)
    extension.save(folder)
    return extension


def extend_byte_level(old: Path, folder: Path, words: Sequence[str]) -> Extension:
    """Append whole words, with the merges that make them, to a tokenizer.json of bytes; its special tokens stay."""
    before = load_tokenizer("HFTokenizer", old)
    content = json.loads((old / "tokenizer.json").read_text())
    vocab, merges = content["model"]["vocab"], content["model"]["merges"]
    # Special tokens that are no entries would get the ids after all entries, new ones included.
    vocab |= {token["content"]: token["id"] for token in content["added_tokens"]}
    letters = byte_letters()
    spellings = []
    for word in words:
        spelled = "".join(letters[byte] for byte in word.encode())
        spelling = before.encode(word)
        parts = [tokenizers.Tokenizer.from_file(str(old / "tokenizer.json")).id_to_token(token) for token in spelling]
        assert len(parts) == 2 and "".join(parts) == spelled
        vocab[spelled] = before.vocab_size + len(spellings)
        merges.append(parts)
        spellings.append(tuple(spelling))
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_bytes((old / name).read_bytes())
    load_tokenizer("HFTokenizer", folder).save(folder, prepend_bos=False)
    new = load_tokenizer("HFTokenizer", folder)
    extension = Extension(before.fingerprint, new.fingerprint, before.vocab_size, spellings)
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
