"""Small tokenizers, as the tests of tokenizers make them, small models that use them, and a small encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import sentencepiece
import torch

from megatron.checkpoint.hf import save_model
from megatron.config.architecture import Architecture
from megatron.evaluation.metrics import translation
from megatron.model.llama import Llama
from megatron.tokenizer.load import load_tokenizer
from tests.unit.tokenizer.conftest import ranks_file, sp_model, texts

__all__ = ["ranks_file", "sp_model", "texts"]


@pytest.fixture(scope="session")
def small_hf(tmp_path_factory: pytest.TempPathFactory, sp_model: Path) -> Path:
    """A Hugging Face folder with a random model of 64 positions and a SentencePiece tokenizer."""
    folder = tmp_path_factory.mktemp("small_hf")
    tokenizer = load_tokenizer("SPMTokenizer", sp_model)
    model = Llama(Architecture(tokenizer.vocab_size, 32, 64, 2, 4, 2, 8, 64, initializer_range=0.3))
    model.init_weights(seed=0)
    save_model(
        model.state_dict(), model.architecture, folder, dtype=torch.float32, bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eod_id,
    )  # fmt: skip
    tokenizer.save(folder, prepend_bos=True)
    return folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny BERT that reads Latin letters and knows no others."""
    transformers = pytest.importorskip("transformers", reason="the extra [bertscore] is not installed")
    pytest.importorskip("bert_score", reason="the extra [bertscore] is not installed")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), "."]
    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    tokenizer = transformers.BertTokenizer(vocab={token: number for number, token in enumerate(tokens)})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokens), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=40,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def spm_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a small SentencePiece model, which stands for the one of FLORES-200 in this test."""
    words = ["the", "cat", "sat", "on", "mat.", "a", "dog", "(big)", "ไทย", "кот", "&amp;"]
    path = tmp_path / "small.model"
    lines = [f"{word} {other} is here." for word in words for other in words]
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=file, vocab_size=30, minloglevel=2
        )
    data = path.read_bytes()
    monkeypatch.setattr(translation, "_FLORES200_BYTES", len(data))
    monkeypatch.setattr(translation, "_FLORES200_SHA256", hashlib.sha256(data).hexdigest())
    translation._flores200.cache_clear()
    yield path
    translation._flores200.cache_clear()
