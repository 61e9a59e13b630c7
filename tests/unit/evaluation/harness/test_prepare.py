"""Every benchmark from the files that it comes as: names of files, columns and types are those of the originals."""

from __future__ import annotations

import csv
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from megatron.evaluation.benchmarks.manifest import load_manifest
from megatron.evaluation.harness.benchmarks import BENCHMARKS
from megatron.evaluation.harness.installed import HarnessError
from megatron.evaluation.harness.plan import plan_jobs
from megatron.evaluation.harness.prepare import prepare_harness, shot_lines
from megatron.utils.files import fingerprint_file
from tests.harness_data import ROWS, mgsm, write_lines

ROOT = Path(__file__).resolve().parents[4]
FIELDS = {benchmark.data: list(benchmark.fields) for benchmark in BENCHMARKS.values()}


def rows_of(name: str, language: str, count: int, **more: Any) -> list[dict[str, Any]]:
    return [ROWS[name](language, number, **more) for number in range(count)]


def written(data: Path, name: str, language: str, split: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (data / name / language / f"{split}.jsonl").read_bytes().splitlines()]


def kept(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{field: row.get(field) for field in FIELDS[name]} for row in rows]


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    arrow = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    importlib.import_module("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows), path)


def write_tsv(path: Path, rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("name", ["xnli", "xcopa", "mgsm"])
def test_parquet_of_the_hub(name: str, tmp_path: Path) -> None:
    up = tmp_path / "up"
    for key, language in (("sw", "swh_Latn"), ("zh", "zho_Hans")):
        rows = rows_of(name, language, 5)
        write_parquet(up / key / "test-00000-of-00002.parquet", rows[:3])
        write_parquet(up / key / "test-00001-of-00002.parquet", rows[3:])
        write_parquet(up / key / "validation-00000-of-00001.parquet", rows_of(name, language, 2))
    write_parquet(up / "all_languages" / "test-00000-of-00001.parquet", rows_of(name, "swh_Latn", 1))
    write_parquet(up / "translation-zh" / "test-00000-of-00001.parquet", rows_of(name, "eng_Latn", 1))
    (up / "README.md").write_text("about")
    manifest = prepare_harness(name, up, tmp_path / "data")
    assert written(tmp_path / "data", name, "zho_Hans", "test") == kept(name, rows_of(name, "zho_Hans", 5))
    swahili = manifest.languages["swh_Latn"]
    assert {split: file.items for split, file in swahili.files.items()} == {"dev": 2, "test": 5}
    assert len(swahili.sources) == 3 and len(manifest.sources) == 6 and manifest.dropped == {}
    assert sorted(manifest.unused_files) == [
        "README.md", "all_languages/test-00000-of-00001.parquet", "translation-zh/test-00000-of-00001.parquet",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "file", "language", "split"),
    [
        ("belebele", "data/swh_Latn.jsonl", "swh_Latn", "test"),
        ("belebele", "data/zho_Hant.jsonl", "zho_Hant", "test"),
        ("xwinograd", "test/jp.jsonl", "jpn_Jpan", "test"),
        ("arc", "data/id/val.jsonl", "ind_Latn", "dev"),
        ("arc", "data/es/train.jsonl", "spa_Latn", "train"),
        ("xcopa", "data/et/val.et.jsonl", "est_Latn", "dev"),
        ("xcopa", "data/it/test.it.jsonl", "ita_Latn", "test"),
    ],
)
def test_json_lines_of_the_hub_and_of_authors(
    name: str, file: str, language: str, split: str, tmp_path: Path
) -> None:
    rows = rows_of(name, "eng_Latn", 3)
    write_lines(tmp_path / "up" / file, rows)
    manifest = prepare_harness(name, tmp_path / "up", tmp_path / "data")
    assert list(manifest.languages) == [language]
    assert written(tmp_path / "data", name, language, split) == kept(name, rows)


def test_stories_as_tab_separated_values(tmp_path: Path) -> None:
    rows = rows_of("xstorycloze", "swh_Latn", 3)
    rows[1]["sentence_quiz1"] = 'Alisema "ndiyo" mara mbili.'
    rows[2]["input_sentence_1"] = '"Ndiyo.'
    header = ["InputStoryid", *(f"InputSentence{n}" for n in range(1, 5)), "RandomFifthSentenceQuiz1",
              "RandomFifthSentenceQuiz2", "AnswerRightEnding"]  # fmt: skip
    cells = [[str(value) for value in row.values()] for row in rows]
    for split in ("train", "eval"):
        write_tsv(tmp_path / "up" / f"spring2016.val.sw.tsv.split_20_80_{split}.tsv", [header, *cells])
    prepare_harness("xstorycloze", tmp_path / "up", tmp_path / "data")
    for split in ("train", "test"):
        assert written(tmp_path / "data", "xstorycloze", "swh_Latn", split) == kept("xstorycloze", rows)


def test_sums_as_tab_separated_values_with_worked_ones_from_their_python_file(tmp_path: Path) -> None:
    up = tmp_path / "up"
    write_tsv(up / "mgsm_sw.tsv", [["Swali la kwanza?", "1,234"], ["La pili?", "-5"], ["La tatu?", "18.5"]])
    worked = [mgsm("swh_Latn", number, worked=True) for number in range(3)]
    literal = {"sw": {str(n): {"q": row["question"], "a": row["answer"]} for n, row in enumerate(worked, start=1)}}
    (up / "exemplars.py").write_text(
        '"""Prompts."""\nimport os\nos.mkdir("ran")\nEXEMPLAR_NUMBER_ANSWERS = [1, 3, 5]\n'
        f"OTHER = call()\nMGSM_EXEMPLARS = {literal!r}\n"
    )
    manifest = prepare_harness("mgsm", up, tmp_path / "data")
    assert written(tmp_path / "data", "mgsm", "swh_Latn", "test") == [
        {"question": "Swali la kwanza?", "answer": None, "answer_number": 1234},
        {"question": "La pili?", "answer": None, "answer_number": -5},
    ]
    assert written(tmp_path / "data", "mgsm", "swh_Latn", "train") == kept("mgsm", worked)
    assert manifest.languages["swh_Latn"].examples == (
        "mgsm_sw.tsv, row 3: answer_number is '18.5', it must be a whole number",
    )
    assert set(manifest.sources) == {"mgsm_sw.tsv", "exemplars.py"}
    assert not Path("ran").exists()
    [job] = plan_jobs(tmp_path / "data", tasks=["mgsm-cot"])
    assert (job.language, job.num_fewshot, job.test.count) == ("swh_Latn", 3, 2)


def test_sums_without_worked_ones_are_told_at_once(tmp_path: Path) -> None:
    write_tsv(tmp_path / "up" / "mgsm_sw.tsv", [["Swali?", "1"]])
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "prepare_benchmark.py", "mgsm", "--input", tmp_path / "up",
         "--output", tmp_path / "data"], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "no train.jsonl in 1 of 1 languages (swh_Latn)" in done.stdout
    assert "mgsm-cot (3 shots)" in done.stdout and "put exemplars.py beside the other files" in done.stdout
    assert "--num-fewshot mgsm-direct=0 mgsm-cot=0 mgsm-cot-eng=0" in done.stdout
    with pytest.raises(HarnessError, match=r"train.jsonl"):
        plan_jobs(tmp_path / "data", tasks=["mgsm-cot"])
    write_lines(tmp_path / "both" / "sw" / "train.jsonl", [mgsm("swh_Latn", n, worked=True) for n in range(3)])
    write_lines(tmp_path / "both" / "sw" / "test.jsonl", [mgsm("swh_Latn", 0)])
    assert not [*shot_lines("mgsm", prepare_harness("mgsm", tmp_path / "both", tmp_path / "data"))]
    write_lines(tmp_path / "own" / "test.sw.jsonl", rows_of("xcopa", "swh_Latn", 2))
    assert not [*shot_lines("xcopa", prepare_harness("xcopa", tmp_path / "own", tmp_path / "data"))], "it has no shots"


@pytest.mark.parametrize("text", ["x = (", "MGSM_EXEMPLARS = open('x')", "a = 1", "MGSM_EXEMPLARS = " + "(" * 9999])
def test_another_python_file_is_refused(text: str, tmp_path: Path) -> None:
    write_tsv(tmp_path / "mgsm_sw.tsv", [["Swali?", "1"]])
    (tmp_path / "exemplars.py").write_text(text)
    with pytest.raises(HarnessError, match="is not MGSM's file of worked questions"):
        prepare_harness("mgsm", tmp_path, tmp_path / "data")


def test_every_benchmark_makes_what_its_tasks_read(tmp_path: Path) -> None:
    keys = {benchmark.data: benchmark.languages["zho_Hans"] for benchmark in BENCHMARKS.values()}
    for name, key in keys.items():
        for split in ("train", "dev", "test"):
            write_lines(tmp_path / "up" / name / key / f"{split}.jsonl", rows_of(name, "zho_Hans", 6))
        prepare_harness(name, tmp_path / "up" / name, tmp_path / "data")
    assert {job.name for job in plan_jobs(tmp_path / "data", languages=["zho_Hans"])} == set(BENCHMARKS)
    changed = tmp_path / "data" / "xnli" / "zho_Hans" / "dev.jsonl"
    changed.write_bytes(changed.read_bytes() + b"\n")
    (tmp_path / "data" / "arc" / "manifest.json").write_text("{")
    with pytest.raises(HarnessError) as caught:
        plan_jobs(tmp_path / "data")
    assert "xnli/zho_Hans/dev.jsonl is not the file that its manifest describes" in str(caught.value)
    assert "arc/manifest.json cannot be read" in str(caught.value)


def test_types_that_differ_from_one_release_to_another_become_one(tmp_path: Path) -> None:
    row = {**rows_of("belebele", "swh_Latn", 1)[0], "correct_answer_num": 2}
    write_lines(tmp_path / "up" / "swh_Latn.jsonl", [row])
    prepare_harness("belebele", tmp_path / "up", tmp_path / "data")
    assert written(tmp_path / "data", "belebele", "swh_Latn", "test")[0]["correct_answer_num"] == "2"
    labels = rows_of("xnli", "swh_Latn", 2)
    (tmp_path / "csv" / "sw").mkdir(parents=True)
    with (tmp_path / "csv" / "sw" / "dev.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, labels[0].keys())
        table.writeheader()
        table.writerows([{**labels[0], "premise": "two\nlines, one text"}, labels[1]])
    prepare_harness("xnli", tmp_path / "csv", tmp_path / "data")
    found = written(tmp_path / "data", "xnli", "swh_Latn", "dev")
    assert [row["label"] for row in found] == [0, 1] and found[0]["premise"] == "two\nlines, one text"


def test_the_same_files_give_the_same_bytes_and_what_is_gone_upstream_goes(tmp_path: Path) -> None:
    up, data = tmp_path / "up", tmp_path / "data"
    for split in ("val", "test"):
        write_lines(up / "sw" / f"{split}.jsonl", rows_of("xcopa", "swh_Latn", 3))

    def hashes() -> dict[str, str]:
        return {path.name: fingerprint_file(path) for path in data.rglob("*.json*")}

    prepare_harness("xcopa", up, data)
    first = hashes()
    prepare_harness("xcopa", up, data)
    assert hashes() == first and set(first) == {"manifest.json", "dev.jsonl", "test.jsonl"}
    (up / "sw" / "val.jsonl").unlink()
    manifest = prepare_harness("xcopa", up, data)
    assert set(hashes()) == {"manifest.json", "test.jsonl"}
    assert manifest == load_manifest(data / "xcopa")


def test_machine_translations_beside_a_benchmark_are_not_mixed_in(tmp_path: Path) -> None:
    for folder in ("data", "data-gmt"):
        write_lines(tmp_path / folder / "sw" / "test.sw.jsonl", rows_of("xcopa", "swh_Latn", 2))
    with pytest.raises(HarnessError, match=r"more than once: data/sw/test.sw.jsonl, data-gmt/sw/test.sw.jsonl"):
        prepare_harness("xcopa", tmp_path, tmp_path / "out")
    assert prepare_harness("xcopa", tmp_path / "data", tmp_path / "out").items == 2


def test_numbered_pieces_are_one_split(tmp_path: Path) -> None:
    for number, rows in enumerate((rows_of("xcopa", "swh_Latn", 2), rows_of("xcopa", "swh_Latn", 3))):
        write_parquet(tmp_path / "sw" / "test" / f"000{number}.parquet", rows)
    manifest = prepare_harness("xcopa", tmp_path, tmp_path / "out")
    assert manifest.languages["swh_Latn"].files["test"].items == 5


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    good, bad = rows_of("xcopa", "swh_Latn", 1)[0], {**rows_of("xcopa", "swh_Latn", 2)[1], "question": "why"}
    write_lines(tmp_path / "up" / "test.sw.jsonl", [good, bad])
    with (tmp_path / "up" / "test.sw.jsonl").open("ab") as file:
        file.write(b"{\n[]\n\n")
    manifest = prepare_harness("xcopa", tmp_path / "up", tmp_path / "data")
    language = manifest.languages["swh_Latn"]
    assert language.files["test"].items == 1
    assert language.dropped == manifest.dropped == {"not_an_object": 1, "not_json": 1, "wrong_fields": 1}
    assert language.examples[0] == "test.sw.jsonl, row 2: question is 'why', it must be one of 'cause', 'effect'"
    assert all(example.startswith("test.sw.jsonl") for example in language.examples) and len(language.examples) == 3


def test_what_cannot_be_prepared_is_refused(tmp_path: Path) -> None:
    up, data = tmp_path / "up", tmp_path / "data"
    with pytest.raises(HarnessError, match="there is no benchmark glue; there are xnli, xcopa"):
        prepare_harness("glue", up, data)
    with pytest.raises(HarnessError, match="is no folder"):
        prepare_harness("xcopa", up, data)
    write_lines(up / "xx" / "test.jsonl", rows_of("xcopa", "swh_Latn", 1))
    with pytest.raises(HarnessError, match="holds no file of xcopa; languages are named et, ht"):
        prepare_harness("xcopa", up, data)
    write_lines(up / "sw" / "test.jsonl", [{"a": 1}])
    with pytest.raises(HarnessError, match=r"has no row that can be used: sw/test.jsonl, row 1: premise is None"):
        prepare_harness("xcopa", up, data)
    (up / "sw" / "test.csv").write_text("a,b\n1,2\n")
    with pytest.raises(HarnessError, match=r"test comes more than once: sw/test.csv, sw/test.jsonl; keep one"):
        prepare_harness("xcopa", up, data)
    (up / "sw" / "test.csv").unlink()
    (up / "sw" / "test.jsonl").unlink()
    (up / "sw" / "test.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(ValueError, match=r"test.parquet: cannot be read"):
        prepare_harness("xcopa", up, data)


def test_the_tool_tells_what_there_is_without_torch(tmp_path: Path) -> None:
    write_lines(tmp_path / "up" / "test.sw.jsonl", [*rows_of("xcopa", "swh_Latn", 2), {"premise": "x"}])
    tool = ROOT / "tools" / "prepare_benchmark.py"
    code = (
        "import sys, runpy; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
        f"runpy.run_path({str(tool)!r}, run_name='__main__')"
    )
    arguments = ["t", "xcopa", "--input", str(tmp_path / "up"), "--output", str(tmp_path / "data")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["1 languages, 2 items: test 2", "left out: 1 rows (wrong_fields)"]
