from __future__ import annotations

import dataclasses
from pathlib import Path

from megatron.checkpoint.folder import open_folder
from megatron.checkpoint.storage import LocalStorage
from megatron.evaluation.evaluate import EvaluationRun, _results_folder, score_table
from megatron.evaluation.results import Score


def test_results_lie_where_no_checkpoint_takes_them_along(small_hf: Path, tmp_path: Path) -> None:
    run = EvaluationRun(str(small_hf), "x", ["sib200"], tmp_path, None)
    folder = open_folder(small_hf)
    assert _results_folder(run, folder) == small_hf / "evaluation"
    checkpoint = dataclasses.replace(folder, place=LocalStorage(tmp_path / "run" / "global_step20"), step=20)
    assert _results_folder(run, checkpoint) == tmp_path / "run" / "evaluation" / "step20"
    trial = dataclasses.replace(run, results=tmp_path / "r", limit=5)
    assert _results_folder(trial, checkpoint) == tmp_path / "r" / "limit-5"


def test_the_table_tells_what_must_be_known_of_scores() -> None:
    scores = [
        Score("sib200", code, {"accuracy": value}, "accuracy", True, 4, flags=("shots_left_out=3", "limit=4"))
        for code, value in (("swh_Latn", 0.25), ("yor_Latn", 0.75))
    ]
    table = score_table(scores)
    assert "0.5000" in table and "shots_left_out: 2, limit: 2" in table
    assert "sib200" in table and table.splitlines()[2].split()[1:3] == ["2", "8"]
