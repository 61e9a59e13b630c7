"""Small tokenizers of both kinds: pieces with byte fallback, and bytes alone."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from megatron.tokenizer.base import Tokenizer
from megatron.tokenizer.load import load_tokenizer
from megatron.tokenizer.train import train_sentencepiece

TEXTS = [
    "All human beings are born free and equal in dignity and rights.",
    "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan.",
    "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "人人生而自由,在尊严和权利上一律平等。",
]


@pytest.fixture(scope="session", params=["SPMTokenizer", "TiktokenTokenizer"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    if request.param == "SPMTokenizer":
        train_sentencepiece(TEXTS * 3, path, vocab_size=380)
    else:
        _write_ranks(path)
    return load_tokenizer(request.param, path)


def _write_ranks(path: Path) -> None:
    words = [b" the", b"\n\n", b" a", b"ing", "é".encode(), "人".encode()]
    tokens = [*(bytes([byte]) for byte in range(256)), *words]
    path.write_bytes(b"".join(base64.b64encode(token) + f" {rank}\n".encode() for rank, token in enumerate(tokens)))
