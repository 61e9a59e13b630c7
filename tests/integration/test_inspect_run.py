"""What ``tools/inspect_data.py`` says of a step is what the model was given in that step."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from megatron.config.load import load
from megatron.data.inspection.inspect import InspectError, Inspector
from megatron.data.inspection.merge import merge
from megatron.monitor.run_steps import RecordedSteps
from megatron.parallel.process import World
from megatron.train.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
ALONE = World(rank=0, size=1, device=torch.device("cpu"))
MakeRun = Callable[..., Any]


class Numbers:
    """Shows ids as they are."""

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))


def train_and_watch(run: Any, *overrides: str) -> dict[int, np.ndarray]:
    """Train, and return what the model was given in each step: step -> ids ``[samples, seq_length]``."""
    trainer = Trainer(load([run.config], list(overrides)), ALONE)
    original, given = trainer.train_step, {}

    def watched(micro_batches: Iterable[Any], *, step: int, loss_limit: float) -> Any:
        kept = list(micro_batches)
        given[step + 1] = torch.cat([micro_batch.inputs for micro_batch in kept]).numpy()
        return original(iter(kept), step=step, loss_limit=loss_limit)

    trainer.train_step = watched  # type: ignore[assignment]
    trainer.run()
    return given


def inspected(save: Path, step: int) -> np.ndarray:
    steps = RecordedSteps(save)
    inspector = Inspector.of(
        steps.config, batch_size=steps.batch_size, recorded=steps.planned, with_text=False
    )
    inspector._tokenizer = Numbers()  # type: ignore[assignment]
    rows = []
    for sample in steps.step(step).samples:
        ids = [int(number) for piece in inspector.pieces(sample) for number in piece.text.split()]
        rows.append(ids[:-1])  # the last one is only a target
    return np.array(rows)


@pytest.mark.parametrize("merged", [False, True])
def test_every_step_held_what_is_shown(tiny_run: MakeRun, merged: bool, tmp_path: Path) -> None:
    settings = {}
    run = tiny_run()
    if merged:
        merge([run.folder], tmp_path / "merged", show_progress=False)
        settings = {"data_manifest": str(tmp_path / "merged" / "manifest.json")}
        run = tiny_run(**settings)
    given = train_and_watch(run, "exit_interval=5")
    # The batch changes in the middle, and small corpora come round several times.
    given |= train_and_watch(run, "train_batch_size=4", "gradient_accumulation_steps=2")
    assert list(given) == list(range(1, 13))
    for step, ids in given.items():
        assert np.array_equal(inspected(run.save, step), ids), step


def test_a_changed_mixture_is_refused(tiny_run: MakeRun) -> None:
    run = tiny_run()
    train_and_watch(run, "exit_interval=3")
    steps = RecordedSteps(run.save)
    mixture = "mixture={unit: tokens, tiers: {all: {above: 100, rate: 1.0}}, alpha: 0.5}"
    other = load([run.config], [mixture])
    with pytest.raises(InspectError, match="has share"):
        Inspector.of(other, batch_size=8, recorded=steps.planned, with_text=False)


def test_the_tool(tiny_run: MakeRun) -> None:
    run = tiny_run()
    train_and_watch(run, "exit_interval=3")

    def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "tools" / "inspect_data.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=run.folder)

    shown = tool("step", "2", "--run", str(run.save), "--documents", "--json")
    assert shown.returncode == 0, shown.stderr
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    assert sorted({row["sample"] for row in rows}) == list(range(8, 16))
    planned = tool("step", "2", "--documents", "--json", "tiny.yml", "seed=1234")
    assert planned.stdout == shown.stdout
    first = tool("step", "2", "--run", str(run.save), "--documents", "--samples", "1").stdout.splitlines()[0]
    assert first.startswith("step 2: samples 8 to 15 (as recorded in metrics.jsonl); steps count from 1")
    assert "error: step 0" in tool("step", "0", "tiny.yml", "--documents").stderr
    assert "unrecognized arguments: --nothing" in tool("step", "1", "tiny.yml", "--nothing").stderr
    assert "tokens" in tool("doc", "swh_Latn", "0", ".").stdout
    assert tool("stats", ".").stdout.startswith("corpus")
    assert tool("merge", ".", "--output", "merged").stdout.startswith("train: 3 corpora")
    assert tool("split", "merged", "--output", "apart", "--corpora", "swh*").stdout.startswith("train: 1 corpora")
    assert tool("verify", ".", "merged", "apart").returncode == 0
    (run.folder / "swh_Latn_train.bin").write_bytes(b"")
    damaged = tool("verify", ".")
    assert damaged.returncode == 1
    assert "problem: " in damaged.stdout
    assert "error: 1 problem in 1 file" in damaged.stderr
