from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def run(tool: str, *arguments: object, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, f"tools/{tool}.py", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == expect, f"{done.stdout}\n{done.stderr}"
    return done.stdout if expect == 0 else done.stderr


def jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_benchmark_is_prepared_and_told(tmp_path: Path) -> None:
    (tmp_path / "up").mkdir()
    jsonl(tmp_path / "up" / "english_test.jsonl", [{"id": "1", "text": "Long.", "summary": "Short."}, {"id": "2"}])
    told = run("prepare_benchmark", "xlsum", "--input", tmp_path / "up", "--output", tmp_path / "data")
    assert told.splitlines()[:2] == ["1 languages, 1 items: test 1", "left out: 1 rows (wrong_fields)"]
    assert (tmp_path / "data" / "xlsum" / "eng_Latn" / "test.jsonl").is_file()
    assert "sib200-published" in run("prepare_benchmark", "--list").splitlines()
    wrong = run("prepare_benchmark", "xlsun", "--input", tmp_path, "--output", tmp_path, expect=1)
    assert "Did you mean 'xlsum'?" in wrong and "Traceback" not in wrong


def test_a_benchmark_is_built_from_given_translations(tmp_path: Path) -> None:
    original = "Write an email to a friend about your holiday."
    prompts = jsonl(tmp_path / "prompts.jsonl", [{"id": "1", "category": "email", "prompt": original}])
    there = {"source": "eng_Latn", "target": "swh_Latn", "text": original, "translation": "Andika barua pepe"}
    table = jsonl(tmp_path / "table.jsonl", [there])
    back = jsonl(tmp_path / "back.jsonl", [
        {"source": "swh_Latn", "target": "eng_Latn", "text": "Andika barua pepe", "translation": "Write an email"}
    ])  # fmt: skip
    given = ("letters", "--prompts", prompts, "--languages", "swh_Latn", "--output", tmp_path / "data")
    options = (*given, "--table", table, "--back-table", back)
    assert "left out: 1 rows (low_bleu)" in run("build_benchmark", *options)
    assert "1 languages, 1 items: test 1" in run("build_benchmark", *options, "--minimum-bleu", "5")
    assert "name one translator" in run("build_benchmark", *given, expect=1)
