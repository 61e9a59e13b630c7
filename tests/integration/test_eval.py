"""One model on benchmarks of every kind, by `eval.py`, alone and in two processes, and the report of what comes out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import run_script

from megatron.config.benchmark_load import load_benchmark, load_suites, split_names
from megatron.evaluation.benchmarks.prepare.run import prepare
from megatron.evaluation.harness.benchmarks import BENCHMARKS
from megatron.evaluation.results import read_items, read_scores
from tests.harness_data import all_text, write_benchmarks
from tests.language_models import sentencepiece_tokenizer, tiny_hf_folder
from tests.unit.evaluation.benchmarks import upstream

ROOT = Path(__file__).resolve().parents[2]
OWN = ("sib200", "flores200-from-eng", "flores200-text")
HARNESS = ("xnli", "mgsm-direct")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    for name, make in upstream.EVERYTHING.items():
        prepare(load_benchmark(name), make(folder / "upstream" / name), folder / "data", show_progress=False)
    write_benchmarks(folder / "data")
    tiny_hf_folder(folder, sentencepiece_tokenizer(folder, all_text()), positions=512)
    return folder


def run(
    place: Path, results: str, *options: str, processes: int = 1, status: int = 0, launched: bool = False
) -> str:
    arguments: list[object] = ["--model", place / "hf", "--data", place / "data", "--precision", "fp32"]
    arguments += ["--output", place / results, *options]
    if launched:
        start = [sys.executable]
        if processes > 1:
            start += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
        done = subprocess.run(
            [*start, "eval.py", *map(str, arguments)],
            cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        found, told = done.returncode, done.stdout + done.stderr
    else:
        found, told = run_script("eval", arguments, processes)
    assert found == status, told
    return told


def values(place: Path, results: str) -> dict[tuple[str, str], float]:
    return {(score.benchmark, score.language): score.value for score in read_scores(place / results)}


def test_own_benchmarks_resume_and_processes(place: Path) -> None:
    told = run(place, "one", "--suite", *OWN)
    found = values(place, "one")
    assert {benchmark for benchmark, _ in found} == {*OWN, "flores200-text-parity"}
    assert found["flores200-text-parity", "eng_Latn"] == 1
    bits = found["flores200-text", "swh_Latn"]
    assert bits > 2 and "flores200-text" in told
    items = read_items(place / "one", "flores200-from-eng", "swh_Latn")
    assert all({"prompt", "output", "stop_reason"} <= item.keys() for item in items)
    # What is there is not done again; what a killed process has not written is.
    scores = place / "one" / "scores.jsonl"
    lines = scores.read_bytes().splitlines(keepends=True)
    shutil.copytree(place / "one", place / "killed")
    (place / "killed" / "scores.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:20])
    told = run(place, "killed", "--suite", *OWN)
    assert "2 of 7 scores are there already" in told and values(place, "killed") == found
    before = scores.read_bytes()
    assert "7 of 7 scores are there already" in run(place, "one", "--suite", *OWN)
    assert scores.read_bytes() == before
    run(place, "two", "--suite", *OWN, processes=2)
    assert values(place, "two") == pytest.approx(found, rel=1e-6)
    run(place, "tensor", "--suite", *OWN, "--tensor", "2", processes=2, launched=True)
    assert values(place, "tensor") == pytest.approx(found, rel=1e-5)


def test_other_metrics_of_kept_answers(place: Path) -> None:
    flores, sib = "flores200-from-eng", "sib200"
    run(place, "kept", "--suite", flores, sib, "--languages", "swh", "eng")
    items = (place / "kept" / "items" / flores / "swh_Latn.jsonl").read_bytes()
    changed = place / "definitions" / f"{flores}.yml"
    changed.parent.mkdir()
    changed.write_text(f"based_on: {flores}\nmetrics: [rouge_l, self_bleu, chrf++]\n", encoding="utf-8")
    shutil.copytree(place / "kept", place / "tool")
    for processes in (1, 2):
        shutil.copytree(place / "kept", place / f"kept-{processes}")
        told = run(
            place, f"kept-{processes}", "--suite", str(changed), sib, "--languages", "swh", "eng", processes=processes
        )
        assert "1 scores are made of answers that were kept: the model was not asked again" in told
        assert "2 of 3 scores are there already" in told
    run(place, "fresh", "--suite", str(changed), sib, "--languages", "swh", "eng")
    # The command has no model, and needs no torch.
    tool = [
        sys.executable, "-c",
        "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')",
        "tools/rescore_evaluation.py", str(place / "tool"), "--definitions", str(changed), sib,
    ]  # fmt: skip
    done = subprocess.run(tool, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{flores}: 1 scores made again, 0 were as wanted", f"{sib}: 0 scores made again, 2 were as wanted",
    ]  # fmt: skip

    def kept(results: str) -> list[str]:
        fields = ("metrics", "main", "settings", "items_hash", "items", "flags")
        return [
            json.dumps({name: getattr(score, name) for name in fields}, sort_keys=True)
            for score in read_scores(place / results)
        ]

    for results in ("kept-1", "kept-2", "tool"):
        assert kept(results) == kept("fresh"), results
        assert (place / results / "items" / flores / "swh_Latn.jsonl").read_bytes() == items
    path = place / "tool" / "items" / flores / "swh_Latn.jsonl"
    path.write_bytes(items[:-20])
    done = subprocess.run([*tool[:-2], flores], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and f"{flores} in swh_Latn cannot be used: {path}, line" in done.stderr


def test_harness_and_report(place: Path) -> None:
    pytest.importorskip("lm_eval", reason="needs lm_eval (pip install lm_eval==0.4.13), which is not here")
    run(place, "harness", "--suite", *HARNESS, "--languages", "swh_Latn", "--limit", "2", "--num-fewshot", "xnli=1")
    assert not read_scores(place / "harness"), "a trial takes the place of nothing"
    trial = place / "harness" / "limit-2"
    found = read_scores(trial)
    assert [score.settings["num_fewshot"] for score in found] == [3, 1] and "limit=2" in found[0].flags
    assert [(score.benchmark, score.language, score.items) for score in found] == [
        ("mgsm-direct", "swh_Latn", 2),
        ("xnli", "swh_Latn", 2),
    ]
    shutil.copytree(trial, place / "other")
    page = place / "report.html"
    subprocess.run(
        [
            sys.executable, "tools/report_evaluation.py", str(trial), str(place / "other"),
            "--names", "base", "ours", "--output", str(page), "--json", str(place / "report.json"),
        ],
        cwd=ROOT, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert "mgsm-direct" in page.read_text() and "xnli" in json.dumps(json.loads((place / "report.json").read_text()))


def test_every_suite_in_one_call(place: Path) -> None:
    pytest.importorskip("lm_eval", reason="needs lm_eval (pip install lm_eval==0.4.13), which is not here")
    told = run(place, "all", "--suite", "emma", "emma-published", "--languages", "swh", "swa", "zho", "--limit", "1")
    suites, harness = load_suites(), split_names(["emma"], others=BENCHMARKS)[1]
    done = {score.benchmark for score in read_scores(place / "all" / "limit-1")}
    assert done == {*suites["emma"], *suites["emma-published"], *harness}
    assert len(harness) == 8 and all(name in told for name in done)


def test_mistakes_are_told_before_anything_is_loaded(place: Path) -> None:
    told = run(place, "none", "--suite", "sib2000", status=2, launched=True)
    assert "sib2000" in told and "sib200" in told and not (place / "none").exists()
    told = run(place, "none", "--suite", "sib200", "--programs", "humaneval=x.jsonl", status=2)
    assert "allow" in told
    told = run(place, "none", "--suite", "sib200", "xcopa", "--data", str(place / "no"), status=2)
    assert all(name in told for name in ("sib200", "xcopa", "prepare_benchmark.py")), "everything is told at once"
    told = run(place, "none", "--programs", "humaneval=absent.jsonl", "--allow-code-execution", status=2)
    assert "absent.jsonl" in told
    (place / "foreign").mkdir()
    (place / "foreign" / "model.json").write_text('{"name": "another"}')
    assert "another model" in run(place, "foreign", "--suite", "sib200", status=2)
