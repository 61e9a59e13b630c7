from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.config.benchmark_load import load_benchmark
from megatron.evaluation.benchmarks.data import BenchmarkData, chosen_languages
from megatron.evaluation.benchmarks.manifest import BenchmarkDataError, load_manifest
from megatron.evaluation.benchmarks.prepare.run import prepare

from .upstream import flores200, sib200


@pytest.fixture
def data(tmp_path: Path) -> Path:
    prepare(load_benchmark("sib200"), sib200(tmp_path / "sib"), tmp_path / "data", show_progress=False)
    prepare(load_benchmark("flores200-from-eng"), flores200(tmp_path / "fl"), tmp_path / "data", show_progress=False)
    return tmp_path / "data"


def changed(path: Path, change: object) -> None:
    record = json.loads(path.read_text())
    change(record)  # type: ignore[operator]
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda record: record.update(version=2), "version 2, not 1"),
        (lambda record: record.update(is_complete=False), "was interrupted"),
        (lambda record: record["languages"].update({"../../x": record["languages"]["eng_Latn"]}), "no corpus code"),
        (lambda record: record["languages"]["eng_Latn"].pop("files"), "cannot be read"),
        (lambda record: record["languages"]["eng_Latn"].update(more=1), "cannot be read"),
        (lambda record: record.pop("sources"), "cannot be read"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_told(data: Path, change: object, told: str) -> None:
    changed(data / "sib200" / "manifest.json", change)
    with pytest.raises(BenchmarkDataError, match=told):
        BenchmarkData(load_benchmark("sib200"), data)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60) | st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5).map(
    lambda value: json.dumps({"version": 1, "languages": value}).encode()
))  # fmt: skip
def test_any_file_is_a_manifest_or_an_error(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "manifest.json").write_bytes(content)
        with pytest.raises(BenchmarkDataError):
            load_manifest(Path(folder))


def test_records_without_an_id_are_told(data: Path) -> None:
    path = data / "sib200" / "swh_Latn" / "test.jsonl"
    path.write_text('{"text": "x"}\n')
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    changed(
        data / "sib200" / "manifest.json",
        lambda record: record["languages"]["swh_Latn"]["files"]["test"].update(sha256=sha256),
    )
    with pytest.raises(BenchmarkDataError, match=r"test\.jsonl, line 1: no record with an `id`; prepare the b"):
        BenchmarkData(load_benchmark("sib200"), data).items("swh_Latn")


def test_pairs_of_sentences(data: Path) -> None:
    there = BenchmarkData(load_benchmark("flores200-from-eng"), data)
    assert there.languages == ["kor_Kore", "swh_Latn"]
    assert there.items("swh_Latn").test[0] == {"id": "1", "source": "test 0 eng_Latn", "target": "test 0 swh_Latn"}
    back = BenchmarkData(load_benchmark("flores200-into-eng"), data)
    assert back.items("swh_Latn").shots[5] == {"id": "6", "source": "dev 5 swh_Latn", "target": "dev 5 eng_Latn"}
    assert sorted(there.hashes("swh_Latn")) == ["eng_Latn/dev", "eng_Latn/test", "swh_Latn/dev", "swh_Latn/test"]
    (data / "flores200" / "eng_Latn" / "dev.jsonl").unlink()
    with pytest.raises(BenchmarkDataError, match="cannot be read"):
        there.items("swh_Latn")
    changed(data / "flores200" / "manifest.json", lambda record: record["languages"].pop("eng_Latn"))
    with pytest.raises(BenchmarkDataError, match="eng_Latn, the pivot of flores200-from-eng, has no test and dev data"):
        BenchmarkData(load_benchmark("flores200-from-eng"), data)


def test_scripts_of_a_language_belong_to_what_decides_its_scores(tmp_path: Path) -> None:
    definition, upstream = load_benchmark("flores200-from-eng"), tmp_path / "fl"
    codes = ["eng_Latn", "swh_Latn", "mni_Beng", "mni_Mtei"]
    kept = {}
    for have in (codes[:3], codes):
        prepare(definition, flores200(upstream, have), tmp_path / "data", show_progress=False)
        there = BenchmarkData(definition, tmp_path / "data")
        assert there.items("swh_Latn").scripts == ("Latn",)
        assert there.items("mni_Beng").scripts == tuple(code[4:] for code in have if code.startswith("mni"))
        kept |= {(len(have), code): there.hashes(code).get(f"{code}/scripts") for code in there.languages}
    # The list names the one and not the other; prompts of other benchmarks name none.
    assert {key for key, scripts in kept.items() if scripts} == {(4, "mni_Mtei")} and kept[4, "mni_Mtei"] == "Beng Mtei"
    nameless = definition.model_copy(update={"language_names": {}, "instruction": "", "prompt": "{source}"})
    assert "mni_Mtei/scripts" not in BenchmarkData(nameless, tmp_path / "data").hashes("mni_Mtei")


def test_languages_that_are_asked_for() -> None:
    available = ["srp_Cyrl", "srp_Latn", "swh_Latn"]
    assert chosen_languages(available, None) == (available, [])
    assert chosen_languages(available, ["swh_Latn", "srp"]) == (available, [])
    assert chosen_languages(available, ["srp_Latn", "xho", "zul_Latn"]) == (["srp_Latn"], ["xho", "zul_Latn"])
