from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from megatron.corpus.languages import parse_label
from megatron.evaluation.harness.benchmarks import BENCHMARKS
from megatron.evaluation.harness.installed import HarnessError
from megatron.evaluation.harness.plan import plan_jobs
from megatron.evaluation.harness.rows import read_rows
from megatron.evaluation.json_lines import MAX_FILE_BYTES
from tests.harness_data import LANGUAGES, ROWS, write_benchmarks, write_lines


def test_every_language_is_a_corpus_code_and_no_two_are_the_same() -> None:
    counts = {name: len(benchmark.languages) for name, benchmark in BENCHMARKS.items()}
    assert counts == {
        "xnli": 15, "xcopa": 11, "xstorycloze": 11, "xwinograd": 6, "belebele": 122, "arc": 31, "mgsm-direct": 11,
        "mgsm-cot": 11, "mgsm-cot-eng": 11,
    }  # fmt: skip
    for benchmark in BENCHMARKS.values():
        assert all(parse_label(code) for code in benchmark.languages)
        assert len(set(benchmark.languages.values())) == len(benchmark.languages)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_task_is_one_of_the_harness(name: str) -> None:
    pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install lm_eval==0.4.13")
    from megatron.evaluation.harness.tasks import task_manager

    names = {BENCHMARKS[name].task.format(key) for key in BENCHMARKS[name].languages.values()}
    assert names <= set(task_manager().all_subtasks)


def test_all_that_has_files_is_planned_with_its_shots(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_benchmarks(tmp_path, count=3)
    with caplog.at_level(logging.INFO):
        jobs = plan_jobs(tmp_path)
    planned = {(job.name, job.language) for job in jobs}
    assert planned == {
        (name, code) for name, benchmark in BENCHMARKS.items() for code in LANGUAGES[benchmark.data]
    }
    shots = {job.name: (job.num_fewshot, None if job.shots is None else job.shots.count) for job in jobs}
    assert shots["xnli"] == shots["belebele"] == (0, None)
    assert shots["arc"] == (5, 6) and shots["mgsm-cot"] == (3, 6)
    assert f"no files of {229 - 18} languages of benchmarks: xnli arb_Arab, " in caplog.text
    # XNLI is evaluated on what it calls validation.
    [xnli] = [job for job in jobs if (job.name, job.language) == ("xnli", "swh_Latn")]
    assert xnli.test.load()[0] == {key: ROWS["xnli"]("swh_Latn", 10)[key] for key in ("premise", "hypothesis", "label")}
    assert xnli.task_name == "xnli_sw"


def test_only_what_is_asked_for_is_planned(tmp_path: Path) -> None:
    write_benchmarks(tmp_path, count=3)
    jobs = plan_jobs(tmp_path, tasks=["xcopa", "belebele"], languages=["zho_Hans"], num_fewshot={"xcopa": 2})
    assert [(job.name, job.language, job.num_fewshot) for job in jobs] == [
        ("xcopa", "zho_Hans", 2),
        ("belebele", "zho_Hans", 0),
    ]
    assert {job.name for job in plan_jobs(tmp_path, languages=["spa_Latn"])} == {"arc"}
    assert {job.language for job in plan_jobs(tmp_path, languages=["zho", "spa_Latn"])} == {"zho_Hans", "spa_Latn"}


def test_all_problems_are_told_together(tmp_path: Path) -> None:
    write_benchmarks(tmp_path, count=3)
    (tmp_path / "arc" / "spa_Latn" / "train.jsonl").unlink()
    write_lines(tmp_path / "arc" / "zho_Hans" / "test.jsonl", [{"id": "x"}])
    (tmp_path / "xcopa" / "swh_Latn" / "test.jsonl").write_bytes(b'{"a": 1}\n{not json\n[]\n' * 3)
    with pytest.raises(HarnessError) as caught:
        shots = {"mmlu": 5, "arc": 2, "belebele": 3, "xnli": -1}
        plan_jobs(tmp_path, tasks=["arc", "xcopa", "glue", "belebele"], num_fewshot=shots)
    text = str(caught.value)
    for part in (
        "there is no benchmark glue; there are xnli, xcopa,",
        "num_fewshot names mmlu",
        "num_fewshot of xnli is -1",
        "arc/spa_Latn/train.jsonl cannot be read (No such file",
        "test.jsonl, line 1: instruction is None, it must be a text",
        "; answer is None, it must be one of 'A', 'B'",
        "swh_Latn/test.jsonl, line 4: premise is None, it must be a text; ",
        "; question is None, it must be one of 'cause', 'effect'",
        "swh_Latn/test.jsonl: 1 more problems like these; prepare the benchmark again",
        "belebele, swh_Latn: 3 shots were asked for and test.jsonl has 2 for each question",
    ):
        assert part in text, part


def test_a_benchmark_that_is_named_must_be_there_and_languages_that_are_not_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_benchmarks(tmp_path, count=1)
    assert len(plan_jobs(tmp_path, tasks=["xnli"])) == 2
    assert [job.language for job in plan_jobs(tmp_path, tasks=["xnli"], languages=["swh", "tha_Thai"])] == ["swh_Latn"]
    assert "no files of 1 languages of benchmarks: xnli tha_Thai" in caplog.text
    caplog.clear()
    plan_jobs(tmp_path, tasks=["xnli"], languages=["swh", "tha_Thai"], tells=False)
    assert caplog.text == ""
    # Beside other benchmarks, all of these languages may be none of ours.
    assert plan_jobs(tmp_path, tasks=["xnli"], languages=["yor_Latn"]) == []
    assert "no files of 1 languages of benchmarks: yor_Latn (in none of them)" in caplog.text
    (tmp_path / "empty" / "xnli").mkdir(parents=True)
    with pytest.raises(HarnessError, match=r"holds no files of what was asked for \(xnli\); prepare them first"):
        plan_jobs(tmp_path / "empty", tasks=["xnli"])
    with pytest.raises(HarnessError, match=r"mgsm, for mgsm-cot, is not there; make it with tools"):
        plan_jobs(tmp_path / "empty", tasks=["xnli", "mgsm-cot"])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"", "is empty"),
        (b"\xff\xfe", "no JSON"),
        (b"[1]", "no object"),
        (b'{"premise": "a", "hypothesis": " ", "label": 1}', "hypothesis is ' ', it must be a text"),
        (b'{"premise": "a", "hypothesis": "b", "label": true}', "label is True, it must be one of 0, 1, 2"),
        (b'{"premise": "a", "hypothesis": "b", "label": "1"}', "label is '1'"),
        (b'{"premise": "a", "hypothesis": "b", "label": -1}', "label is -1"),
        (b'{"premise": 5, "hypothesis": "b", "label": 1}', "premise is 5"),
    ],
)
def test_lines_that_are_no_questions_are_refused(line: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_bytes(line)
    problems: list[str] = []
    assert read_rows(tmp_path / "test.jsonl", BENCHMARKS["xnli"].fields, problems=problems) is None
    assert len(problems) == 1 and problem in problems[0]


def test_rows_keep_the_fields_of_the_benchmark_alone(tmp_path: Path) -> None:
    more: list[dict[str, Any]] = [{**ROWS["arc"]("eng_Latn", number), "notes": [number]} for number in range(2)]
    write_lines(tmp_path / "test.jsonl", [more[0], {key: more[1][key] for key in more[1] if key != "option_e"}])
    found = read_rows(tmp_path / "test.jsonl", BENCHMARKS["arc"].fields, problems=[])
    assert found is not None
    assert [set(row) for row in found.load()] == [set(BENCHMARKS["arc"].fields)] * found.count
    assert found.count == 2 and found.load()[1]["option_e"] is None
    with (tmp_path / "test.jsonl").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(HarnessError, match=r"test.jsonl has been changed since it was checked"):
        found.load()


def test_a_file_beyond_all_measure_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "test.jsonl").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # takes no room on the disk
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read"))
    problems: list[str] = []
    assert read_rows(tmp_path / "test.jsonl", {}, problems=problems) is None
    assert "larger than 1,024 MiB" in problems[0]
