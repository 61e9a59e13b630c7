#!/usr/bin/env python3
"""MB/s of a conversion from Hugging Face and back, beside ``cp`` of the same bytes on the same disk.

A random model of Llama 2 7B's shape in bfloat16 (13.5 GB; with ``--quick`` 0.5 GB): from a Hugging Face folder to a
checkpoint for tensor parallelism 2 and a pipeline of 2, and back. Each side runs in a process of its own and then waits
for the disk. The two are timed without the text that ends a conversion, since ``cp`` compares nothing; then one
conversion runs it: ``check s`` is how long it takes, and ``peak MB`` the most memory of all ours, libraries and mapped
files included. Afterwards every tensor is compared, byte for byte. The folder is made where ``--folder`` says and
deleted at the end; it needs four times the model's size.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from common import Comparison, parse_arguments, show
from safetensors import safe_open

from megatron.checkpoint.hf import parameter_shapes, save_model
from megatron.config.architecture import Architecture

ROOT = Path(__file__).resolve().parents[1]
LLAMA_2_7B = Architecture(
    vocab_size=32_000, hidden_size=4_096, intermediate_size=11_008, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=32, head_dim=128, max_position_embeddings=4_096,
)  # fmt: skip
SMALL = Architecture(
    vocab_size=32_000, hidden_size=1_024, intermediate_size=2_816, num_hidden_layers=16, num_attention_heads=8,
    num_key_value_heads=8, head_dim=128, max_position_embeddings=4_096,
)  # fmt: skip


class RandomWeights(dict[str, torch.Tensor]):
    """Any tensor that is asked for, made up on the spot."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self._shapes = shapes

    def __missing__(self, name: str) -> torch.Tensor:
        return torch.empty(self._shapes[name], dtype=torch.bfloat16).normal_()


def make_model(architecture: Architecture, folder: Path) -> None:
    """Write a Hugging Face folder with random weights."""
    weights = RandomWeights(parameter_shapes(architecture))
    save_model(weights, architecture, folder, dtype=torch.bfloat16, bos_id=1, eos_id=2)


def timed(command: Sequence[str], output: Path) -> tuple[float, float]:
    """Run a command that writes ``output``, wait until that is on disk; return seconds and its peak memory in MB."""
    shutil.rmtree(output, ignore_errors=True)
    os.sync()
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    subprocess.run(["sync", "-f", str(output)], check=True)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed with {status}")
    return time.perf_counter() - started, usage.ru_maxrss / 1e3


def differing(first: Path, second: Path) -> list[str]:
    """Return the tensors of two folders that are not the same, byte for byte."""

    def places(folder: Path) -> dict[str, Path]:
        found = {}
        for path in folder.glob("*.safetensors"):
            with safe_open(path, framework="pt") as handle:
                found.update(dict.fromkeys(handle.keys(), path))
        return found

    def tensor(path: Path, name: str) -> torch.Tensor:
        with safe_open(path, framework="pt") as handle:
            found: torch.Tensor = handle.get_tensor(name)
        return found

    before, after = places(first), places(second)
    same = before.keys() & after.keys()
    return [
        *sorted(before.keys() ^ after.keys()),
        *(name for name in same if not torch.equal(tensor(before[name], name), tensor(after[name], name))),
    ]


def main() -> None:
    """Convert and copy in turn, there and then back."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--folder", type=Path, help="where to work; by default the folder for temporary files")
        parser.add_argument("--repetitions", type=int, default=3)

    arguments = parse_arguments(__doc__ or "", add)
    architecture = SMALL if arguments.quick else LLAMA_2_7B
    amount = 2 * architecture.num_parameters() / 1e6
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        make_model(architecture, folder / "hf")
        tool = [sys.executable, str(ROOT / "tools" / "convert_checkpoint.py")]
        there = ["--from", "hf", "--to", "native", "--model-parallel-size", "2", "--pipe-parallel-size", "2"]
        back = ["--from", "native", "--to", "hf"]
        lines = []
        ways = (("hf -> ours", there, "hf", "ours"), ("ours -> hf", back, "ours", "back"))
        for case, options, source, target in ways:
            ours, peer, peaks = [], [], []
            for _ in range(arguments.repetitions):
                command = ["cp", "-r", str(folder / source), str(folder / "copy")]
                peer.append(amount / timed(command, folder / "copy")[0])
                shutil.rmtree(folder / "copy")
                command = [*tool, *options, "--input", str(folder / source), "--output", str(folder / target)]
                seconds, peak = timed([*command, "--no-check"], folder / target)
                ours.append(amount / seconds)
                peaks.append(peak)
            seconds, peak = timed(command, folder / target)
            extra = {"check s": seconds - amount / statistics.median(ours), "peak MB": max(*peaks, peak)}
            lines.append(Comparison(case, ours, peer, "cp", "MB/s", extra))
        wrong = differing(folder / "hf", folder / "back")
    show(lines, as_json=arguments.json)
    if wrong:
        sys.exit(f"{len(wrong)} tensors have not come back as they were: {', '.join(wrong[:5])}")


if __name__ == "__main__":
    main()
