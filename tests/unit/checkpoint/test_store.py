from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from megatron.checkpoint.store import CheckpointError, CheckpointStore, find_checkpoint, load, read_state
from megatron.config.architecture import Architecture
from megatron.model.llama import Llama
from megatron.optim.adamw import build_adamw

SHAPE = Architecture(64, 16, 32, 2, 2, 1, 8, 64)


def trained(seed: int = 0, steps: int = 2) -> tuple[Llama, torch.optim.AdamW]:
    model = Llama(SHAPE)
    model.init_weights(seed=seed)
    optimizer = build_adamw(model, learning_rate=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for _ in range(steps):
        train(model, optimizer)
    return model, optimizer


def train(model: Llama, optimizer: torch.optim.AdamW) -> float:
    tokens = torch.arange(33)[None]
    optimizer.zero_grad()
    loss = model(tokens[:, :-1], targets=tokens[:, 1:])
    loss.backward()
    optimizer.step()
    return loss.item()


def test_model_and_optimizer_come_back_bit_for_bit(tmp_path: Path) -> None:
    model, optimizer = trained()
    path = CheckpointStore(tmp_path).save(step=2, model=model, optimizer=optimizer, state={"samples": 2})
    assert path == tmp_path / "global_step2" and find_checkpoint(tmp_path) == path
    assert (tmp_path / "latest").read_text() == "global_step2\n"
    assert read_state(path) == {"samples": 2, "step": 2}
    other, its_optimizer = trained(seed=5, steps=1)
    load(path, model=other, optimizer=its_optimizer)
    assert [train(model, optimizer) for _ in range(3)] == [train(other, its_optimizer) for _ in range(3)]


def test_weights_alone(tmp_path: Path) -> None:
    model, optimizer = trained()
    path = CheckpointStore(tmp_path).save(step=2, model=model, optimizer=optimizer, state={})
    other, _ = trained(seed=5)
    load(path, model=other, optimizer=None)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_newest_complete_wins_and_others_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, _ = trained()
    store = CheckpointStore(tmp_path)
    for step in (2, 9, 10):
        store.save(step=step, model=model, optimizer=None, state={})
    (tmp_path / "global_step10" / "COMPLETE").unlink()
    (tmp_path / "global_stepX").mkdir()
    (tmp_path / ".global_step11.tmp").mkdir()
    assert store.newest() == tmp_path / "global_step9"
    assert "global_step10 is incomplete" in caplog.text


def test_retention_spares_milestones(tmp_path: Path) -> None:
    model, _ = trained()
    store = CheckpointStore(tmp_path, keep_last=2, milestones=[3])
    for step in range(1, 7):
        store.save(step=step, model=model, optimizer=None, state={})
    assert sorted(path.name for path in tmp_path.glob("global_step*")) == [
        "global_step3", "global_step5", "global_step6",
    ]  # fmt: skip


def test_an_error_while_saving_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    model, _ = trained()
    store = CheckpointStore(tmp_path)
    store.save(step=1, model=model, optimizer=None, state={})
    with pytest.raises(FileNotFoundError):
        store.save(step=2, model=model, optimizer=None, state={}, copies={"x": tmp_path / "gone"})
    assert store.newest() == tmp_path / "global_step1"
    assert (tmp_path / "latest").read_text() == "global_step1\n"
    # And the next attempt is not in its way.
    store.save(step=2, model=model, optimizer=None, state={})
    assert store.newest() == tmp_path / "global_step2"


def test_no_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no complete global_step<N>"):
        find_checkpoint(tmp_path)


def test_another_shape_is_a_clear_error(tmp_path: Path) -> None:
    model, _ = trained()
    path = CheckpointStore(tmp_path).save(step=1, model=model, optimizer=None, state={})
    with pytest.raises(CheckpointError, match="cannot be loaded into this model"):
        load(path, model=Llama(Architecture(64, 16, 48, 2, 2, 1, 8, 64)), optimizer=None)


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code of a stranger ran')",)


def test_a_pickled_index_cannot_run_code(tmp_path: Path) -> None:
    model, _ = trained()
    path = CheckpointStore(tmp_path).save(step=1, model=model, optimizer=None, state={})
    (path / ".metadata").write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(CheckpointError, match=r"asks for builtins\.exec, .* refused"):
        load(path, model=model, optimizer=None)
