"""Saves that fail: told, tried again after longer and longer times, fatal only in the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import s3fs
import torch

from megatron.checkpoint.storage import LocalStorage, ObjectStorage
from megatron.checkpoint.store import CheckpointStore
from megatron.config.load import load
from megatron.config.schema import CheckpointConfig
from megatron.monitor.record import read_all_events
from megatron.parallel.process import Peers, World
from megatron.train.saving import Saver
from megatron.train.trainer import Trainer
from tests.s3 import DroppingProxy, credentials, s3_server
from tests.unit.checkpoint.test_store import trained

ALONE = World(rank=0, size=1, device=torch.device("cpu"))


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("in_background", [False, True])
def test_a_failed_save_is_tried_again_later_and_later(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, in_background: bool
) -> None:
    clock, told, recorded = Clock(), [], []
    model, optimizer = trained()
    store = CheckpointStore(
        LocalStorage(tmp_path), peers=Peers(), keep_last=None, is_kept=lambda _: False, in_background=in_background
    )
    section = CheckpointConfig(save=str(tmp_path), async_checkpoint=in_background, checkpoint_factor=100)
    saver = Saver(
        store, section, clock=clock, write=lambda kind, **_: told.append(kind),
        record=lambda step, **_: recorded.append(step),
    )  # fmt: skip

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    def save(step: int, *, retry: bool = False) -> None:
        saver.save(step, last=False, retry=retry, model=model, optimizer=optimizer, state={})
        deadline = time.monotonic() + 30
        while in_background and not (store.failed() or store.saved()):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    monkeypatch.setattr(LocalStorage, "publish", full)
    assert saver.is_due(200) and not saver.is_due(150) and not saver.wants_retry()
    save(1)
    for step, minutes in enumerate((1, 2, 4, 8, 16, 16), start=2):
        assert not saver.wants_retry()
        clock.now += minutes * 60 - 1
        assert not saver.wants_retry()
        clock.now += 2
        assert saver.wants_retry()
        save(step, retry=True)
    monkeypatch.undo()
    assert not saver.wants_retry()
    clock.now += 16 * 60 + 1
    assert saver.wants_retry()
    save(8, retry=True)
    saver.end()
    assert told == ["checkpoint_failed"] * 7, "tries in between do not end the run, though max_failed_saves is 2"
    assert recorded == [8] and not saver.wants_retry()


def test_a_store_that_is_down_for_a_while(tiny_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A real S3 server drops every connection from step 4 to step 8."""
    with s3_server() as server:
        proxy = DroppingProxy(server, every=0, after_bytes=0)
        credentials(monkeypatch, proxy.address)
        run = tiny_run(train_iters=12, checkpoint_factor=2, eval_interval=0)
        # What fails shall reach us, and soon.
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
        monkeypatch.setattr(ObjectStorage.__init__, "__kwdefaults__", {"attempts": 2, "pause_seconds": 0.01})
        s3fs.S3FileSystem.clear_instance_cache()
        trainer = Trainer(load([run.config], ["checkpoint_url=s3://bucket/down", "max_failed_saves=3"]), ALONE)
        real = trainer._one_step

        def step(batches: Any) -> str:
            proxy.every = 1 if 4 <= trainer.step < 8 else 0
            return real(batches)

        monkeypatch.setattr(trainer, "_one_step", step)
        assert trainer.run() == "finished"
        events = [event for event in read_all_events(run.save / "metrics.jsonl") if "checkpoint" in event["event"]]
        proxy.close()
    assert proxy.dropped > 0
    kinds = [event["event"] for event in events]
    assert kinds[0] == kinds[-1] == "checkpoint" and "checkpoint_failed" in kinds
    assert events[-1]["step"] == 12
