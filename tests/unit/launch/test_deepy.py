from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from megatron.config.load import load
from megatron.data.indexed import ShardWriter, dtype_for
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo, save_manifest
from megatron.tokenizer.extend.extension import Extension
from megatron.utils.files import fingerprint_bytes

ROOT = Path(__file__).resolve().parents[3]
WITHOUT_TORCH = (
    f"import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; sys.path.insert(0, {str(ROOT)!r});"
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


def deepy(*arguments, cwd):
    command = [sys.executable, "-c", WITHOUT_TORCH, str(ROOT / "deepy.py"), *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


def write_shard(folder, name):
    with ShardWriter(folder / name, dtype=dtype_for(100)) as shard:
        shard.add_document(np.arange(50))
    return ShardInfo(
        name=name, path=name, split="train", source="monolingual", language=name[:3], script="Latn", documents=1,
        words=20, tokens=50, bytes=120, unk_tokens=0, dtype="uint16", content_hash=shard.content_hash,
    )  # fmt: skip


@pytest.fixture
def run_folder(tmp_path):
    """Hold a small configuration, and a script that tells what it was started with."""
    settings = {
        "num_layers": 2,
        "hidden_size": 48,
        "num_attention_heads": 6,
        "intermediate_size": 128,
        "vocab_size": 100,
        "max_position_embeddings": 128,
        "seq_length": 64,
        "lr": 1e-3,
        "train_iters": 100,
        "train_batch_size": 8,
        "tokenizer_type": "SPMTokenizer",
        "vocab_file": "tokenizer.model",
        "data_manifest": "manifest.json",
        "num_gpus": 1,
    }
    (tmp_path / "tokenizer.model").write_bytes(b"")
    save_manifest(
        Manifest(
            TokenizerInfo("SPMTokenizer", fingerprint_bytes(b""), vocab_size=100, eod_id=2),
            tuple(write_shard(tmp_path, name) for name in ("fin_Latn", "swe_Latn")),
        ),
        tmp_path,
    )
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.yml").write_text(yaml.safe_dump(settings))
    (tmp_path / "train.py").write_text(
        "import pathlib, sys\n"
        "assert sys.argv[1] == '--config' and len(sys.argv) == 3\n"
        "path = pathlib.Path(sys.argv[2])\n"
        "pathlib.Path('seen.yml').write_text(path.read_text())\n"
        "pathlib.Path('where').write_text(str(path))\n"
        "sys.exit(5)\n"
    )
    return tmp_path


def test_help_comes_at_once_and_without_torch(tmp_path):
    start = time.perf_counter()
    result = deepy("--help", cwd=tmp_path)
    seconds = time.perf_counter() - start
    assert result.returncode == 0 and "--check" in result.stdout
    assert seconds < 2.0, "a loaded machine gets twice the second that help may take"


def test_check_of_a_good_run(run_folder):
    result = deepy("--check", "-d", "configs", "a", cwd=run_folder)
    assert result.returncode == 0, result.stdout + result.stderr
    for text in ("in all", "tokens per step", "learning rate", "no problems"):
        assert text in result.stdout
    assert not list(run_folder.glob("resolved*"))


def test_check_says_how_many_tokens_are_new_and_looks_at_the_extension_of_the_model(run_folder):
    (run_folder / "extended").mkdir()
    Extension("old", [fingerprint_bytes(b"")], 90, [(1, 2)] * 10).save(run_folder / "extended")
    settings = ("configs/a", "new_tokens_only_steps=5")
    result = deepy("--check", *settings, "vocab_extension=extended", cwd=run_folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "\nnew tokens: 10, the ids 90 to 99\n" in result.stdout
    result = deepy("--check", *settings, "new_tokens_from=9", "hf_model=extended", cwd=run_folder)
    assert result.returncode == 2
    assert "new_tokens_from = 9, but the first new id is 90, says extended/extension.json" in result.stdout


def test_check_prints_the_run_and_every_problem(run_folder):
    (run_folder / "tokenizer.model").unlink()
    result = deepy("--check", "configs/a", "num_gpus=3", "load=/absent", cwd=run_folder)
    assert result.returncode == 2
    for text in ("learning rate", "vocab_file = 'tokenizer.model'", "is not a multiple of 3 processes", "'/absent'"):
        assert text in result.stdout


@pytest.mark.parametrize(
    ("visible", "settings", "problem"),
    [
        ("", ["distributed_backend=nccl"], "distributed_backend = nccl, but no GPU is visible here"),
        ("0", ["num_gpus=2"], "num_gpus = 2 exceeds the 1 GPUs"),
        ("0", ["distributed_backend=nccl"], None),
        ("", ["distributed_backend=gloo", "num_gpus=2"], None),
    ],
)
def test_check_compares_the_run_with_the_machine(run_folder, monkeypatch, visible, settings, problem):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    result = deepy("--check", "configs/a", *settings, cwd=run_folder)
    assert result.returncode == (0 if problem is None else 2), result.stdout + result.stderr
    assert (problem or "no problems") in result.stdout


def test_check_finds_all_that_is_wrong_with_the_data(run_folder):
    (run_folder / "tokenizer.model").write_bytes(b"another")
    (run_folder / "swe_Latn.idx").unlink()
    mixture = "mixture={tiers: {low: {above: 10, rate: 1}}, sources: {code: 1}}"
    result = deepy("--check", "configs/a", mixture, cwd=run_folder)
    assert result.returncode == 2
    told = ("learning rate", "made by a SPMTokenizer", "swe_Latn.idx': cannot be read", "names 'code', but the data")
    for text in told:
        assert text in result.stdout


@pytest.mark.parametrize("first", ["--check", "train.py"])
def test_bad_configurations_end_with_code_2_and_the_list(run_folder, first):
    (run_folder / "configs" / "b.yml").write_text("num-layers: 3\nwarmup: 2\ntrain_itres: 4\n")
    result = deepy(first, "-d", "configs", "a", "b", "absent", "seed=x", cwd=run_folder)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    for text in ("5 problems", "b.yml:1: num_layers", "b.yml:2: warmup", "'train_iters'", "absent.yml", "seed = 'x'"):
        assert text in result.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["train.py"], ["configs/a"], ["train.py", "train.py", "configs/a"], ["absent.py", "configs/a"]]
)
def test_wrong_command_lines(run_folder, arguments):
    result = deepy(*arguments, cwd=run_folder)
    assert result.returncode == 2 and "usage" in result.stderr


def test_script_gets_the_resolved_file_and_gives_its_exit_code(run_folder):
    result = deepy("train.py", "-d", "configs", "a", "seed=7", cwd=run_folder)
    assert result.returncode == 5, result.stderr
    assert load([run_folder / "seen.yml"]) == load([run_folder / "configs" / "a.yml"], ["seed=7"])
    assert Path((run_folder / "where").read_text()).is_relative_to(tempfile.gettempdir())


def test_resolved_file_is_kept_with_the_run(run_folder):
    settings = ["save=run", "checkpoint_factor=10"]
    assert deepy("train.py", "configs/a", *settings, cwd=run_folder).returncode == 5
    [path] = (run_folder / "run" / "configs").iterdir()
    assert Path((run_folder / "where").read_text()) == path.relative_to(run_folder)
    assert path.name.startswith("resolved-") and len(path.stem) == len("resolved-") + 8
    assert load([path]) == load([run_folder / "configs" / "a.yml"], settings)


def test_dry_run_starts_and_writes_nothing(run_folder):
    settings = ["save=run", "checkpoint_factor=10", "num_gpus=2", "distributed_backend=gloo"]
    result = deepy("train.py", "configs/a", *settings, "--dry-run", cwd=run_folder)
    assert result.returncode == 0, result.stderr
    assert "megatron.launch.agent" in result.stdout and "--config run/configs/resolved-" in result.stdout
    assert "OMP_NUM_THREADS=" in result.stdout
    assert not (run_folder / "run").exists() and not (run_folder / "seen.yml").exists()


def test_several_processes_run_under_torchrun(run_folder):
    (run_folder / "train.py").write_text(
        "import os, pathlib, sys\n"
        "rank = os.environ['RANK']\n"
        "pathlib.Path(f'rank{rank}').write_text(' '.join([os.environ['WORLD_SIZE'], *sys.argv[1:]]))\n"
    )
    settings = ["num_gpus=2", "distributed_backend=gloo"]
    command = [sys.executable, str(ROOT / "deepy.py"), "train.py", "configs/a", *settings]
    result = subprocess.run(command, cwd=run_folder, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    seen = [(run_folder / f"rank{rank}").read_text() for rank in range(2)]
    assert seen[0] == seen[1] and seen[0].startswith("2 --config ")


def test_warnings_about_ignored_keys_are_shown(run_folder):
    result = deepy("--check", "configs/a", "eval_iters=5", cwd=run_folder)
    assert result.returncode == 0
    assert result.stderr.count("eval_iters") == 1
