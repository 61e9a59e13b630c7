#!/usr/bin/env python3
"""What it costs to watch a run: a training step with all of it on against the same step alone.

One run trains on 60 corpora; of its steps, one is recorded (losses of sources and tiers, speeds, memory, a line in
``metrics.jsonl``, the console, TensorBoard), judged for spikes, guarded by the watchdog and asked whether to stop, and
the next is not. ``ms around a step`` is what is done outside of it; ``ms inside`` is what the sums of the rows' losses
take within it, measured by themselves, because the times of whole steps differ by more. The model is far smaller than
real ones, so that what is paid once a step shows.

Then steps on text as the run reads it take turns with steps on one batch that is kept: ``ms around a step`` is how long
the step has waited for its text.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from common import Comparison, alternate, parse_arguments, show

import megatron.parallel.engine
from megatron.config.load import config_from
from megatron.data.indexed import ShardWriter
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo, save_manifest
from megatron.parallel.process import World
from megatron.parallel.row_sums import RowSums, by_group
from megatron.train.build import open_metrics
from megatron.train.trainer import Trainer
from megatron.utils.files import fingerprint_file
from megatron.utils.log import setup_logging

VOCABULARY, LENGTH, BATCH, MICRO, CORPORA = 32_000, 512, 4, 2, 60


def write_data(folder: Path) -> None:
    """Write random shards of many languages, and what describes them."""
    random = np.random.default_rng(0)
    tokenizer = folder / "tokenizer.model"
    tokenizer.write_bytes(b"only its fingerprint is looked at")
    shards = []
    for number in range(CORPORA):
        name = f"l{chr(97 + number // 26)}{chr(97 + number % 26)}_Latn"
        with ShardWriter(folder / name, dtype=np.uint16) as writer:
            for _ in range(20):
                writer.add_document(random.integers(3, VOCABULARY, 1_000).astype(np.uint16))
        shards.append(
            ShardInfo(
                name=name, path=name, split="train", source="monolingual" if number % 3 else "bilingual",
                language=name[:3], script="Latn", documents=20, words=10_000, tokens=20_000, bytes=60_000,
                unk_tokens=0, dtype="uint16", content_hash=writer.content_hash,
            )
        )  # fmt: skip
    info = TokenizerInfo("SPMTokenizer", fingerprint_file(tokenizer), VOCABULARY, 2, 1, prepend_bos=False)
    save_manifest(Manifest(info, tuple(shards), folder), folder / "manifest.json")


def run_in(folder: Path) -> Trainer:
    """Return a run of the small model of the benchmarks, with everything that watches it."""
    return Trainer(
        config_from({
            "num_layers": 6, "hidden_size": 288, "num_attention_heads": 6, "intermediate_size": 768,
            "max_position_embeddings": LENGTH, "seq_length": LENGTH, "lr": 1e-4, "train_iters": 100_000,
            "train_batch_size": BATCH, "train_micro_batch_size_per_gpu": MICRO, "eval_interval": 0, "log_interval": 5,
            "tokenizer_type": "SPMTokenizer", "vocab_file": str(folder / "tokenizer.model"),
            "data_manifest": str(folder / "manifest.json"), "save": str(folder / "run"), "checkpoint_factor": 100_000,
            "tensorboard_dir": str(folder / "tensorboard"), "peak_theoretical_tflops": 1,
            "mixture": {
                "unit": "tokens", "tiers": {"all": {"above": 0, "rate": 1}},
                "sources": {"monolingual": 0.7, "bilingual": 0.3},
            },
        }),
        World(rank=0, size=1, device=torch.device("cuda" if torch.cuda.is_available() else "cpu")),
    )  # fmt: skip


class Stopwatch:
    """Adds up the time that functions take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def on(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""

        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments, **options)
            self.seconds += time.perf_counter() - started
            return result

        return timed

    def read(self) -> float:
        """Return milliseconds since the last call."""
        milliseconds, self.seconds = self.seconds * 1e3, 0.0
        return milliseconds


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments(__doc__ or "")
    setup_logging()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder)
        trainer = run_in(folder)
        trainer.metrics = open_metrics(trainer.config, resumed=False)
        bare_step = trainer.train_step
        whole, sums = Stopwatch(), Stopwatch()
        inside: list[float] = []
        outside: list[float] = []
        with (
            patch.object(trainer.model, "taken_losses", sums.on(trainer.model.taken_losses)),
            patch.object(RowSums, "of", sums.on(RowSums.of)),
            patch.object(megatron.parallel.engine, "by_group", sums.on(by_group)),
            trainer.metrics,
            trainer.stop_requests,
            trainer.watchdog,
            trainer._open_batches() as batches,
        ):
            trainer.train_step = whole.on(bare_step)  # type: ignore[assignment]

            def watched(_: int) -> None:
                started = time.perf_counter()
                trainer._one_step(batches)
                trainer.watchdog.beat()
                trainer._agree()
                trainer.saver.report()
                outside.append((time.perf_counter() - started) * 1e3 - whole.read())
                inside.append(sums.read())

            def alone(_: int) -> None:
                bare_step._num_groups = 0
                bare_step(batches.step(), step=trainer.step)
                bare_step._num_groups = len(trainer.loss_groups.names)
                sums.read()

            repetitions = 8 if arguments.quick else 60
            both = alternate(watched, alone, repetitions=repetitions, amount=BATCH * LENGTH)

            bare_step._num_groups = 0
            kept = list(batches.step())
            waited: list[float] = []

            def read(_: int) -> None:
                before = batches.waited_seconds
                bare_step(batches.step(), step=trainer.step)
                waited.append((batches.waited_seconds - before) * 1e3)

            def synthetic(_: int) -> None:
                bare_step(kept, step=trainer.step)

            reading = alternate(read, synthetic, repetitions=repetitions, amount=BATCH * LENGTH)
    more = {"ms around a step": statistics.median(outside[1:]), "ms inside": statistics.median(inside[1:])}
    of_reading = {"ms around a step": statistics.median(waited[1:])}
    show(
        [
            Comparison("a step that is watched", *both, "the same step alone", "tokens/s", more),
            Comparison("a step on text that is read", *reading, "the same batch again", "tokens/s", of_reading),
        ],
        as_json=arguments.json,
    )


if __name__ == "__main__":
    main()
