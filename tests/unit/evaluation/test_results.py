from __future__ import annotations

import math
from pathlib import Path

import pytest

from megatron.evaluation.results import ResultsError, ResultsFolder, Score, items_path, read_items, read_scores

MODEL = {"name": "ours", "step": 5}


def score(language: str = "swh_Latn", value: float = 0.5, **changes: object) -> Score:
    fields = {"settings": {"shots": (1, 2)}, **changes}
    return Score("sib200", language, {"accuracy": value, "f1": math.nan}, "accuracy", True, 4, **fields)  # type: ignore[arg-type]


def test_what_is_added_is_read_back(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path / "r", model=MODEL)
    results.add(score("yor_Latn", 0.25, flags=("lossy",)), [{"prompt": "a", "output": "b"}])
    results.add(score(), [])
    again = ResultsFolder(tmp_path / "r", model=MODEL)
    assert [(s.language, s.value, s.flags) for s in again.scores()] == [
        ("swh_Latn", 0.5, ()),
        ("yor_Latn", 0.25, ("lossy",)),
    ]
    assert math.isnan(again.scores()[0].metrics["f1"])
    assert read_items(tmp_path / "r", "sib200", "yor_Latn") == [{"prompt": "a", "output": "b"}]
    assert again.has("sib200", "swh_Latn", {"shots": [1, 2]})
    assert not again.has("sib200", "swh_Latn", {"shots": [1, 3]}) and not again.has("sib200", "eng_Latn", {})


def test_the_last_score_counts_and_a_torn_line_does_not(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path, model=MODEL)
    results.add(score(value=0.1), [{"try": 1}])
    with (tmp_path / "scores.jsonl").open("ab") as file:
        file.write(b'{"benchmark": "sib200", "lang')
    assert [s.value for s in read_scores(tmp_path)] == [0.1]
    ResultsFolder(tmp_path, model=MODEL).add(score(value=0.2), [{"try": 2}])
    assert [s.value for s in read_scores(tmp_path)] == [0.2]
    assert read_items(tmp_path, "sib200", "swh_Latn") == [{"try": 2}]
    items_path(tmp_path, "sib200", "swh_Latn").unlink()
    assert read_items(tmp_path, "sib200", "swh_Latn") == []


def test_results_of_another_model_are_not_mixed_in(tmp_path: Path) -> None:
    ResultsFolder(tmp_path, model=MODEL)
    with pytest.raises(ResultsError, match=r"step was 5, now 6.*another folder"):
        ResultsFolder(tmp_path, model={**MODEL, "step": 6})
    ResultsFolder(tmp_path, model={**MODEL, "name": "the same by another name"})


def test_a_whole_line_that_is_no_score_is_named(tmp_path: Path) -> None:
    (tmp_path / "scores.jsonl").write_text('{"benchmark": "x"}\n')
    with pytest.raises(ResultsError, match=r"scores.jsonl, line 1"):
        read_scores(tmp_path)
    with pytest.raises(ResultsError, match="holds no results"):
        from megatron.evaluation.results import read_model

        read_model(tmp_path)
