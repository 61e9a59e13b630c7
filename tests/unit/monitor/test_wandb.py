from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from megatron.config.schema import LoggingConfig
from megatron.monitor.record import MetricsWriter
from megatron.monitor.wandb import WandbWriter

INSTALLED = importlib.util.find_spec("wandb") is not None


@pytest.mark.skipif(INSTALLED, reason="wandb is installed")
def test_without_the_package_it_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pip install wandb==\d"):
        WandbWriter(LoggingConfig(use_wandb=True), tmp_path, settings={})


@pytest.mark.skipif(not INSTALLED, reason="needs wandb (pip install wandb==0.31.0), which is not here")
def test_a_run_that_goes_on_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    section = LoggingConfig(use_wandb=True, wandb_project="emma")
    for first in (1, 3):
        writer = WandbWriter(section, tmp_path, settings={"train": {"seed": 1}})
        with MetricsWriter(tmp_path / "metrics.jsonl", listeners=[writer]) as metrics:
            for step in (first, first + 1):
                metrics.write("train", step, loss=2.0 / step, learning_rate=1e-3, sources={"code": 1.0})
            metrics.write("incident", first + 1, kind="hang", processes=2, stacks=["a"])
            metrics.write("end", first + 1, reason="exit_interval")
            assert writer._run.summary["train/loss"] == 2.0 / (first + 1)
            assert writer._run.summary["train_source/code"] == 1.0
    identity = (tmp_path / "wandb-id").read_text().strip()
    folders = list((tmp_path / "wandb").glob(f"offline-run-*-{identity}"))
    assert len(folders) == 2, "two parts of one run"
