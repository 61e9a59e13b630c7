"""The corpus pipeline at its limits: memory that does not grow, full disks, and broken files."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
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

    Documents have 5 to 800 words of Zipf's frequencies; one in 50 is a copy of an earlier one, and one in 50 a copy
    with changes. The folder holds ``<code>/<number>.jsonl``, every other file compressed.
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


_MEASURE = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print("\\n%d %d" % (status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss), end="")
"""


@dataclass(frozen=True)
class Finished:
    """A process that has ended: its exit status, what it said, and the most memory that it held."""

    status: int
    output: str
    errors: str
    peak_bytes: int


def run(config: Path, *settings: str, stage: str = "all") -> Finished:
    """Run the pipeline in one process."""
    # A process begins with the peak of the one that starts it, so a small one stands between.
    command = [sys.executable, "-c", _MEASURE, sys.executable, str(TOOL), stage, "--config", str(config), *settings]
    done = subprocess.run([*command, "--quiet", "--workers", "1"], capture_output=True, text=True, cwd=ROOT, check=True)
    output, _, measured = done.stdout.rpartition("\n")
    status, peak_kib = map(int, measured.split())
    return Finished(status, output, done.stderr, peak_kib * 1024)


def write_config(path: Path, raw: Path, output: Path, tokenizer: Path | None, **more: Any) -> Path:
    content: dict[str, Any] = {"inputs": [{"path": str(raw)}], "output": str(output), **more}
    if tokenizer is not None:
        content["tokenise"] = [
            {"output": "tokens", "tokenizer_type": "SPMTokenizer", "vocab_file": str(tokenizer)},
        ]
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def contents(output: Path) -> dict[str, bytes]:
    """Return the files of the final text and of the shards, and the table of sizes."""
    paths = [*(output / "text").rglob("*.zst"), *(output / "tokens").glob("*"), output / "stats.tsv"]
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in paths}


def check_whole(output: Path) -> int:
    """Check that every file with a final name is whole and belongs to a record; return how many records there are."""
    recorded: set[Path] = set()
    records = 0
    for path in output.rglob("*.json"):
        if ".tasks" not in path.parts:
            continue
        folder, records = Path(*path.parts[: path.parts.index(".tasks")]), records + 1
        for name, (size_bytes, _) in json.loads(path.read_bytes())["files"].items():
            assert (folder / name).stat().st_size == size_bytes
            recorded.add(folder / name)
    for path in output.rglob("*"):
        if path.suffix in (".zst", ".npy") and ".scratch" not in path.parts:
            assert path in recorded, f"{path} has no record"
    for index in (output / "tokens").glob("*.idx"):
        assert index.with_suffix(".bin").exists()
    return records


@pytest.fixture(scope="module")
def tokenizer(shared: Path) -> Path:
    return shared / "data" / "tokenizers" / "llama2" / "tokenizer.model"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "raw"
    write_corpus(folder, MB)
    return folder


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tokenizer: Path) -> dict[str, bytes]:
    config = write_config(corpus.parent / "undisturbed.yml", corpus, corpus.parent / "undisturbed", tokenizer)
    finished = run(config)
    assert finished.status == 0, finished.errors
    return contents(corpus.parent / "undisturbed")


# ---- a full disk -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Any]:
    """Mount a file system of ``size`` that lives in memory; gives a function that changes its size."""
    libc = ctypes.CDLL(None, use_errno=True)
    remount = 32

    def mount(flags: int, size: str) -> None:
        if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", flags, f"size={size}".encode()):
            pytest.skip(f"needs the right to mount a tmpfs: {os.strerror(ctypes.get_errno())}")

    folder.mkdir()
    mount(0, size)
    try:
        yield lambda size: mount(remount, size)
    finally:
        libc.umount2(str(folder).encode(), 2)


@pytest.mark.parametrize("size", ["400k", "2m"])
def test_a_full_disk_is_an_error_and_the_next_run_finishes(
    tmp_path: Path, corpus: Path, tokenizer: Path, undisturbed: dict[str, bytes], size: str
) -> None:
    output = tmp_path / "disk" / "out"
    config = write_config(tmp_path / "corpus.yml", corpus, output, tokenizer)
    with small_disk(output.parent, size) as resize:
        full = run(config)
        assert full.status == 1
        assert "No space left on device" in full.errors
        assert "Traceback" not in full.errors
        check_whole(output)
        assert not (output / "tokens" / "manifest.json").exists()
        resize("64m")
        finished = run(config)
        assert finished.status == 0, finished.errors
        assert contents(output) == undisturbed


# ---- broken files ----------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path: Path, corpus: Path) -> None:
    raw = tmp_path / "raw" / "eng_Latn"
    raw.mkdir(parents=True)
    (raw / "good.jsonl").write_bytes((corpus / "eng_Latn" / "00000.jsonl").read_bytes())
    (raw / "bad.jsonl").symlink_to("/proc/self/mem")  # opens, and gives an input/output error, to root too
    finished = run(write_config(tmp_path / "corpus.yml", raw.parent, tmp_path / "out", None))
    assert finished.status == 1
    assert "bad.jsonl" in finished.errors and "Input/output error" in finished.errors
    assert "Traceback" not in finished.errors
    made = [path.name for path in (tmp_path / "out").rglob("*.zst")]
    assert made and all("good" in name for name in made)
    assert not (tmp_path / "out" / "text").exists()


def test_a_dangling_link_is_named(tmp_path: Path, corpus: Path) -> None:
    raw = tmp_path / "raw" / "eng_Latn"
    raw.mkdir(parents=True)
    (raw / "good.jsonl").write_bytes((corpus / "eng_Latn" / "00000.jsonl").read_bytes())
    (raw / "bad.jsonl").symlink_to(tmp_path / "nothing")
    finished = run(write_config(tmp_path / "corpus.yml", raw.parent, tmp_path / "out", None))
    assert finished.status == 1
    assert "bad.jsonl" in finished.errors
    assert "Traceback" not in finished.errors


@pytest.mark.parametrize("policy", ["stop", "drop"])
def test_a_zst_file_without_its_tail(tmp_path: Path, corpus: Path, policy: str) -> None:
    raw = tmp_path / "raw" / "eng_Latn.jsonl.zst"
    raw.parent.mkdir()
    # Several blocks, so that something is read before the end.
    data = zstandard.compress((corpus / "eng_Latn" / "00000.jsonl").read_bytes(), level=1)
    raw.write_bytes(data[: len(data) * 2 // 3])
    config = write_config(tmp_path / "corpus.yml", raw.parent, tmp_path / "out", None, read={"cut_short": policy})
    finished = run(config)
    assert "Traceback" not in finished.errors
    if policy == "stop":
        assert finished.status == 1
        assert "eng_Latn.jsonl.zst: the compressed file is cut short" in finished.errors
        assert not list((tmp_path / "out").rglob("*.zst"))
    else:
        assert finished.status == 0, finished.errors
        assert _dropped(tmp_path / "out", "cut_short") == 1
        assert list((tmp_path / "out" / "text").rglob("train-*.zst"))


def test_a_line_of_100_mb_is_left_out_and_counted(tmp_path: Path, corpus: Path) -> None:
    raw = tmp_path / "raw" / "eng_Latn"
    raw.mkdir(parents=True)
    lines = (corpus / "eng_Latn" / "00000.jsonl").read_bytes()
    path = raw / "0.jsonl"
    path.write_bytes(lines)
    config = write_config(tmp_path / "corpus.yml", raw.parent, tmp_path / "out", None)
    without = run(config, stage="read")
    with path.open("ab") as file:
        file.write(b'{"text": "' + b"word " * (20 * MB) + b'"}\n')
        file.write(lines)
    finished = run(config, stage="read")
    assert finished.status == 0, finished.errors
    assert _dropped(tmp_path / "out", "too_long") == 1
    # What is kept of a line until it is too long: 64 MiB.
    assert finished.peak_bytes < without.peak_bytes + (80 << 20)


def test_a_damaged_piece_is_named_and_made_again(
    tmp_path: Path, corpus: Path, tokenizer: Path, undisturbed: dict[str, bytes]
) -> None:
    config = write_config(tmp_path / "corpus.yml", corpus, tmp_path / "out", tokenizer)
    assert run(config, stage="clean").status == 0
    piece = min((tmp_path / "out" / "work" / "clean" / "eng_Latn").glob("*.zst"))
    data = bytearray(piece.read_bytes())
    data[len(data) // 2] ^= 0xFF
    piece.write_bytes(data)
    damaged = run(config)
    assert damaged.status == 1
    assert f"{piece}: damaged" in damaged.errors and "delete the file and run the pipeline again" in damaged.errors
    assert "Traceback" not in damaged.errors
    piece.unlink()
    finished = run(config)
    assert finished.status == 0, finished.errors
    assert contents(tmp_path / "out") == undisturbed


def _dropped(output: Path, rule: str) -> int:
    """Return how many records the stage `read` left out by a rule."""
    count = 0
    for path in (output / "work" / "read" / ".tasks").rglob("*.json"):
        for stage, _, kind, name, documents, _ in json.loads(path.read_bytes())["result"]["tally"]["counts"]:
            if (stage, kind, name) == ("read", "dropped", rule):
                count += documents
    return count


# ---- memory ----------------------------------------------------------------------------------------------------------

_STAGES = ("read", "clean", "dedup", "split", "tokenise", "all")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_memory_does_not_grow_with_the_corpus(
    tmp_path: Path, tokenizer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A corpus of 2 GB takes the memory that one of 100 MB takes, in every pass; it needs 8 GB of disk."""
    peaks = {}
    for size_bytes in (100 * MB, 2000 * MB):
        folder = tmp_path / str(size_bytes)
        write_corpus(folder / "raw", size_bytes)
        config = write_config(folder / "corpus.yml", folder / "raw", folder / "out", tokenizer)
        # Each run does what the one before it has left to do.
        for stage in _STAGES:
            finished = run(config, stage=stage)
            assert finished.status == 0, finished.errors
            peaks[stage, size_bytes] = finished.peak_bytes
        shutil.rmtree(folder)
    small, large = (max(peaks[stage, size] for stage in _STAGES) for size in (100 * MB, 2000 * MB))
    shown = {f"{stage} {size // MB}": f"{peak / MB:.0f} MB" for (stage, size), peak in peaks.items()}
    with capsys.disabled():
        sys.stdout.write(f"peak memory, by stage and MB of text: {shown}\n")
    assert large < 1.2 * small, shown
