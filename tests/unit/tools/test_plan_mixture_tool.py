from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from megatron.monitor.record import MetricsWriter

ROOT = Path(__file__).resolve().parents[3]
TABLE = (
    "name\tsource\twords\ttokens\nswh_Latn\tmonolingual\t500\t\neng_Latn\tmonolingual\t5000\t8000\npy\tcode\t\t4000\n"
)
MIX = """
mixture:
  tiers: {high: {above: 1000, rate: 1}, low: {above: 10, rate: 4, max_epochs: 0.5}}
  sources: {monolingual: 3, code: 1}
"""


def plan(*arguments: object, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "tools/plan_mixture.py", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == expect, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture
def mix(tmp_path: Path) -> Path:
    (tmp_path / "mix.yml").write_text(MIX)
    (tmp_path / "counts.tsv").write_text(TABLE)
    return tmp_path


def test_a_mixture_is_planned_from_counts_alone(mix: Path) -> None:
    size = ("seq_length=10", "train_batch_size=4", "train_iters=100")
    text = plan(
        mix / "mix.yml", *size, "--counts", mix / "counts.tsv", "--tokens-per-word", "2", "--by", "language",
        "--picture", mix / "plan.png", "--tsv", mix / "plan.tsv",
    )  # fmt: skip
    assert "monolingual, low" in text and "0.50*" in text and "~1,000" in text
    assert "caps on epochs hold 1 corpus back" in text
    assert "in every prefix of the run, each count is within" in text
    assert (mix / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert len((mix / "plan.tsv").read_text().splitlines()) == 4


def test_what_counts_need_is_told_at_once(mix: Path) -> None:
    text = plan(mix / "mix.yml", "--counts", mix / "counts.tsv", expect=2)
    assert "seq_length: is missing" in text and "train_iters: is missing" in text
    (mix / "counts.tsv").write_text("name\tsource\ttokens\nx\t\t1\ny\tcode\tz\n")
    size = ("seq_length=10", "train_batch_size=4", "train_iters=100")
    text = plan(mix / "mix.yml", *size, "--counts", mix / "counts.tsv", expect=1)
    assert "counts.tsv:2: x has no source" in text and "counts.tsv:3: tokens = 'z'" in text


def test_a_run_is_planned_from_its_manifest(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run(mixture={"tiers": {"all": {"above": 0, "rate": 1}}})
    text = plan(run.config, "--corpora", "1")
    assert "... and 2 corpora with fewer epochs" in text
    assert "~" not in text


def test_a_used_mixture_is_shown_in_the_same_tables(tmp_path: Path) -> None:
    row = {"corpus": "eng_Latn", "code": "eng_Latn", "tier": "high", "source": "monolingual", "tokens": 1000,
           "share": 1.0, "samples": 80, "sampled_tokens": 800, "epochs": 0.8}  # fmt: skip
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        writer.write("start", 0, tokens_per_step=80, resumed_from=None)
        writer.write("mixture", 10, kind="used", rows=[row])
    text = plan("--run", tmp_path, "--picture", tmp_path / "used.svg")
    assert "monolingual, high" in text and "0.80" in text and "prefix" not in text
    assert "in 10 steps" in (tmp_path / "used.svg").read_text()


def test_files_or_a_run() -> None:
    assert "give YAML files, or --run FOLDER" in plan(expect=2)
    assert "does not exist" in plan("--run", "nowhere", expect=1)
