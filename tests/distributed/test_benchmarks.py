"""All processes of a model ask the same, go on from the same place, and end together."""

from __future__ import annotations

import json
from pathlib import Path

import benchmark_processes
from processes import spawn

from megatron.config.benchmark_load import load_benchmark
from megatron.evaluation.benchmarks.prepare.run import prepare


def test_processes_run_benchmarks_together(tmp_path: Path) -> None:
    for code in ("swh_Latn", "yor_Latn"):
        (tmp_path / "up" / code).mkdir(parents=True)
        for split in ("train", "test"):
            rows = [f"{number}\ttravel\tSentence {number} of {split}" for number in range(4)]
            (tmp_path / "up" / code / f"{split}.tsv").write_text("\n".join(rows))
    prepare(load_benchmark("sib200"), tmp_path / "up", tmp_path / "data", show_progress=False)
    spawn(benchmark_processes.work, (str(tmp_path),), nprocs=benchmark_processes.SIZE)
    main, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(benchmark_processes.SIZE))
    # What the main process has done already no process does again, and an error in it ends all of them.
    assert main == [[1, ["swh_Latn"]], [1, ["swh_Latn", "yor_Latn"]], "told"]
    assert other == [[1, []], [1, []], "told"]
