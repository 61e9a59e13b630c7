"""Saves from a GPU while it goes on computing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from megatron.checkpoint.restore import load
from megatron.checkpoint.storage import LocalStorage
from megatron.checkpoint.store import CheckpointStore
from megatron.config.architecture import Architecture
from megatron.model.llama import Llama
from megatron.optim.adamw import build_adamw

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
SHAPE = Architecture(8_000, 512, 1_376, 4, 8, 8, 64, 128)


def test_what_is_saved_is_what_was_there_when_save_was_called(tmp_path: Path) -> None:
    device = torch.device("cuda")
    model = Llama.empty(SHAPE, device=device)
    model.init_weights(seed=1)
    optimizer = build_adamw(model, learning_rate=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    store = CheckpointStore(LocalStorage(tmp_path), in_background=True)
    for step in range(1, 4):  # the second and third copy into memory that is there already
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        moments = [state["exp_avg"].clone() for state in optimizer.state.values()]
        store.save(step=step, model=model, optimizer=optimizer, state={})
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            for state in optimizer.state.values():
                state["exp_avg"].zero_()
        saved = store.wait()
        assert saved is not None
        load(saved.checkpoint, model=model, optimizer=optimizer)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        found = [state["exp_avg"] for state in optimizer.state.values()]
        assert all(torch.equal(a, b) for a, b in zip(found, moments, strict=True))
