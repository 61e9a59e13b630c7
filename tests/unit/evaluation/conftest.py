"""Small tokenizers, as the tests of tokenizers make them, and small models that use them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from megatron.checkpoint.hf import save_model
from megatron.config.architecture import Architecture
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
