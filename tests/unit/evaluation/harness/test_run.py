from __future__ import annotations

import dataclasses
import logging
import socket
from pathlib import Path

import pytest

from megatron.evaluation.harness.benchmarks import TEXT
from megatron.evaluation.harness.installed import HarnessError
from megatron.evaluation.harness.rows import read_rows
from megatron.evaluation.harness.run import HarnessOptions, run_harness
from megatron.evaluation.harness.tasks import Job, load_task, task_manager
from megatron.evaluation.results import IncompleteError, ResultsFolder, read_items
from tests.harness_data import write_benchmarks, write_lines, xwinograd
from tests.language_models import UniformModel

pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install lm_eval==0.4.13")

OPTIONS = HarnessOptions(num_fewshot={"arc": 0, "mgsm-direct": 2, "mgsm-cot": 2, "mgsm-cot-eng": 2}, maximum_tokens=20)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_benchmarks(tmp_path_factory.mktemp("benchmarks"))


def test_everything_runs_without_a_network_and_goes_on_where_it_ended(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    results = ResultsFolder(tmp_path, model={})
    first = UniformModel(max_tokens=4096, answers=["The answer is 3"])
    scores = run_harness(first, data=data, results=results, options=OPTIONS, languages=["swh_Latn"])
    assert {score.benchmark for score in scores} == {
        "xnli", "xcopa", "xstorycloze", "belebele", "mgsm-direct", "mgsm-cot", "mgsm-cot-eng",
    }  # fmt: skip
    again = UniformModel(max_tokens=4096, answers=["no"])
    both = run_harness(again, data=data, results=ResultsFolder(tmp_path, model={}), options=OPTIONS)
    assert len(both) == 18
    assert [score for score in both if score.language == "swh_Latn"] == scores
    assert not any("Swali" in prompt for prompt in again.prompts) and any("问题" in prompt for prompt in again.prompts)
    other = run_harness(
        again, data=data, results=ResultsFolder(tmp_path, model={}), tasks=["xnli"], languages=["swh_Latn"],
        options=HarnessOptions(limit=2),
    )
    assert [score.items for score in other] == [2], "a score with other settings is another score"


def test_metrics_items_and_settings_say_what_was_done(data: Path, tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path, model={})
    model = UniformModel(max_tokens=4096, answers=["Jibu ni 1.", "ni 3", "9 kisha 5", "hapana"])
    [score] = run_harness(
        model, data=data, results=results, tasks=["mgsm-cot"], languages=["swh_Latn"], options=OPTIONS
    )
    assert score.metrics["exact_match_strict_match"] == 0.25
    assert score.metrics["exact_match_flexible_extract"] == score.value == 0.75
    assert set(score.metrics) == {
        f"exact_match_{name}{error}" for error in ("", "_stderr") for name in ("strict_match", "flexible_extract")
    }
    assert score.settings["task"] == "mgsm_native_cot_sw" and score.settings["num_fewshot"] == 2
    items = read_items(tmp_path, "mgsm-cot", "swh_Latn")
    assert [item["number"] for item in items] == [0, 1, 2, 3]
    assert items[2]["outputs"] == ["9 kisha 5"]
    assert items[2]["answers"] == {"strict-match": "[invalid]", "flexible-extract": "5"}
    assert items[2]["metrics"] == {"exact_match_strict_match": 0.0, "exact_match_flexible_extract": 1.0}
    assert items[2]["prompt"].count("Swali: ") == 3 and items[2]["prompt"].endswith("Jibu la Hatua kwa Hatua:")
    [options] = model.options
    assert options.maximum_tokens == 20 and options.stop == ("Swali:", "</s>", "<|im_end|>")


def test_a_question_is_never_its_own_shot(tmp_path: Path) -> None:
    rows = [xwinograd("eng_Latn", number) for number in range(5)]
    write_lines(tmp_path / "xwinograd" / "eng_Latn" / "test.jsonl", rows)
    options = HarnessOptions(num_fewshot={"xwinograd": 4})
    results = ResultsFolder(tmp_path / "results", model={})
    run_harness(UniformModel(max_tokens=4096), data=tmp_path, results=results, options=options)
    for item in read_items(tmp_path / "results", "xwinograd", "eng_Latn"):
        end = rows[item["number"]]["sentence"].partition("_")[2].strip()
        assert isinstance(item["prompt"], list) and all(end not in prompt for prompt in item["prompt"])


def test_what_is_shortened_is_counted_and_told(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        scores = run_harness(
            UniformModel(max_tokens=150), data=data, tasks=["belebele"], options=HarnessOptions(limit=3)
        )
    assert all(score.flags == ("shortened=12", "limit=3") for score in scores)
    assert "belebele zho_Hans: acc 0.3333 of 3 (shortened=12, limit=3)" in caplog.text
    assert "lm_eval" not in {record.name.partition(".")[0] for record in caplog.records}


def test_one_bar_is_drawn_and_none_of_the_harness_s(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lm_eval.api import task as theirs

    def drawn(max_tokens: int = 4096, **options: bool) -> str:
        capsys.readouterr()
        limit = HarnessOptions(limit=2)
        run_harness(UniformModel(max_tokens=max_tokens), data=data, tasks=["belebele"], options=limit, **options)
        return capsys.readouterr().err

    before = theirs.tqdm
    assert drawn(show_progress=False) == ""
    lines = drawn().replace("\r", "\n").split("\n")
    assert {line.partition(":")[0] for line in lines if line.strip()} == {"lm-evaluation-harness"}
    with pytest.raises(IncompleteError):
        drawn(max_tokens=1)
    assert theirs.tqdm is before


def test_what_the_harness_cannot_use_is_told_with_its_place(data: Path, tmp_path: Path) -> None:
    broken = {**xwinograd("eng_Latn", 0), "sentence": "no gap"}
    write_lines(tmp_path / "xwinograd" / "eng_Latn" / "test.jsonl", [xwinograd("eng_Latn", 1), broken])
    with pytest.raises(HarnessError, match=r"line 2: sentence is 'no gap', it must be a text with _ in it"):
        run_harness(UniformModel(), data=tmp_path)
    with pytest.raises(IncompleteError, match=r"xwinograd, zho_Hans: a continuation has \d+ tokens, and"):
        run_harness(UniformModel(max_tokens=8), data=data, tasks=["xwinograd"], languages=["zho_Hans"])
    # What no check of ours has seen:
    write_lines(tmp_path / "test.jsonl", [broken])
    unchecked = read_rows(tmp_path / "test.jsonl", dict.fromkeys(broken, TEXT), problems=[])
    assert unchecked is not None
    job = Job("xwinograd", "eng_Latn", 0, unchecked, None)
    with pytest.raises(HarnessError, match=r"xwinograd, eng_Latn: lm-evaluation-harness cannot use the data"):
        load_task(job, task_manager(), seed=0)


@pytest.mark.parametrize(("name", "value"), [("limit", 0), ("maximum_tokens", 0)])
def test_options_without_sense_are_refused(name: str, value: int) -> None:
    with pytest.raises(HarnessError, match=f"{name} = {value}; it must be 1 or more"):
        dataclasses.replace(HarnessOptions(), **{name: value})
