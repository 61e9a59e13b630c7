"""The README's demo configuration and small runs under ``mpirun``, which training itself knows nothing of."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from megatron.utils.status import EXIT_UNFINISHED
from tests.cluster.slurm import wait_for
from tests.records import losses

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    shutil.which("mpirun") is None, reason="there is no mpirun: apt-get install openmpi-bin"
)
# Open MPI wants to be told that root may, and that four processes may share two cores.
ENVIRONMENT = {
    **os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}  # fmt: skip


def start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def finish(*command: str) -> str:
    process = start(*command)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return errors


def test_the_same_losses_as_under_torchrun(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run()
    finish(sys.executable, "deepy.py", "train.py", str(run.config), "num_gpus=4")
    expected = losses(run.save)
    shutil.rmtree(run.save)
    # Started by hand, as on clusters that know nothing else.
    finish("mpirun", "-n", "4", "--bind-to", "none", sys.executable, "train.py", str(run.config))
    assert losses(run.save) == expected
    shutil.rmtree(run.save)
    told = finish(sys.executable, "deepy.py", "train.py", str(run.config), "launcher=mpi", "num_gpus=4")
    assert "mpirun (Open MPI): 4 processes" in told
    assert losses(run.save) == expected


def test_a_run_that_is_told_to_stop_says_that_it_is_not_finished(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run(train_iters=2000, checkpoint_factor=1000, eval_interval=0)
    process = start(sys.executable, "deepy.py", "train.py", str(run.config), "launcher=mpi", "num_gpus=2")
    metrics = run.save / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and len(losses(run.save)) > 5, seconds=120, why="the run does not advance")
    process.send_signal(signal.SIGUSR1)  # mpirun passes it on
    _, errors = process.communicate(timeout=120)
    assert process.returncode == EXIT_UNFINISHED, errors
    last = max(losses(run.save))
    assert (run.save / f"global_step{last}" / "COMPLETE").exists()


@pytest.mark.slow
def test_the_demo_under_mpirun(tmp_path: Path) -> None:
    """The configuration of `make demo`, whose data it makes where they are not there."""
    corpus, tokenizer, shards = tmp_path / "corpus", tmp_path / "tokenizer.model", tmp_path / "shards"
    finish(sys.executable, "tools/make_sample_corpus.py", "--output", str(corpus))
    finish(
        sys.executable, "tools/train_tokenizer.py", "--input", str(corpus), "--output", str(tokenizer),
        "--vocab-size", "8000",
    )  # fmt: skip
    finish(
        sys.executable, "tools/preprocess_data.py", "--input", str(corpus), "--output-prefix", str(shards),
        "--tokenizer-type", "SPMTokenizer", "--vocab-file", str(tokenizer), "--append-eod", "--prepend-bos",
        "--valid-bytes", "4096",
    )  # fmt: skip
    settings = [
        f"vocab_file={tokenizer}", f"data_manifest={shards}/manifest.json", "tensorboard_dir=null",
        "train_micro_batch_size_per_gpu=5", "train_batch_size=20", "gradient_accumulation_steps=1",
        "exit_interval=null", "train_iters=40", "eval_interval=40", "checkpoint_factor=40",
    ]  # fmt: skip
    for name, command in {
        "mpirun": ("mpirun", "-n", "4", "--bind-to", "none", sys.executable, "train.py", "configs/demo.yml"),
        "torchrun": (sys.executable, "deepy.py", "train.py", "configs/demo.yml", "num_gpus=4"),
    }.items():
        finish(*command, *settings, f"save={tmp_path / name}")
    assert losses(tmp_path / "mpirun") == losses(tmp_path / "torchrun")
