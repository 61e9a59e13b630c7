"""Processes of one model that runs benchmarks; spawned by test_benchmarks.py."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from megatron.config.benchmark_load import load_benchmark
from megatron.evaluation.benchmarks.run import run_suite
from megatron.evaluation.language_model import Likelihood, Request
from megatron.evaluation.results import ResultsFolder
from megatron.parallel.process import Peers, World

SIZE = 2


class Bytes:
    """One id for each byte of a text."""

    kind, fingerprint, vocab_size, eod_id, bos_id, unk_id = "bytes", "0", 258, 257, 256, None

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.array(self.encode(text), dtype=np.int32) for text in texts]


class Shared:
    """A model whose processes must all be asked the same, at the same time."""

    tokenizer, max_tokens = Bytes(), 10_000

    def __init__(self, rank: int) -> None:
        self.is_main = rank == 0
        self.calls = 0

    def likelihoods(self, requests: Sequence[Request]) -> list[Likelihood]:
        self.calls += 1
        sums: list[object] = [None] * SIZE
        dist.all_gather_object(sums, [sum(map(sum, request)) for request in requests])
        assert sums[0] == sums[1], "the processes ask different things"
        return [Likelihood(len(request.continuation) * math.log(258), False) for request in requests]


def work(rank: int, folder: str) -> None:
    """Run a benchmark in parts, then once where its results cannot be written."""
    place = Path(folder)
    dist.init_process_group(
        "gloo", init_method=f"file://{place}/store", rank=rank, world_size=SIZE,
        timeout=datetime.timedelta(seconds=30),
    )  # fmt: skip
    peers = Peers(World(rank, SIZE, torch.device("cpu")), timeout_minutes=0.5)
    found = []
    for languages in (["swh_Latn"], None):
        model = Shared(rank)
        results = ResultsFolder(place / "results", model={"name": "shared"}) if rank == 0 else None
        scores = run_suite(
            model, [load_benchmark("sib200")], data=place / "data", results=results, languages=languages, peers=peers,
            show_progress=False,
        )  # fmt: skip
        found.append([model.calls, [score.language for score in scores]])
    results = ResultsFolder(place / "broken", model={"name": "shared"}) if rank == 0 else None
    (place / "broken" / "items").write_text("") if rank == 0 else None
    try:
        run_suite(
            Shared(rank), [load_benchmark("sib200")], data=place / "data", results=results, peers=peers,
            show_progress=False,
        )  # fmt: skip
    except OSError:
        found.append("told")
    (place / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()
