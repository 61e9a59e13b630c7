from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, TensorStorageMetadata

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


def by_name(module: str, name: str) -> bytes:
    """Return a pickle that calls ``module.name('x')``, with dots in the name as protocol 4 allows."""
    return b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)]) + name.encode() + (
        b"\x93\x8c\x01x\x85R."
    )


@pytest.mark.parametrize(
    "index",
    [
        pickle.dumps(_Bomb()),
        by_name("torch.distributed.checkpoint.filesystem", "os.system"),
        by_name("torch.distributed.checkpoint.metadata", "os.system"),
        by_name("torch.serialization", "_get_layout.__globals__"),
        by_name("torch", "load"),
    ],
)
def test_a_pickled_index_cannot_run_code(tmp_path: Path, index: bytes) -> None:
    model, _ = trained()
    path = CheckpointStore(tmp_path).save(step=1, model=model, optimizer=None, state={})
    (path / ".metadata").write_bytes(index)
    with pytest.raises(CheckpointError, match="which none needs; refused"):
        load(path, model=model, optimizer=None)


def test_an_entry_that_would_be_unpickled_is_refused(tmp_path: Path) -> None:
    model, optimizer = trained()
    path = CheckpointStore(tmp_path).save(step=1, model=model, optimizer=optimizer, state={})
    metadata = pickle.loads((path / ".metadata").read_bytes())
    assert all(isinstance(entry, TensorStorageMetadata) for entry in metadata.state_dict_metadata.values())
    metadata.state_dict_metadata["model.model.norm.weight"] = BytesStorageMetadata()
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(CheckpointError, match="refused"):
        load(path, model=model, optimizer=None)


def test_the_configurations_optimizer_settings_win_over_the_stored_ones(tmp_path: Path) -> None:
    model, optimizer = trained()
    path = CheckpointStore(tmp_path).save(step=2, model=model, optimizer=optimizer, state={})
    other = Llama(SHAPE)
    changed = build_adamw(other, learning_rate=0.5, betas=(0.5, 0.6), eps=1e-3, weight_decay=0.7)
    load(path, model=other, optimizer=changed)
    first, second = changed.param_groups
    assert (first["betas"], first["eps"], first["lr"]) == ((0.5, 0.6), 1e-3, 0.5)
    assert (first["weight_decay"], second["weight_decay"]) == (0.7, 0.0)
    stored, loaded = (
        [state["exp_avg"] for state in optimizer_.state.values()] for optimizer_ in (optimizer, changed)
    )
    assert all(torch.equal(a, b) for a, b in zip(stored, loaded, strict=True))


def test_what_a_crash_left_half_deleted_goes_away(tmp_path: Path) -> None:
    model, _ = trained()
    store = CheckpointStore(tmp_path)
    store.save(step=1, model=model, optimizer=None, state={})
    (tmp_path / "global_step1" / "COMPLETE").unlink()
    store.save(step=2, model=model, optimizer=None, state={})
    assert [path.name for path in tmp_path.glob("global_step*")] == ["global_step2"]


def test_retention_counts_complete_checkpoints_only(tmp_path: Path) -> None:
    model, _ = trained()
    CheckpointStore(tmp_path).save(step=9, model=model, optimizer=None, state={})
    CheckpointStore(tmp_path).save(step=12, model=model, optimizer=None, state={})
    (tmp_path / "global_step12" / "COMPLETE").unlink()
    (tmp_path / ".global_step11.tmp").mkdir()
    store = CheckpointStore(tmp_path, keep_last=1)
    store.save(step=10, model=model, optimizer=None, state={})
    assert store.newest() == tmp_path / "global_step10"
    assert not (tmp_path / "global_step9").exists() and not (tmp_path / ".global_step11.tmp").exists()
