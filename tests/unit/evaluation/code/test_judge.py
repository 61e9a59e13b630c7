from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from megatron.evaluation.code.judge import Sample, judge, read_samples
from megatron.evaluation.code.languages import CodeError
from megatron.evaluation.code.problems import MAX_FILE_BYTES, read_problems
from megatron.evaluation.code.run import CodeOptions, run_code, write_samples
from megatron.evaluation.code.sandbox import Limits
from megatron.evaluation.results import ResultsFolder, read_items
from megatron.generate.sampling import Sampling
from tests.harness_data import write_lines
from tests.language_models import UniformModel

ROOT = Path(__file__).resolve().parents[4]
LIMITS = Limits(seconds=5, memory_bytes=512 << 20)
# In the form of HumanEval.
ADD = {
    "task_id": "HumanEval/0",
    "prompt": 'def add(a, b):\n    """Return the sum."""\n',
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
    "test": "\nMETADATA = {}\ndef check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(0, 1) == 1",
}
# In that of MultiPL-E.
TWICE = {
    "name": "HumanEval_1_twice",
    "language": "sh",
    "prompt": "#!/bin/bash\n# Print twice the first argument.\ntwice() {\n",
    "doctests": "transform",
    "tests": '}\n\nrun_test() {\n    [[ $(twice "4") = "8" ]]\n}\nset -e\nrun_test\n',
    "stop_tokens": ["\n}"],
}
RIGHT, WRONG = "    return a + b\n", "    return a - b\n"


def problems_in(folder: Path, *records: dict[str, Any]) -> Path:
    write_lines(folder / "problems.jsonl", list(records))
    return folder / "problems.jsonl"


def test_both_formats_make_whole_programs(tmp_path: Path) -> None:
    add, twice = read_problems(problems_in(tmp_path, ADD, TWICE)).problems
    assert add.program(RIGHT) == f"{ADD['prompt']}{RIGHT}\n{ADD['test']}\n\ncheck(add)\n"
    assert (add.language, add.stop) == ("py", ("\nclass", "\ndef", "\n#", "\nif", "\nprint"))
    assert twice.program("    echo $(($1 * 2))") == f"{TWICE['prompt']}    echo $(($1 * 2))\n{TWICE['tests']}"
    assert (twice.id, twice.language, twice.stop) == ("HumanEval_1_twice", "sh", ("\n}",))
    assert len(read_problems(problems_in(tmp_path, ADD, TWICE), limit=1).problems) == 1


def test_samples_are_run_counted_and_estimated(tmp_path: Path) -> None:
    problems = read_problems(problems_in(tmp_path, ADD, TWICE)).problems
    python = (RIGHT, WRONG, "    while True: pass\n", "    import os; os.abort()\n")
    bash = ("    echo $(($1 * 2))", "    echo $(($1 + $1))", "    exit 0", "(")
    samples = [Sample("HumanEval/0", text) for text in python] + [Sample("HumanEval_1_twice", text) for text in bash]
    limits = Limits(seconds=1)
    judged = judge(problems, samples, allow_code_execution=True, limits=limits, workers=4)
    outcomes = [verdict.outcome for verdict in judged.verdicts]
    assert outcomes == ["passed", "failed", "timed out", "crashed", "passed", "passed", "failed", "failed"]
    assert judged.metrics == pytest.approx(
        {"pass@1": (1 / 4 + 2 / 4) / 2, "passed": 3, "failed": 3, "timed_out": 1, "crashed": 1}
    )


def test_equal_programs_run_once_and_pass_at_10_comes_with_ten_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from megatron.evaluation.code import judge as module

    ran = []
    real = module.run_program
    monkeypatch.setattr(module, "run_program", lambda source, *rest: ran.append(source) or real(source, *rest))
    problems = read_problems(problems_in(tmp_path, ADD)).problems
    samples = [Sample("HumanEval/0", RIGHT if number == 3 else WRONG) for number in range(12)]
    judged = judge(problems, samples, allow_code_execution=True, limits=LIMITS)
    assert len(ran) == 2
    assert judged.metrics["pass@1"] == pytest.approx(1 / 12)
    assert judged.metrics["pass@10"] == pytest.approx(10 / 12)
    assert "pass@100" not in judged.metrics


def test_nothing_runs_without_the_word_of_the_user(tmp_path: Path) -> None:
    path = problems_in(tmp_path, ADD)
    left = tmp_path / "left"
    sample = Sample("HumanEval/0", f"    open({str(left)!r}, 'w')")
    with pytest.raises(CodeError, match="--allow-code-execution"):
        judge(read_problems(path).problems, [sample], allow_code_execution=False)
    model = UniformModel(answers=[RIGHT])
    with pytest.raises(CodeError, match="--allow-code-execution"):
        run_code(model, name="humaneval", problems=path, allow_code_execution=False)
    assert model.prompts == [] and not left.exists()


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([Sample("HumanEval/9", RIGHT)], "1 problems that samples are of are not there, such as 'HumanEval/9'"),
        ([Sample("HumanEval/0", RIGHT)], r"problems have 0 to 1 samples \('HumanEval_1_twice' has 0\)"),
        ([Sample("HumanEval/0", RIGHT)] * 2 + [Sample("HumanEval_1_twice", "")], "problems have 1 to 2 samples"),
    ],
)
def test_samples_must_be_of_all_problems_alike(samples: list[Sample], message: str, tmp_path: Path) -> None:
    with pytest.raises(CodeError, match=message):
        judge(read_problems(problems_in(tmp_path, ADD, TWICE)).problems, samples, allow_code_execution=True)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**ADD, "entry_point": "add) or (1"}, "entry_point is 'add\\) or \\(1', it must be the name of a function"),
        ({**ADD, "prompt": 5}, "prompt is int, it must be a text"),
        ({**TWICE, "language": "d"}, "programs in 'd' cannot be run; known are py,"),
        ({**TWICE, "stop_tokens": "}"}, "stop_tokens must be texts"),
        ({"name": "x", "prompt": "y"}, "has no language; it has name, prompt"),
        ({"prompt": "y"}, "has no task_id or name; it has prompt"),
    ],
)
def test_lines_that_are_no_problems_are_refused(record: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(CodeError, match=f"line 2: {message}"):
        read_problems(problems_in(tmp_path, TWICE, record))


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    with pytest.raises(CodeError, match="cannot be read"):
        read_problems(path)
    path.write_bytes(b"\n")
    with pytest.raises(CodeError, match="holds no problems"):
        read_problems(path)
    with pytest.raises(CodeError, match="holds no samples"):
        read_samples(path)
    path.write_bytes(b"[1]\n{\n" + orjson.dumps(ADD) + b"\n" + orjson.dumps(ADD))
    with pytest.raises(CodeError) as caught:
        read_problems(path)
    assert "line 4: there is a second 'HumanEval/0'" in str(caught.value)
    assert "line 1: no object" in str(caught.value) and "line 2: no JSON" in str(caught.value)
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(CodeError, match="larger than 256 MiB"):
        read_samples(path)


def test_a_benchmark_is_written_judged_kept_and_not_done_again(tmp_path: Path) -> None:
    path = problems_in(tmp_path, ADD, {**ADD, "task_id": "HumanEval/1"})
    options = CodeOptions(num_samples=2, maximum_tokens=30, limits=LIMITS, seed=5)
    model = UniformModel(max_tokens=200, answers=[RIGHT, WRONG, WRONG, WRONG])
    results = ResultsFolder(tmp_path / "results", model={})
    arguments = {"name": "humaneval", "problems": path, "allow_code_execution": True, "options": options}
    score = run_code(model, results=results, **arguments)  # type: ignore[arg-type]
    assert score is not None and (score.value, score.items, score.language) == (0.25, 2, "eng_Latn")
    assert (score.metrics["passed"], score.metrics["failed"]) == (1, 3)
    items = read_items(tmp_path / "results", "humaneval", "eng_Latn")
    assert [(item["problem"], item["outcome"]) for item in items] == [
        ("HumanEval/0", "passed"), ("HumanEval/0", "failed"), ("HumanEval/1", "failed"), ("HumanEval/1", "failed"),
    ]  # fmt: skip
    assert model.prompts == [ADD["prompt"]] * 4
    [how] = model.options
    assert (how.maximum_tokens, how.stop[0], how.seed, how.sampling.temperature) == (30, "\nclass", 5, 0.2)
    asked = len(model.prompts)
    again = run_code(model, results=ResultsFolder(tmp_path / "results", model={}), **arguments)  # type: ignore[arg-type]
    assert again == score and len(model.prompts) == asked


def test_problems_that_end_alike_are_written_together_and_come_back_in_order(tmp_path: Path) -> None:
    problems = read_problems(problems_in(tmp_path, ADD, TWICE, {**ADD, "task_id": "HumanEval/2"})).problems
    model = UniformModel(max_tokens=300, answers=["a", "b", "c", "d", "e", "f"])
    samples = write_samples(model, problems, CodeOptions(num_samples=2, maximum_tokens=10))
    assert [sample.completion for sample in samples] == ["a", "b", "e", "f", "c", "d"]
    assert [sample.problem for sample in samples] == [problem.id for problem in problems for _ in range(2)]
    with pytest.raises(CodeError, match=r"2 prompts, such as that of 'HumanEval/0', and 260 new tokens are more than"):
        write_samples(model, [problems[0], problems[2]], CodeOptions(maximum_tokens=260))


def test_options_without_sense_are_refused() -> None:
    with pytest.raises(CodeError, match=r"(?s)maximum_tokens = 0.*workers = -1.*temperature 0 gives the same program"):
        CodeOptions(num_samples=3, sampling=Sampling(), maximum_tokens=0, workers=-1)
    assert CodeOptions(num_samples=1, sampling=Sampling()).num_samples == 1


def test_the_tool_judges_samples_of_humaneval(tmp_path: Path) -> None:
    samples = tmp_path / "samples.jsonl"
    write_lines(samples, [{"task_id": "HumanEval/0", "completion": text} for text in (RIGHT, WRONG)])
    tool, problems = str(ROOT / "tools" / "judge_code.py"), str(problems_in(tmp_path, ADD))
    command = [sys.executable, tool, "--problems", problems, "--samples", str(samples)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "--allow-code-execution" in refused.stderr and refused.stdout == ""
    done = subprocess.run([*command, "--allow-code-execution"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[:3] == [["pass@1", "0.5000"], ["passed", "1"], ["failed", "1"]]
