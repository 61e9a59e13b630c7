"""The corpus pipeline at its limits: memory that does not grow with the corpus, full disks, and files that are broken."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "corpus.py"
MB = 10**6

# ---- a corpus of any size --------------------------------------------------------------------------------------------

#: Code of each language, its share of the bytes, and the first and last letter of its alphabet.
LANGUAGES = {
    "eng_Latn": (0.60, "a", "z"),
    "rus_Cyrl": (0.15, "а", "я"),
    "hin_Deva": (0.10, "क", "ह"),
    "amh_Ethi": (0.05, "ሀ", "ቆ"),
    "zho_Hani": (0.10, "一", "龠"),
}
_FILE_BYTES = 64 * MB
_WORDS = 20_000


def write_corpus(folder: Path, size_bytes: int, *, seed: int = 0) -> int:
    """Write documents of made-up words in several scripts, most of them in one language; return their bytes.

    Documents have 5 to 800 words of Zipf's frequencies; one in 50 is a copy of an earlier one, and one in 50 a copy with
    changes. The folder holds ``<code>/<number>.jsonl``, every other file compressed.
    """
    total = 0
    for code, (share, first, last) in LANGUAGES.items():
        documents = _documents(random.Random(f"{seed} {code}"), first, last, spaces=code != "zho_Hani")
        left, number = int(share * size_bytes), 0
        while left > 0:
            written = _write_file(folder / code / f"{number:05d}.jsonl", documents, min(left, _FILE_BYTES), number % 2)
            left, number, total = left - written, number + 1, total + written
    return total


def _documents(chance: random.Random, first: str, last: str, *, spaces: bool) -> Iterator[str]:
    letters = [chr(code) for code in range(ord(first), ord(last) + 1)]
    lengths = (2, 10) if spaces else (1, 2)
    words = ["".join(chance.choices(letters, k=chance.randint(*lengths))) for _ in range(_WORDS)]
    weights = [0.0]
    for rank in range(_WORDS):
        weights.append(weights[-1] + 1 / (rank + 10))
    cumulative, blank, stop = weights[1:], " " if spaces else "", ". " if spaces else "。"
    recent: list[list[str]] = []
    while True:
        kind = chance.random()
        if recent and kind < 0.04:
            chosen = list(chance.choice(recent))
            if kind < 0.02:
                chosen[chance.randrange(len(chosen))] = chance.choice(words)
        else:
            chosen = chance.choices(words, cum_weights=cumulative, k=int(5 * 160 ** chance.random()))
            recent = [*recent[-99:], chosen]
        yield stop.join(blank.join(chosen[start : start + 12]) for start in range(0, len(chosen), 12)) + stop.strip()


def _write_file(path: Path, documents: Iterator[str], size_bytes: int, compressed: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context((path.with_suffix(".jsonl.zst") if compressed else path).open("wb"))
        if compressed:
            file = stack.enter_context(zstandard.ZstdCompressor(level=1).stream_writer(file))
        for text in documents:
            line = json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n"
            file.write(line)
            written += len(line)
            if written >= size_bytes:
                break
    return written


# ---- runs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finished:
    """A process that has ended: its exit status, what it said, and the most memory that it held."""

    status: int
    output: str
    errors: str
    peak_bytes: int


def run(config: Path, *settings: str, stage: str = "all") -> Finished:
    """Run the pipeline in one process."""
    outputs = [config.with_suffix(f".{name}") for name in ("out", "err")]
    with outputs[0].open("wb") as out, outputs[1].open("wb") as err:
        command = [sys.executable, str(TOOL), stage, "--config", str(config), "--quiet", "--workers", "1", *settings]
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    texts = [path.read_text(encoding="utf-8") for path in outputs]
    return Finished(process.returncode, *texts, usage.ru_maxrss * 1024)


def write_config(path: Path, inputs: Path | Sequence[Path], output: Path, tokenizer: Path | None, **more: Any) -> Path:
    paths = [inputs] if isinstance(inputs, Path) else inputs
    content: dict[str, Any] = {"inputs": [{"path": str(each)} for each in paths], "output": str(output), **more}
    if tokenizer is not None:
        content["tokenise"] = [
            {"output": "tokens", "tokenizer_type": "SPMTokenizer", "vocab_file": str(tokenizer)},
        ]
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path
