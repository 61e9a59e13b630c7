"""A model with an extended vocabulary is trained like any Hugging Face folder, at any layout."""

from __future__ import annotations

from pathlib import Path

import extended
import torch
from processes import spawn
from safetensors.torch import load_file

from megatron.checkpoint.extend.run import Surgery, planned
from megatron.tokenizer.load import load_tokenizer
from tests.extended_vocabulary import extend_sentencepiece, model_with
from tests.unit.tokenizer.conftest import sp_model

__all__ = ["sp_model"]


def test_two_processes_that_divide_the_vocabulary_train_as_one(tmp_path: Path, sp_model: Path) -> None:
    source = model_with(load_tokenizer("SPMTokenizer", sp_model), tmp_path / "old")
    new = extend_sentencepiece(sp_model, tmp_path / "extended")
    operation = planned(Surgery(str(source), tmp_path / "extended", tmp_path / "model", vocab_divisible_by=2))
    operation.write(lambda folder: None)
    for size in (1, 2):
        spawn(extended.work, (size, str(tmp_path), new.new_size, new.old_size), nprocs=size)
    alone, divided = (torch.load(tmp_path / f"{size}.pt", weights_only=True) for size in (1, 2))
    torch.testing.assert_close(divided["losses"], alone["losses"], rtol=1e-5, atol=1e-6)
    begun = load_file(tmp_path / "model" / "model.safetensors")
    assert set(alone["weights"]) == {"model.embed_tokens.weight", "lm_head.weight"}
    for name, weight in alone["weights"].items():
        assert weight.shape == (706, 64)  # 705 tokens, padded
        torch.testing.assert_close(divided["weights"][name], weight, rtol=1e-4, atol=1e-5)
        changed = (weight - begun[name]).abs().amax(1)
        assert (changed[new.old_size : new.new_size] > 1e-4).all()  # new rows learn
