"""`generate.py` in one process, in two that divide the texts, and in two that divide the model: the same texts."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import run_script

from tests.harness_data import all_text
from tests.language_models import sentencepiece_tokenizer, tiny_hf_folder

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate")
    tiny_hf_folder(folder, sentencepiece_tokenizer(folder, all_text()), positions=128)
    (folder / "prompts.txt").write_text("January\nHabari ya asubuhi\n日本\n")
    return folder


def run(place: Path, *options: str, processes: int = 1, status: int = 0, launched: bool = False) -> str:
    arguments = ["--model", str(place / "hf"), *options]
    if launched:
        done = subprocess.run(
            [sys.executable, *TORCHRUN, f"--nproc-per-node={processes}", "generate.py", *arguments],
            cwd=ROOT, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        found, told = done.returncode, done.stdout + done.stderr
    else:
        found, told = run_script("generate", arguments, processes)
    assert (found == 0) == (status == 0), told
    return told


def test_the_texts_are_those_of_one_process(place: Path) -> None:
    def written(name: str, *options: str, processes: int = 1, launched: bool = False) -> list[dict[str, object]]:
        told = run(
            place, "--prompts-file", str(place / "prompts.txt"), "--num-samples", "2", "--maximum-tokens", "12",
            "--temperature", "0.9", "--top-p", "0.95", "--output", str(place / name), *options,
            processes=processes, launched=launched,
        )  # fmt: skip
        records = [json.loads(line) for line in (place / name).read_text(encoding="utf-8").splitlines()]
        assert told.count("Habari ya asubuhi") == 2, "only the first process shows the texts"
        return records

    alone = written("alone.jsonl")
    assert len(alone) == 6 and any(record["output"] for record in alone)
    assert written("replicas.jsonl", processes=2) == alone
    assert written("tensor.jsonl", "--tensor", "2", processes=2, launched=True) == alone


def test_mistakes_end_all_processes_and_are_told_once(place: Path) -> None:
    told = run(place, "--prompts-file", str(place / "missing.txt"), processes=2, status=2, launched=True)
    assert told.count("missing.txt cannot be read") == 1
    assert "model_parallel_size = 2 does not divide the 1 processes" in run(place, "--tensor", "2", status=2)
    told = run(place, "--backend", "vllm", processes=2, status=2)
    assert "there are 2 processes, but vLLM starts its own: start one, with --tensor 2" in told


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_the_back_end_says_how_it_is_installed(place: Path) -> None:
    assert "pip install vllm==" in run(place, "--prompt", "January", "--backend", "vllm", status=2)
