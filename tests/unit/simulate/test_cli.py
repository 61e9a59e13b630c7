"""``deepy.py --simulate`` and ``--suggest`` as a user starts them, on a machine without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from megatron.config.derive import derive_batch
from megatron.config.layout import Layout, pipeline_problems, shape_problems
from megatron.config.load import load
from megatron.simulate.estimate import peak_bytes
from megatron.simulate.hardware import gpu_named
from megatron.simulate.run import Run

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "configs" / "models" / "llama2-7b.yml"
WITHOUT_TORCH = "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"  # noqa: E501
REST = """\
tokenizer_type: SPMTokenizer
vocab_file: tokenizer.model
seq_length: 4096
train_batch_size: 1024
lr: 1.0e-4
train_iters: 1000
precision: bfloat16
"""


@pytest.fixture
def rest(tmp_path: Path) -> Path:
    path = tmp_path / "rest.yml"
    path.write_text(REST, encoding="utf-8")
    return path


def deepy(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_TORCH, "deepy.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_simulate_prints_what_a_run_takes(rest: Path) -> None:
    done = deepy("--simulate", MODEL, rest, "--processes", 256, "zero_optimization={stage: 3}",
                 "train_micro_batch_size_per_gpu=1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "6,738,415,616 parameters, 256 processes: ZeRO stage 3 among 256" in done.stdout
    assert "26,321,936" in done.stdout  # parameters of each process
    for part in ("memory of each process", "messages of each process", "work of each process", "expected speed"):
        assert part in done.stdout
    assert "fits on A100-40, A100-64, A100-80, H100, H200, MI250X" in done.stdout


def test_each_place_of_a_pipeline_is_a_row(rest: Path) -> None:
    done = deepy("--simulate", MODEL, rest, "--processes", 16, "pipe_parallel_size=4", "model_parallel_size=4",
                 "train_micro_batch_size_per_gpu=1", "--gpu", "h200")  # fmt: skip
    assert done.returncode == 0, done.stderr
    memory = done.stdout.split("memory of each process")[1].split("\n\n")[0]
    assert [line.split()[:2] for line in memory.splitlines()[2:]] == [["stage", str(n)] for n in range(4)]
    assert "pipeline bubble: 0.3% of a step (1f1b)" in done.stdout


def test_what_does_not_fit_is_an_error_that_says_what_would_help(rest: Path) -> None:
    done = deepy("--simulate", MODEL, rest, "--processes", 8, "--gpu", "A100-64", "train_micro_batch_size_per_gpu=1")
    assert done.returncode == 1
    assert "does not fit on A100-64" in done.stdout
    assert "bytes): a process needs" in done.stdout
    assert "  - zero_optimization: {stage: 3}:" in done.stdout


BUDGET = ("checkpoint_activations=true", "checkpoint_mode=budget", "train_micro_batch_size_per_gpu=1")


def test_a_budget_shows_what_it_chooses(rest: Path) -> None:
    arguments = (MODEL, rest, *BUDGET, "activation_memory_gib=10", "zero_optimization={stage: 3}")
    done = deepy("--simulate", *arguments, "--processes", 8)
    assert "bfloat16, recomputation 7 blocks full, 25 selective" in done.stdout
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("any"))
    assert float(row[7]) * 1e9 <= 10 * 2**30  # activations
    checked = deepy("--check", *arguments, "num_gpus=8").stdout
    assert "recomputation    7 blocks full, 25 selective (9.90 of 10 GiB)" in checked


def test_a_budget_that_is_too_small_is_an_error_everywhere(rest: Path) -> None:
    arguments = (MODEL, rest, *BUDGET, "activation_memory_gib=0.5", "num_gpus=8")
    problem = "activation_memory_gib = 0.5 is too small: activations take 1.00 GiB even with checkpoint_mode: full"
    for done in (
        deepy("--simulate", *arguments), deepy("--check", *arguments), deepy("train.py", "--dry-run", *arguments)
    ):  # fmt: skip
        assert done.returncode == 2
        assert problem in done.stdout + done.stderr


def test_what_cannot_be_is_an_error(rest: Path) -> None:
    done = deepy("--simulate", MODEL, rest, "--processes", 6, "model_parallel_size=4")
    assert (done.returncode, done.stdout) == (2, "")
    assert "model_parallel_size = 4 does not divide the 6 processes" in done.stderr
    assert "--gpu V100: this type is not known" in deepy("--simulate", MODEL, rest, "--gpu", "V100").stderr
    assert "--suggest needs a type: add --gpu" in deepy("--suggest", MODEL, rest, "--processes", 8).stderr


def test_products_in_8_bits_change_nothing_but_which_layouts_there_are(rest: Path) -> None:
    options = (MODEL, rest, "--processes", 8, "--gpu", "A100-64", "train_micro_batch_size_per_gpu=1")
    plain, narrow = deepy("--simulate", *options), deepy("--simulate", *options, "fp8=rowwise")
    line = "fp8: rowwise is not reckoned with: memory and speed are those of products in bfloat16"
    rows, others = narrow.stdout.splitlines(), plain.stdout.splitlines()
    assert line in rows and line not in others
    helps = [row for row in others if "model_parallel_size" in row]
    assert len(helps) == 3 and set(others) - set(rows) == set(helps)


def test_without_processes_it_is_the_configured_number(rest: Path) -> None:
    done = deepy("--simulate", MODEL, rest, "num_gpus=32", "zero_optimization={stage: 3}",
                 "train_micro_batch_size_per_gpu=1")  # fmt: skip
    assert "32 processes: ZeRO stage 3 among 32" in done.stdout


@pytest.mark.parametrize(("gpu", "processes"), [("A100-64", 64), ("MI250X", 16), ("H100", 8)])
def test_a_suggestion_is_a_configuration_that_fits(rest: Path, tmp_path: Path, gpu: str, processes: int) -> None:
    done = deepy("--suggest", MODEL, rest, "--processes", processes, "--gpu", gpu)
    assert done.returncode == 0, done.stderr
    table, _, lines = done.stdout.split("\n# ")
    assert len(table.split("\n\n")[1].splitlines()) == 11
    suggested = tmp_path / "suggested.yml"
    suggested.write_text(lines.partition("\n")[2], encoding="utf-8")
    rest.write_text(REST.replace("train_batch_size: 1024\n", ""), encoding="utf-8")

    config = load([MODEL, rest, suggested], [])
    run = Run.of(config, processes=processes)
    assert run.micro_size * run.accumulation_steps * run.layout.data == 1024
    assert not [*shape_problems(config.parallel, run.shape, seq_length=4096)]
    layout = Layout.of(config.parallel, processes=processes)
    batch = derive_batch(config.batch, data_parallel_size=layout.data)
    assert not [*pipeline_problems(config.parallel, accumulation_steps=batch.accumulation_steps)]
    assert peak_bytes(run) <= gpu_named(gpu).usable_bytes
    again = deepy("--simulate", MODEL, rest, suggested, "--processes", processes, "--gpu", gpu)
    assert again.returncode == 0, again.stdout
