"""The command that extends a tokenizer, as users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from megatron.tokenizer.load import load_tokenizer
from megatron.tokenizer.train import train_sentencepiece

ROOT = Path(__file__).resolve().parents[3]
ENGLISH = ["the quick brown fox jumps over the lazy dog", "a dog and a fox", "the fox is quick", "lazy dogs jump"]
OTHERS = {
    "ell_Grek": ["η γρήγορη αλεπού", "ο τεμπέλης σκύλος", "η αλεπού και ο σκύλος", "σκύλος και αλεπού"],
    "rus_Cyrl": ["быстрая лиса", "ленивая собака", "лиса и собака", "собака и лиса"],
}


def extend(*arguments: object, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "tools/extend_tokenizer.py", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == expect, f"{done.stdout}\n{done.stderr}"
    return done.stdout if expect == 0 else done.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "corpora").mkdir()
    for code, texts in {"eng_Latn": ENGLISH, **OTHERS}.items():
        lines = [json.dumps({"text": text}) for text in texts * 3]
        (folder / "corpora" / f"{code}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "code.py").write_text("for fox in range(2026):\n    print(fox)\n")
    train_sentencepiece(ENGLISH * 3, folder / "tokenizer.model", vocab_size=300)
    return folder


def test_the_command_extends(tmp_path: Path, files: Path) -> None:
    inputs = sorted((files / "corpora").iterdir())
    out = extend(
        "--tokenizer", files / "tokenizer.model", "--input", ",".join(map(str, inputs)), "--pivot", "eng_Latn",
        "--pivot-text", files / "code.py", "--output", tmp_path / "out", "--new-tokens", 40, "--size-multiple", 8,
        "--parallel", "eng_Latn", "--weights", "ell_Grek=2", "--max-held-out-changed", 1,
    )  # fmt: skip
    assert "pivot lines changed" in out
    assert f"{tmp_path / 'out'}: 344 tokens, 44 of them new" in out
    old = load_tokenizer("SPMTokenizer", files / "tokenizer.model")
    new = load_tokenizer("SPMTokenizer", tmp_path / "out" / "tokenizer.model")
    assert [new.encode(text) for text in ENGLISH] == [old.encode(text) for text in ENGLISH]
    report = json.loads((tmp_path / "out" / "extension_report.json").read_text())
    for row in report["corpora"]:
        if row["code"] == "eng_Latn":
            assert (row["premium_before"], row["premium_after"]) == (1, 1)
        elif row["code"] in OTHERS:
            held_out = [text for number, text in enumerate(OTHERS[row["code"]] * 3, start=1) if number % 5 == 0]
            english = [text for number, text in enumerate(ENGLISH * 3, start=1) if number % 5 == 0]
            assert row["before"] == sum(len(old.encode(text)) for text in held_out)
            assert row["after"] == sum(len(new.encode(text)) for text in held_out) < row["before"]
            assert row["premium_after"] == row["after"] / sum(len(new.encode(text)) for text in english)


def test_mistakes_and_broken_gates_have_status_1(tmp_path: Path, files: Path) -> None:
    common = ("--tokenizer", files / "tokenizer.model", "--input", files / "corpora", "--output", tmp_path / "out")
    assert "no pivot text" in extend(*common, expect=1)
    assert "--weights a=b c: give NAME=FACTOR" in extend(*common, "--weights", "a=b", "c", expect=1)
    told = extend(
        *common, "--pivots", "eng_Latn", "--new-tokens", 40, "--size-multiple", 4, "--max-unused", 0, "--hold-out", 13,
        expect=1,
    )  # fmt: skip
    assert "gates are broken, so nothing is written" in told
    assert list(tmp_path.iterdir()) == []
