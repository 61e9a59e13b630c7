"""lm-evaluation-harness over a model that several processes hold together."""

from __future__ import annotations

import json
from pathlib import Path

import harness_processes
import pytest
import torch
from processes import spawn

from megatron.evaluation.results import read_items
from megatron.parallel.process import World
from tests.harness_data import all_text, write_benchmarks
from tests.language_models import sentencepiece_tokenizer, tiny_hf_folder

pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install lm_eval==0.4.13")


def test_all_layouts_score_as_one_process_does(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    tokenizer = sentencepiece_tokenizer(tmp_path / "model", all_text())
    tiny_hf_folder(tmp_path / "model", tokenizer, positions=1024)
    write_benchmarks(tmp_path / "data")
    spawn(harness_processes.work, (str(tmp_path),), nprocs=harness_processes.SIZE)
    alone = harness_processes.evaluate("alone", World(rank=0, size=1, device=torch.device("cpu")), tmp_path)
    main, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    for name in harness_processes.LAYOUTS:
        assert [tuple(score) for score in main[name]] == alone and len(alone) == 6
        assert other[name] == []
        assert len((tmp_path / name / "scores.jsonl").read_text().splitlines()) == 6, "a score was made twice"
        for benchmark, language, _ in alone:
            pairs = zip(
                read_items(tmp_path / name, benchmark, language), read_items(tmp_path / "alone", benchmark, language),
                strict=True,
            )  # fmt: skip
            for ours, wanted in pairs:
                assert ours.get("outputs") == wanted.get("outputs")
                assert ours.get("log_likelihoods", []) == pytest.approx(wanted.get("log_likelihoods", []), abs=1e-4)
