from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pytest
import torch
from safetensors.torch import load_file

from megatron.checkpoint.blocks import DamagedError
from megatron.checkpoint.host_copies import HostCopies
from megatron.checkpoint.restore import load
from megatron.checkpoint.seal import verify
from megatron.checkpoint.storage import LocalStorage, Storage
from megatron.checkpoint.store import (
    CheckpointError,
    CheckpointStore,
    SaveError,
    find_checkpoint,
    read_state,
)
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


def store_in(folder: Path, **options: Any) -> CheckpointStore:
    return CheckpointStore(LocalStorage(folder), **options)


def save(store: CheckpointStore, step: int, model: Llama, optimizer: Any = None, **options: Any) -> Storage:
    store.save(step=step, model=model, optimizer=optimizer, **{"state": {}, **options})
    saved = store.wait()
    assert saved is not None
    return saved.checkpoint


@pytest.mark.parametrize("in_background", [False, True])
def test_model_and_optimizer_come_back_bit_for_bit(tmp_path: Path, in_background: bool) -> None:
    model, optimizer = trained()
    path = save(store_in(tmp_path, in_background=in_background), 2, model, optimizer, state={"samples": 2})
    assert str(path) == str(tmp_path / "global_step2") == str(find_checkpoint(LocalStorage(tmp_path)))
    assert (tmp_path / "latest").read_text() == "global_step2\n"
    assert read_state(path) == {"samples": 2, "step": 2}
    other, its_optimizer = trained(seed=5, steps=1)
    load(path, model=other, optimizer=its_optimizer)
    assert [train(model, optimizer) for _ in range(3)] == [train(other, its_optimizer) for _ in range(3)]


def test_weights_alone(tmp_path: Path) -> None:
    model, optimizer = trained()
    path = save(store_in(tmp_path), 2, model, optimizer)
    other, _ = trained(seed=5)
    load(path, model=other, optimizer=None)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_files_are_safetensors_with_the_models_own_names(tmp_path: Path) -> None:
    model, optimizer = trained()
    save(store_in(tmp_path), 2, model, optimizer)
    weights = load_file(tmp_path / "global_step2" / "model-00001-of-00001.safetensors")
    parameters = dict(model.named_parameters())
    assert {name: tensor.tolist() for name, tensor in weights.items()} == {
        name: tensor.tolist() for name, tensor in parameters.items()
    }
    moments = load_file(tmp_path / "global_step2" / "optimizer-00001-of-00001.safetensors")
    assert set(moments) == {f"{name}.{what}" for name in parameters for what in ("exp_avg", "exp_avg_sq", "step")}


@pytest.mark.parametrize("in_background", [False, True])
def test_training_on_does_not_reach_what_is_being_written(tmp_path: Path, in_background: bool) -> None:
    model, optimizer = trained()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    slow = SlowStorage(tmp_path)
    store = CheckpointStore(slow, in_background=in_background)
    store.save(step=2, model=model, optimizer=optimizer, state={})
    assert (store.saved() is None) == in_background
    train(model, optimizer)
    slow.may_go_on.set()
    saved = store.wait()
    assert saved is not None
    assert saved.seconds >= saved.waited_seconds > 0
    other, _ = trained(seed=5)
    load(saved.checkpoint, model=other, optimizer=None)
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())


class SlowStorage(LocalStorage):
    """Writes nothing in another thread before it may."""

    def __init__(self, path: Path, may_go_on: threading.Event | None = None) -> None:
        super().__init__(path)
        self.may_go_on = may_go_on or threading.Event()

    def __truediv__(self, name: str) -> SlowStorage:
        return SlowStorage(self.path / name, self.may_go_on)

    def put(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        if threading.current_thread() is not threading.main_thread():
            assert self.may_go_on.wait(60)
        super().put(name, write)


def test_newest_complete_wins_and_others_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, _ = trained()
    store = store_in(tmp_path)
    for step in (2, 9, 10, 11, 12):
        save(store, step, model)
    (tmp_path / "global_step10" / "COMPLETE").unlink()
    with (tmp_path / "global_step11" / "model-00001-of-00001.safetensors").open("ab") as file:
        file.truncate(100)
    (tmp_path / "global_step12" / "state.json").write_text("{}")
    (tmp_path / "global_stepX").mkdir()
    (tmp_path / ".global_step13.tmp").mkdir()
    assert store.newest() == LocalStorage(tmp_path / "global_step9")
    for reason in (
        "global_step10 is passed over: it has no COMPLETE file",
        "global_step11 is passed over: model-00001-of-00001.safetensors is 100 bytes long, not ",
        "global_step12 is passed over: state.json is damaged",
    ):
        assert reason in caplog.text
    store.pass_over(LocalStorage(tmp_path / "global_step9"), "it is damaged")
    assert store.newest() == LocalStorage(tmp_path / "global_step2")


def test_a_run_does_not_begin_anew_beside_damaged_checkpoints(tmp_path: Path) -> None:
    model, _ = trained()
    store = store_in(tmp_path)
    assert store.newest() is None
    save(store, 2, model)
    (tmp_path / "global_step2" / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not one that is whole"):
        store.newest()
    # What was never complete is nothing to lose.
    (tmp_path / "global_step2" / "COMPLETE").unlink()
    assert store_in(tmp_path).newest() is None


def test_retention_spares_milestones(tmp_path: Path) -> None:
    model, _ = trained()
    store = store_in(tmp_path, keep_last=2, is_kept=lambda step: step == 3)
    for step in range(1, 7):
        save(store, step, model)
    assert sorted(path.name for path in tmp_path.glob("global_step*")) == [
        "global_step3", "global_step5", "global_step6",
    ]  # fmt: skip


@pytest.mark.parametrize("in_background", [False, True])
def test_an_error_while_saving_leaves_the_old_checkpoint(tmp_path: Path, in_background: bool) -> None:
    model, optimizer = trained()
    store = store_in(tmp_path, in_background=in_background)
    save(store, 1, model, optimizer)
    with pytest.raises(SaveError, match="step 2 was not written: FileNotFoundError"):
        save(store, 2, model, optimizer, copies={"x": tmp_path / "gone"})
    assert store.newest() == LocalStorage(tmp_path / "global_step1")
    assert (tmp_path / "latest").read_text() == "global_step1\n"
    # And the next attempt is not in its way.
    save(store, 2, model, optimizer)
    assert store.newest() == LocalStorage(tmp_path / "global_step2")


class FullDisk(LocalStorage):
    """Takes so many bytes, in all files together."""

    left: ClassVar[int]

    def __truediv__(self, name: str) -> FullDisk:
        return FullDisk(self.path / name)

    def put(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        def limited(file: BinaryIO) -> None:
            write(file)
            FullDisk.left -= file.tell()
            if FullDisk.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")

        super().put(name, limited)


def test_a_disk_that_is_full_at_any_file_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    model, optimizer = trained()
    save(store_in(tmp_path), 1, model, optimizer)
    whole = sum(path.stat().st_size for path in (tmp_path / "global_step1").rglob("*"))
    store = CheckpointStore(FullDisk(tmp_path))
    for size in range(0, whole, whole // 10):
        FullDisk.left = size
        with pytest.raises(SaveError, match="No space left on device"):
            save(store, 2, model, optimizer, state={"longer": "x" * 2000})
        assert sorted(path.name for path in tmp_path.iterdir()) == ["global_step1", "latest"]
    FullDisk.left = 2 * whole
    save(store, 2, model, optimizer)
    assert store.newest() == FullDisk(tmp_path / "global_step2")


def test_a_flipped_bit_in_any_file_is_found(tmp_path: Path) -> None:
    model, optimizer = trained()
    path = save(store_in(tmp_path), 1, model, optimizer, files={"config.yml": "lr: 1"}, copies=tokenizer(tmp_path))
    folder = tmp_path / "global_step1"
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) == 7
    for file in files:
        data = file.read_bytes()
        for place in {0, len(data) // 3, len(data) - 1}:
            flipped = bytearray(data)
            flipped[place] ^= 1 << (place % 8)
            file.write_bytes(flipped)
            with pytest.raises(DamagedError, match="damaged"):
                verify(path)
            with pytest.raises(DamagedError):
                load(path, model=model, optimizer=optimizer)
        file.write_bytes(data)
    verify(path)
    load(path, model=model, optimizer=optimizer)


def tokenizer(folder: Path) -> dict[str, Path]:
    path = folder / "tokenizer.model"
    path.write_bytes(bytes(range(256)))
    return {"tokenizer/tokenizer.model": path}


def test_no_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no complete global_step<N>"):
        find_checkpoint(LocalStorage(tmp_path))


def test_another_shape_is_a_clear_error(tmp_path: Path) -> None:
    model, _ = trained()
    path = save(store_in(tmp_path), 1, model)
    with pytest.raises(CheckpointError, match="cannot be loaded into this model"):
        load(path, model=Llama(Architecture(64, 16, 48, 2, 2, 1, 8, 64)), optimizer=None)


def test_the_configurations_optimizer_settings_win_over_the_stored_ones(tmp_path: Path) -> None:
    model, optimizer = trained()
    path = save(store_in(tmp_path), 2, model, optimizer)
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
    (tmp_path / ".global_step1.deleted.tmp" / "tokenizer").mkdir(parents=True)
    (tmp_path / ".global_step2.tmp").mkdir()
    save(store_in(tmp_path), 2, model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["global_step2", "latest"]


def test_another_programs_checkpoints_stay(tmp_path: Path) -> None:
    """GPT-NeoX gives its folders the same names."""
    model, _ = trained()
    theirs = tmp_path / "global_step1" / "mp_rank_00_model_states.pt"
    theirs.parent.mkdir()
    theirs.write_bytes(b"weights")
    store = store_in(tmp_path, keep_last=1)
    with pytest.raises(SaveError, match="global_step1 holds what this program has not written"):
        save(store, 1, model)
    for step in (2, 3):
        save(store, step, model)
    assert theirs.read_bytes() == b"weights"
    assert sorted(path.name for path in tmp_path.glob("global_step*")) == ["global_step1", "global_step3"]


class InPlace(LocalStorage):
    """Has no other name for a checkpoint under way, like an object store; some things cannot be deleted from it."""

    stuck: ClassVar[str] = "global_step1"

    def temporary_name(self, final: str) -> str:
        return final

    def publish(self, temporary: str, final: str) -> None:
        assert temporary == final

    def __truediv__(self, name: str) -> InPlace:
        return InPlace(self.path / name)

    def remove(self, name: str) -> None:
        if name == self.stuck and (self.path / name).exists():
            raise PermissionError(f"{name} may not be deleted")
        super().remove(name)


def test_an_old_checkpoint_that_cannot_be_deleted_harms_no_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, _ = trained()
    store = CheckpointStore(InPlace(tmp_path), keep_last=1)
    for step in (1, 2, 3):
        save(store, step, model)
    assert store.newest() == InPlace(tmp_path / "global_step3")
    assert not (tmp_path / "global_step2").exists()
    assert "old checkpoints are not in order: OSError: PermissionError: global_step1 may not be deleted" in caplog.text


def test_damaged_checkpoints_displace_no_good_ones(tmp_path: Path) -> None:
    model, _ = trained()
    first = store_in(tmp_path)
    for step in (10, 15):
        save(first, step, model)
    (tmp_path / "global_step15" / "state.json").write_text("{}")
    store = store_in(tmp_path, keep_last=2)
    assert store.newest() == LocalStorage(tmp_path / "global_step10")
    for step in (14, 18):
        save(store, step, model)
    assert [n for n in (10, 14, 15, 18) if (tmp_path / f"global_step{n}").exists()] == [14, 15, 18]
    # Written anew it counts again.
    save(store, 15, model)
    assert store_in(tmp_path).newest() == LocalStorage(tmp_path / "global_step18")


class Offline(LocalStorage):
    def __truediv__(self, name: str) -> Offline:
        return Offline(self.path / name)

    def read_into(self, name: str, start: int, buffer: memoryview) -> None:
        raise OSError(errno.EIO, "Input/output error")


def test_what_cannot_be_read_now_is_not_taken_for_damaged(tmp_path: Path) -> None:
    model, _ = trained()
    save(store_in(tmp_path), 1, model)
    with pytest.raises(OSError, match="Input/output error"):
        CheckpointStore(Offline(tmp_path)).newest()
    with pytest.raises(OSError, match="cannot be read now"):
        load(Offline(tmp_path / "global_step1"), model=model, optimizer=None)


def test_weights_alone_need_finetune(tmp_path: Path) -> None:
    model, optimizer = trained()
    path = save(store_in(tmp_path), 1, model)
    with pytest.raises(CheckpointError, match=r"holds weights only: set `finetune: true`"):
        load(path, model=model, optimizer=optimizer)


def test_an_update_waits_for_the_copy_and_nothing_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward may run while weights are copied; what is saved is what they were at the save."""
    model, optimizer = trained()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    may_copy, copying = threading.Event(), threading.Event()
    real = HostCopies.of

    def slow(self: HostCopies, tensors: Any, **options: Any) -> Any:
        copying.set()
        assert may_copy.wait(30)
        return real(self, tensors, **options)

    monkeypatch.setattr(HostCopies, "of", slow)
    store = store_in(tmp_path, in_background=True)
    store.save(step=2, model=model, optimizer=optimizer, state={})
    assert copying.wait(30)
    tokens = torch.arange(33)[None]
    optimizer.zero_grad()
    model(tokens[:, :-1], targets=tokens[:, 1:]).backward()  # does not wait
    stepped = threading.Event()
    stepping = threading.Thread(target=lambda: (optimizer.step(), stepped.set()))
    stepping.start()
    assert not stepped.wait(0.3)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    may_copy.set()
    stepping.join(30)
    saved = store.wait()
    assert saved is not None and 0.3 <= saved.waited_seconds < 30
    assert any(not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    load(saved.checkpoint, model=model, optimizer=None)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_without_an_optimizer_the_save_itself_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = trained()
    real = HostCopies.of

    def slow(self: HostCopies, tensors: Any, **options: Any) -> Any:
        time.sleep(0.3)
        return real(self, tensors, **options)

    monkeypatch.setattr(HostCopies, "of", slow)
    store = store_in(tmp_path, in_background=True)
    before = model.lm_head.weight.detach().clone() if model.lm_head is not None else None
    store.save(step=2, model=model, optimizer=None, state={})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    saved = store.wait()
    assert saved is not None and saved.waited_seconds >= 0.3 and before is not None and model.lm_head is not None
    load(saved.checkpoint, model=model, optimizer=None)
    assert torch.equal(model.lm_head.weight, before)
