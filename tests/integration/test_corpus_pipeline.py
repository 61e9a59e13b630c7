"""The corpus pipeline as a whole: the same bytes whoever does the work, and however often it is killed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from megatron.config.corpus_load import load_corpus
from megatron.corpus.document import CorpusError
from megatron.corpus.engine.backend import Here
from megatron.corpus.engine.run import Runner, Share
from megatron.corpus.pipeline import Pipeline
from megatron.corpus.read import read_documents
from megatron.corpus.sample import build_sample_corpus
from megatron.data.indexed import ShardReader
from megatron.data.manifest import load_manifest
from megatron.tokenizer.train import train_sentencepiece

ROOT = Path(__file__).resolve().parents[2]
# Scripts with and without spaces; pairs of English with some of them, and code, come with it.
LANGUAGES = ("eng_Latn", "swa_Latn", "fra_Latn", "rus_Cyrl", "hin_Deva", "tha_Thai", "zho_Hani", "jpn_Jpan", "amh_Ethi")
KILLS = 10


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some corpora of the sample corpus, sentence pairs, and a second file that repeats some of the text."""
    folder = tmp_path_factory.mktemp("raw")
    build_sample_corpus(folder, languages=LANGUAGES)
    texts = texts_of(folder / "swa_Latn" / "part-000.jsonl.zst")
    again = [{"text": text.upper() if number % 2 else f"{text} Tena."} for number, text in enumerate(texts[:40])]
    write(folder / "swa_Latn" / "again.jsonl", again)
    pairs = [
        {"src_text": a, "tgt_text": b, "src_lang": "en", "tgt_lang": "sw"}
        for number in range(60)
        for a, b in [(f"This is sentence number {number} of the file.", f"Hii ni sentensi namba {number} ya faili.")]
    ]
    write(folder / "tatoeba.jsonl", pairs)
    swapped = [
        {"src_text": p["tgt_text"], "tgt_text": p["src_text"], "src_lang": "sw", "tgt_lang": "en"} for p in pairs
    ]
    write(folder / "other-way.jsonl", swapped)
    return folder


def write(path: Path, records: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def texts_of(path: Path) -> list[str]:
    return [document.text for document in read_documents(path)]


@pytest.fixture(scope="module")
def config(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("config")
    texts = [text for path in sorted(raw.rglob("*.zst")) for text in texts_of(path)]
    train_sentencepiece(texts, folder / "tokenizer.model", vocab_size=2000)
    settings = {
        "inputs": [{"path": str(raw)}],
        "output": str(folder / "out"),
        "read": {"piece_bytes": 20_000},
        "dedup": {"paragraphs": True},
        "split": {"valid_bytes": 2000, "test_bytes": 1000},
        "tokenise": [
            {"output": "shards", "tokenizer_type": "SPMTokenizer", "vocab_file": str(folder / "tokenizer.model")}
        ],
    }
    (folder / "corpus.yml").write_text(yaml.safe_dump(settings))
    return folder / "corpus.yml"


def snapshot_of_shards(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (output / "shards").glob("*.bin")}


def command(config: Path, output: Path, *arguments: str, stage: str = "all") -> list[str]:
    tool = [sys.executable, str(ROOT / "tools" / "corpus.py"), stage, "--config", str(config), "--quiet"]
    return [*tool, *arguments, f"output={output}"]


def run(config: Path, output: Path, *arguments: str, stage: str = "all", launcher: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [*launcher, *command(config, output, *arguments, stage=stage)],
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def snapshot(output: Path) -> dict[str, str]:
    """Return the hash of every file that a user gets."""
    paths = [path for part in ("text", "shards") for path in (output / part).rglob("*")]
    paths += [output / "stats.tsv", output / "report.txt"]
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.is_file() and not {".tasks", ".scratch"} & set(path.parts)
    }


@pytest.fixture(scope="module")
def undisturbed(config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], str]:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    printed = run(config, output)
    found = snapshot(output)
    assert len(found) > 30
    return output, found, printed


def test_nothing_is_lost_without_a_count(undisturbed: tuple[Path, dict[str, str], str], config: Path) -> None:
    output = undisturbed[0]
    with Here() as backend:
        pipeline = Pipeline(load_corpus([config], [f"output={output}"]), Runner(backend, show_progress=False))
        pipeline.run("all")  # everything is finished, so this only adds the records up
    counts: dict[tuple[str, str], int] = {}
    for key, documents, _ in pipeline.tally.items():
        counts[(key.stage, key.kind)] = counts.get((key.stage, key.kind), 0) + documents
    for stage, before in (("clean", "in"), ("filters", "in"), ("paragraphs", "in"), ("dedup", "in"), ("split", "in")):
        left = counts.get((stage, "out"), counts.get(("filters", "in"), 0))
        assert counts[(stage, before)] == left + counts.get((stage, "dropped"), 0), stage
    assert counts[("read", "out")] == counts[("clean", "in")] + counts.get(("script", "dropped"), 0)
    assert counts[("filters", "out")] == counts[("paragraphs", "in")]
    assert counts[("paragraphs", "out")] == counts[("dedup", "in")]
    assert counts[("dedup", "out")] == counts[("split", "in")]
    # And what is left is what lies in the files and in the shards.
    documents = {
        split: sum(len(texts_of(path)) for path in (output / "text").rglob(f"{split}-*.zst"))
        for split in ("train", "valid", "test")
    }
    manifest = load_manifest(output / "shards")
    for split in ("train", "valid"):
        assert sum(shard.documents for shard in manifest.split(split)) == documents[split] > 0
    assert documents["test"] > 0
    for shard in manifest.shards:
        ShardReader(manifest.prefix(shard)).verify(shard.content_hash)


def test_a_pair_is_the_same_in_both_directions(undisturbed: tuple[Path, dict[str, str], str]) -> None:
    folders = {path.name for path in (undisturbed[0] / "text").iterdir() if "swa" in path.name and "-" in path.name}
    assert len(folders & {"eng_Latn-swa_Latn", "swa_Latn-eng_Latn"}) == 1, folders


def test_the_tables_are_printed(undisturbed: tuple[Path, dict[str, str], str]) -> None:
    output, _, printed = undisturbed
    for part in ("What became of the language codes", "near_duplicate", "swa_Latn", "bytes/token", "all "):
        assert part in printed
    assert (output / "stats.png").read_bytes().startswith(b"\x89PNG")
    header, *rows = (line.split("\t") for line in (output / "stats.tsv").read_text().splitlines())
    assert all(len(row) == len(header) for row in rows)


@pytest.mark.parametrize("workers", [pytest.param("2", marks=pytest.mark.slow), "4"])
def test_workers_change_nothing(
    undisturbed: tuple[Path, dict[str, str], str], config: Path, tmp_path: Path, workers: str
) -> None:
    run(config, tmp_path / "out", "--workers", workers)
    assert snapshot(tmp_path / "out") == undisturbed[1]


def test_mpi_changes_nothing(undisturbed: tuple[Path, dict[str, str], str], config: Path, tmp_path: Path) -> None:
    if shutil.which("mpirun") is None:
        pytest.skip("needs mpirun (Debian: openmpi-bin), which is not here")
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install mpi4py==4.1.2")
    mpirun = ("mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "3")
    run(config, tmp_path / "out", "--mpi", launcher=mpirun)
    assert snapshot(tmp_path / "out") == undisturbed[1]
    # Started without --mpi, every process would do everything.
    done = subprocess.run([*mpirun, *command(config, tmp_path / "x")], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "give --mpi" in done.stderr


def test_a_launcher_of_another_mpi_is_noticed(config: Path, tmp_path: Path) -> None:
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install mpi4py==4.1.2")
    if shutil.which("mpirun") is None:
        pytest.skip("needs an MPI library (Debian: openmpi-bin), which is not here")
    environment = {**os.environ, "PMI_SIZE": "4"}
    done = subprocess.run(
        command(config, tmp_path / "out", "--mpi"), capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 1
    assert "the launcher has started 4 processes, but MPI sees 1" in done.stderr
    assert not (tmp_path / "out").exists()


def test_processes_end_together_when_the_first_has_a_bug(tmp_path: Path) -> None:
    if shutil.which("mpirun") is None:
        pytest.skip("needs mpirun (Debian: openmpi-bin), which is not here")
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install mpi4py==4.1.2")
    code = """
import sys
from pathlib import Path
from megatron.corpus.engine.mpi import Mpi
from megatron.corpus.engine.run import Runner
from megatron.corpus.engine.task import Task
def work(outputs, report):
    if mpi.rank == 0:
        raise MemoryError("a bug in the first process")
    return {"large": "x" * 300_000}
mpi = Mpi(None)
if mpi.rank:
    mpi.serve()
with mpi:
    Runner(mpi, show_progress=False).run("x", Path(sys.argv[1]), [Task(str(n), "1", 1, work) for n in range(9)])
"""
    mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "3", sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(mpirun, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "a bug in the first process" in done.stderr


def test_parts_of_an_array_change_nothing(
    undisturbed: tuple[Path, dict[str, str], str], config: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    settings = load_corpus([config], [f"output={output}"])

    def part_is_done(part: int, wait_seconds: float = 0.0) -> bool:
        with Here() as backend:
            try:
                runner = Runner(backend, Share(part, 3), False, wait_seconds)
                Pipeline(settings, runner).run("all")
            except CorpusError as error:
                assert "not finished" in str(error) or "not tokenised" in str(error)
                return False
            return True

    assert not part_is_done(0)
    started = time.monotonic()
    with ThreadPoolExecutor(3) as pool:  # parts that wait for each other, as in an array
        assert all(pool.map(lambda part: part_is_done(part, 120.0), range(3)))
    assert time.monotonic() - started < 110, "a part waited for what another had removed"
    assert (output / "work" / "shards-shards").is_dir()
    assert snapshot_of_shards(output) == snapshot_of_shards(undisturbed[0])
    shutil.rmtree(output)
    for _ in range(20):  # each round, every part goes as far as the others let it
        done = [part_is_done(part) for part in range(3)]  # a list: none may be left out
        if all(done):
            break
    run(config, output)
    assert snapshot(output) == undisturbed[1]


def test_a_changed_setting_does_only_what_depends_on_it(
    undisturbed: tuple[Path, dict[str, str], str], config: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(undisturbed[0], output)

    def done_with(*settings: str) -> dict[str, int]:
        with Here() as backend:
            runner = Runner(backend, show_progress=False)
            pipeline = Pipeline(load_corpus([config], [f"output={output}", *settings]), runner)
            pipeline.run("split")
            return {name: done for name, (done, _) in runner.done.items()}

    assert not any(done_with().values())
    changed = done_with("split.valid_bytes=1000")
    assert {name for name, count in changed.items() if count} == {"candidates", "held out", "split"}
    done_with()
    whole = sum(done_with("split.valid_bytes=1500").values())
    done_with()
    name = min(path.name for path in (output / "text").iterdir() if not path.name.startswith("."))
    assert 0 < sum(done_with(f"split.valid_bytes_for={{{name}: 1500}}").values()) < whole / 2
    changed = done_with("parallel.separator='\\n\\n\\n'")
    assert {name for name, count in changed.items() if count} == {"candidates", "held out", "split"}  # as before
    changed = done_with("filters.limits={min_characters: 100}")
    assert changed["read"] == 0
    assert changed["clean"] > 0
    assert done_with("languages.map={swa: swh}")["read"] > 0


def test_what_killed_processes_left_among_the_shards_is_removed(
    undisturbed: tuple[Path, dict[str, str], str], config: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(undisturbed[0], output)
    shards = output / "shards"
    shutil.copytree(shards, shards / ".swa_Latn.joining")  # as a join that was killed leaves it
    (shards / ".manifest.json.tmp4194305-0a").write_text("{")  # no process has this number
    (shards / "swa_Latn_text_document.json").unlink()
    run(config, output)
    assert [path.name for path in shards.iterdir() if path.name.startswith(".")] == []
    assert snapshot(output) == undisturbed[1]


def kill_at_random(config: Path, output: Path, seconds: float) -> None:
    process = subprocess.Popen(
        command(config, output, "--workers", "2"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kills(config: Path, output: Path, count: int, seconds: float) -> int:
    """Kill a run at random moments; return how many tasks it had finished before the last."""
    chance = random.Random(1)
    for _ in range(count):
        kill_at_random(config, output, chance.uniform(0.3, seconds))
    return sum(1 for _ in output.rglob(".tasks/**/*.json"))


def test_a_killed_run_goes_on(undisturbed: tuple[Path, dict[str, str], str], config: Path, tmp_path: Path) -> None:
    finished = kills(config, tmp_path / "out", 2, 6)
    assert finished > 0
    run(config, tmp_path / "out")
    assert snapshot(tmp_path / "out") == undisturbed[1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_kills_change_nothing(
    undisturbed: tuple[Path, dict[str, str], str], config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = kills(config, tmp_path / "out", KILLS, 4.5)  # a start and a pass or two: kills hit all of them
    run(config, tmp_path / "out", "--workers", "2")
    assert snapshot(tmp_path / "out") == undisturbed[1]
    total = sum(1 for _ in (tmp_path / "out").rglob(".tasks/**/*.json"))
    with capsys.disabled():
        sys.stdout.write(f"{KILLS} kills; {finished} of {total} tasks were finished before the last start\n")
