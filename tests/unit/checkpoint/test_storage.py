from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import s3fs
import torch

from megatron.checkpoint import shards
from megatron.checkpoint.blocks import DamagedError
from megatron.checkpoint.convert.huggingface import HuggingFaceSource
from megatron.checkpoint.convert.run import Conversion, convert
from megatron.checkpoint.hf import save_model
from megatron.checkpoint.restore import load
from megatron.checkpoint.seal import verify
from megatron.checkpoint.storage import LocalStorage, ObjectStorage, Storage, fetched, open_storage
from megatron.checkpoint.store import CheckpointStore, SaveError, find_checkpoint
from megatron.model.llama import Llama
from tests.foreign_checkpoints import BASE, model_of, power_cut
from tests.s3 import DroppingProxy, credentials, s3_server
from tests.unit.checkpoint.test_store import SHAPE, save, trained


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    with s3_server() as address:
        yield address


@pytest.fixture
def proxy(server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[DroppingProxy]:
    proxy = DroppingProxy(server, every=0)
    credentials(monkeypatch, proxy.address)
    yield proxy
    proxy.close()


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return LocalStorage(tmp_path / "run")
    request.getfixturevalue("proxy")
    return open_storage(f"s3://bucket/{tmp_path.name}/run")


def test_files_come_and_go(storage: Storage) -> None:
    assert storage.names() == [] and storage.size("a") is None
    storage.put_bytes("a", b"0123456789")
    storage.put_bytes("sub/b", b"")
    (storage / "sub").put_bytes("c", b"x")
    assert storage.names() == ["a", "sub"] and (storage / "sub").names() == ["b", "c"]
    assert (storage.size("a"), storage.size("sub/b"), storage.read("sub/c")) == (10, 0, b"x")
    buffer = bytearray(4)
    storage.read_into("a", 3, memoryview(buffer))
    assert buffer == b"3456" and storage.read("sub/b") == b""
    storage.put_bytes("a", b"new")
    assert storage.read("a") == b"new"
    storage.remove("sub")
    storage.remove("nothing")
    assert storage.names() == ["a"]
    assert storage.name == "run" and (storage / "sub").name == "sub"


def test_what_is_not_there_is_an_error(storage: Storage) -> None:
    storage.put_bytes("a", b"0123456789")
    with pytest.raises(OSError, match="too short"):
        storage.read_into("a", 8, memoryview(bytearray(4)))
    with pytest.raises(FileNotFoundError, match="b is missing"):
        storage.read("b")


def test_an_interrupted_file_is_not_there(storage: Storage) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError("the disk is full")

    if isinstance(storage, ObjectStorage):
        storage = ObjectStorage(storage.url, attempts=2, pause_seconds=0)
    with pytest.raises(OSError, match="the disk is full"):
        storage.put("a", write)
    assert storage.names() == []


def test_small_files_are_fetched(storage: Storage) -> None:
    storage.put_bytes("sub/b", b"x")
    with fetched(storage, ["sub/b"]) as folder:
        assert (folder / "sub" / "b").read_bytes() == b"x"
    assert folder.exists() == isinstance(storage, LocalStorage)


def test_a_checkpoint_in_an_object_store(proxy: DroppingProxy, tmp_path: Path) -> None:
    model, optimizer = trained()
    run = open_storage(f"s3://bucket/{tmp_path.name}")
    store = CheckpointStore(run, keep_last=2)
    for step in (1, 2, 3):
        path = save(store, step, model, optimizer, files={"config.yml": "lr: 1"})
    assert run.names() == ["global_step2", "global_step3", "latest"]
    assert store.newest() == path == find_checkpoint(run)
    verify(path)
    other, its_optimizer = trained(seed=5, steps=1)
    load(path, model=other, optimizer=its_optimizer)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    # A save that breaks off has no marker, and the next one removes it.
    with pytest.raises(SaveError, match="FileNotFoundError"):
        save(store, 4, model, optimizer, copies={"x": tmp_path / "gone"})
    assert store.newest() == path
    data = bytearray(path.read("model-00001-of-00001.safetensors"))
    data[-1] ^= 1
    path.put_bytes("model-00001-of-00001.safetensors", bytes(data))
    with pytest.raises(DamagedError, match="are not what was written"):
        load(path, model=other, optimizer=its_optimizer)


def test_a_checkpoint_by_way_of_a_bad_connection(
    proxy: DroppingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.every, proxy.after_bytes = 2, 2_000
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # so that what fails reaches us
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    model, optimizer = trained()
    run = ObjectStorage(f"s3://bucket/{tmp_path.name}", pause_seconds=0.01)
    store = CheckpointStore(run, keep_last=1)
    for step in range(1, 6):
        path = save(store, step, model, optimizer)
        other = Llama(SHAPE)
        load(path, model=other, optimizer=None)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert proxy.dropped > 0 and "failed (attempt 1 of " in caplog.text
    assert run.names() == ["global_step5", "latest"]


def test_a_conversion_into_an_object_store_and_out_of_it(
    proxy: DroppingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after two files, gone on with by the same command, over a connection that is often cut."""
    monkeypatch.setattr(shards, "FILE_BYTES", 8000)
    weights = model_of(BASE)
    save_model(weights, BASE, tmp_path / "hf", dtype=torch.float32, bos_id=1, eos_id=2)
    place = f"s3://bucket/{tmp_path.name}/model"
    there = Conversion("hf", str(tmp_path / "hf"), "native", place)
    with power_cut(monkeypatch, after=2):
        list(convert(there))
    with pytest.raises(ValueError, match=r"no COMPLETE file|no complete global_step"):
        find_checkpoint(open_storage(place))
    proxy.every = 5
    list(convert(there))
    parent = open_storage(f"s3://bucket/{tmp_path.name}")
    assert parent.names() == ["model"]
    with pytest.raises(ValueError, match="model exists"):
        list(convert(there))
    list(convert(Conversion("native", place, "hf", str(tmp_path / "back"))))
    found = HuggingFaceSource(tmp_path / "back")
    assert all(torch.equal(found.tensor(name), weight) for name, weight in weights.items())


def test_a_missing_package_is_named() -> None:
    with pytest.raises(ValueError, match="pip install fsspec gcsfs"):
        open_storage("gs://bucket/run")
    with pytest.raises(ValueError, match="no place that can be read"):
        open_storage("nowhere://bucket/run")


def test_paths_are_local(tmp_path: Path) -> None:
    local: Any = open_storage(tmp_path)
    assert isinstance(local, LocalStorage) and local == open_storage(str(tmp_path)) == open_storage(local)
