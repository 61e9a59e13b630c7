from __future__ import annotations

import csv
import hashlib
import shutil
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.benchmark_load import load_benchmark
from megatron.evaluation.benchmarks.manifest import BenchmarkDataError, load_manifest
from megatron.evaluation.benchmarks.prepare import run as preparing
from megatron.evaluation.benchmarks.prepare.codes import CodeMap
from megatron.evaluation.benchmarks.prepare.report import code_lines, manifest_lines, unused_lines
from megatron.evaluation.benchmarks.prepare.run import prepare, with_languages
from megatron.evaluation.benchmarks.prepare.sources import find_sources
from megatron.evaluation.benchmarks.prepare.varieties import VARIETIES
from megatron.evaluation.harness.benchmarks import BENCHMARKS
from megatron.languages.tables import macrolanguages

from .upstream import flores200, jsonl, sib200, write


def prepared(name: str, folder: Path, out: Path):  # type: ignore[no-untyped-def]
    return prepare(load_benchmark(name), folder, out, show_progress=False)


def records(path: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_sib200(tmp_path: Path) -> None:
    upstream = sib200(tmp_path / "up")
    manifest = prepared("sib200", upstream, tmp_path / "data")
    assert sorted(manifest.languages) == ["eng_Latn", "swh_Latn"]
    test = tmp_path / "data" / "sib200" / "eng_Latn" / "test.jsonl"
    assert records(test)[1] == {"id": "1", "text": "Sentence 1 of test in eng_Latn.", "label": "travel"}
    file = manifest.languages["eng_Latn"].files["test"]
    assert (file.items, file.sha256) == (9, hashlib.sha256(test.read_bytes()).hexdigest())
    source = upstream / "eng_Latn" / "test.tsv"
    assert manifest.sources["eng_Latn/test.tsv"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert manifest.items == 2 * (14 + 3 + 9) and load_manifest(tmp_path / "data" / "sib200") == manifest


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    rows = ["id\tcategory\ttext", "1\ttravel\tgood", "2\tcooking\tno label", "3\ttravel", "4\ttravel\t  ", "5\ttravel"]
    write(tmp_path / "up" / "swh_Latn" / "test.tsv", "\n".join(rows))
    with (tmp_path / "up" / "swh_Latn" / "test.tsv").open("ab") as file:
        file.write(b"\n6\ttravel\t\xff\xfe\n" + b"7\ttravel\t" + b"x" * (17 << 20) + b"\n")
    write(tmp_path / "up" / "notes.md", "unused")
    write(tmp_path / "up" / "qqqqq" / "test.tsv", "1\ttravel\tunknown language\n")
    write(tmp_path / "up" / "deu_Latn" / "test.tsv", "\n")
    manifest = prepared("sib200", tmp_path / "up", tmp_path / "data")
    found = {"unknown_label": 1, "wrong_columns": 2, "blank": 1, "not_utf8": 1, "too_long": 1}
    assert dict(manifest.dropped) == found == dict(manifest.languages["swh_Latn"].dropped)
    assert manifest.unmapped["qqqqq"]["reason"] == "no known language" and manifest.unmapped["qqqqq"]["items"] == 1
    assert manifest.unmapped["deu_Latn"]["reason"] == "no row can be used"
    assert manifest.unused_files == ("notes.md",)
    told = "\n".join(manifest_lines(manifest))
    assert "1 rows (unknown_label)" in told and "qqqqq: no known language (1 rows)" in told and "notes.md" in told


def test_taxi1500_without_header_and_with_quotation_marks(tmp_path: Path) -> None:
    lines = ['1\tFaith\t"He said ""go"" and went"', '2\tSin\t"And so, he said', "3\tGrace\tx"]
    write(tmp_path / "up" / "swh_Latn" / "swh_Latn_train.tsv", "\n".join(lines))
    prepared("taxi1500", tmp_path / "up", tmp_path / "data")
    found = records(tmp_path / "data" / "taxi1500" / "swh_Latn" / "train.jsonl")
    assert [record["text"] for record in found] == ['He said "go" and went', "And so, he said", "x"]
    assert [record["id"] for record in found] == ["1", "2", "3"]


def test_sentences_stay_aligned_over_blank_lines(tmp_path: Path) -> None:
    flores200(tmp_path / "up")
    write(tmp_path / "up" / "devtest" / "swh_Latn.devtest", "one\n\nthree\n")
    manifest = prepared("flores200-from-eng", tmp_path / "up", tmp_path / "data")
    found = records(tmp_path / "data" / "flores200" / "swh_Latn" / "test.jsonl")
    assert found == [{"id": "1", "text": "one"}, {"id": "3", "text": "three"}]
    assert sorted(manifest.languages) == ["eng_Latn", "kor_Kore", "swh_Latn"] and manifest.dropped == {"blank": 1}
    assert sorted(manifest.languages["kor_Kore"].files) == ["dev", "test"]


def test_xlsum_by_english_names(tmp_path: Path) -> None:
    row = {"id": "a", "url": "u", "title": "t", "text": "Long text.", "summary": "Short."}
    for name in ("english_train", "english_val", "english_test", "chinese_simplified_test", "scottish_gaelic_test"):
        jsonl(tmp_path / "up" / f"{name}.jsonl", [row, {**row, "summary": 5}])
    manifest = prepared("xlsum", tmp_path / "up", tmp_path / "data")
    assert sorted(manifest.languages) == ["eng_Latn", "gla_Latn", "zho_Hans"]
    assert sorted(manifest.languages["eng_Latn"].files) == ["dev", "test", "train"]
    found = records(tmp_path / "data" / "xlsum" / "eng_Latn" / "test.jsonl")
    assert found == [{"id": "a", "text": "Long text.", "summary": "Short."}]
    assert manifest.dropped == {"wrong_fields": 5}


def test_massivesumm_rows_name_their_language(tmp_path: Path) -> None:
    rows = [
        {"language": "swa", "text": "Maandishi marefu ya habari.", "summary": "Muhtasari mfupi"},
        {"language": "amh", "text": "ረጅም ጽሑፍ ነው።", "summary": "አጭር ማጠቃለያ ጽሑፍ"},
        {"language": "srp", "text": "Дугачак текст вести.", "summary": "Кратак сажетак"},
    ]
    jsonl(tmp_path / "up" / "train.jsonl", rows)
    manifest = prepared("massivesumm-short", tmp_path / "up", tmp_path / "data")
    assert sorted(manifest.languages) == ["amh_Ethi", "srp_Cyrl", "swa_Latn"]
    assert {code: language.mapped for code, language in manifest.languages.items()} == {
        "amh_Ethi": "text", "srp_Cyrl": "definition", "swa_Latn": "text",
    }  # fmt: skip


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_aya_in_each_of_its_formats(tmp_path: Path, ending: str) -> None:
    rows = [
        {"id": 1, "inputs": 'Say "a,\nb"', "targets": "ab", "language": "eng", "script": "Latn", "split": "test"},
        {"id": 2, "inputs": "Sema", "targets": "Ndiyo", "language": "swh", "script": "Latn", "split": "test"},
        {"id": 2, "inputs": "Tena", "targets": "Sawa", "language": "swh", "script": "Latn", "split": "test"},
    ]
    path = tmp_path / "up" / "aya_human_annotated" / f"test-00000-of-00001.{ending}"
    path.parent.mkdir(parents=True)
    if ending == "jsonl":
        jsonl(path, rows)
    elif ending == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.Table.from_pylist(rows), path)
    manifest = prepared("aya", tmp_path / "up", tmp_path / "data")
    assert sorted(manifest.languages) == ["eng_Latn", "swh_Latn"] and manifest.dropped == {}
    assert records(tmp_path / "data" / "aya" / "eng_Latn" / "test.jsonl") == [
        {"id": "1", "prompt": 'Say "a,\nb"', "target": "ab"}
    ]
    swahili = records(tmp_path / "data" / "aya" / "swh_Latn" / "test.jsonl")
    assert [record["id"] for record in swahili] == ["2", "2~2"]


def test_polywrite(tmp_path: Path) -> None:
    row = {
        "category": "email", "name": "e1", "prompt_en": "Write", "lang_script": "swa_Latn", "uuid": "u1",
        "prompt_translated": "Andika", "prompt_backtranslated": "Write", "bleu": 100.0, "chrf++": 99.5,
    }  # fmt: skip
    jsonl(tmp_path / "up" / "swa_Latn.jsonl", [row])
    prepared("polywrite", tmp_path / "up", tmp_path / "data")
    assert records(tmp_path / "data" / "polywrite" / "swa_Latn" / "test.jsonl") == [
        {
            "id": "u1", "prompt": "Andika", "name": "e1", "category": "email", "original": "Write",
            "back_translation": "Write", "bleu": 100.0, "chrf++": 99.5,
        }
    ]  # fmt: skip


def test_texts_in_lines_and_objects_and_bibles(tmp_path: Path) -> None:
    write(tmp_path / "up" / "swh_Latn.txt", "moja\n\nmbili\n")
    jsonl(tmp_path / "up" / "yor_Latn" / "test.jsonl", [{"text": "ẹ káàárọ̀"}])
    bible = "# language_name: German\n01001001\tIm Anfang schuf Gott\n01001002\t\n"
    write(tmp_path / "up" / "deu-x-bible-a.txt", bible)
    write(tmp_path / "up" / "deu-x-bible-b.txt", "01001001\tAm Anfang schuf Gott\n")
    manifest = prepared("pbc", tmp_path / "up", tmp_path / "data")
    assert sorted(manifest.languages) == ["deu_Latn", "swh_Latn", "yor_Latn"]
    assert manifest.dropped == {"blank": 1, "no_verse": 2}
    assert records(tmp_path / "data" / "pbc" / "deu_Latn" / "test.jsonl") == [
        {"id": "01001001", "text": "Im Anfang schuf Gott"}, {"id": "01001001~2", "text": "Am Anfang schuf Gott"},
    ]  # fmt: skip


def test_two_codes_of_one_language_are_both_told(tmp_path: Path) -> None:
    sib200(tmp_path / "up", languages=("eng_Latn", "en"))
    manifest = prepared("sib200", tmp_path / "up", tmp_path / "data")
    assert list(manifest.languages) == ["eng_Latn"] and manifest.languages["eng_Latn"].upstream == "eng_Latn"
    assert "becomes eng_Latn, as 'eng_Latn' does" in manifest.unmapped["en"]["reason"], "the exact one is kept"
    rows = [{"language": code, "text": f"Long {code}.", "summary": "S"} for code in ("eng", "eng_Latn")]
    jsonl(tmp_path / "rows" / "test.jsonl", rows)
    manifest = prepared("massivesumm-short", tmp_path / "rows", tmp_path / "data")
    assert manifest.languages["eng_Latn"].upstream == "eng_Latn" and "eng" in manifest.unmapped


def test_the_same_input_gives_the_same_bytes_anywhere(tmp_path: Path) -> None:
    sib200(tmp_path / "a" / "up")
    write(tmp_path / "a" / "up" / "yor_Latn" / "test.tsv", "1\tcooking\tx\n2\ttravel\ty\n")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for name in ("a", "b"):
        prepared("sib200", tmp_path / name / "up", tmp_path / name / "data")
        (tmp_path / name / "data" / "sib200" / ".lock").unlink()
    assert contents(tmp_path / "a" / "data") == contents(tmp_path / "b" / "data")


def test_what_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = sib200(tmp_path / "up", languages=("eng_Latn", "swh_Latn", "yor_Latn"))
    write(upstream / "swh_Latn" / "dev.tsv", "1\tcooking\tx\n")
    first = prepared("sib200", upstream, tmp_path / "data")
    before = contents(tmp_path / "data")
    written = []
    write_language = preparing.write_language
    monkeypatch.setattr(preparing, "write_language", lambda *a: written.append(a[0].name) or write_language(*a))
    assert prepared("sib200", upstream, tmp_path / "data") == first and written == []
    assert contents(tmp_path / "data") == before
    with (tmp_path / "data" / "sib200" / "yor_Latn" / "test.jsonl").open("a") as file:
        file.write("{}\n")
    write(upstream / "swh_Latn" / "dev.tsv", "1\tcooking\tx\n2\ttravel\ty\n")
    again = prepared("sib200", upstream, tmp_path / "data")
    assert written == ["swh_Latn", "yor_Latn"] and again.languages["swh_Latn"].files["dev"].items == 1
    assert contents(tmp_path / "data")["sib200/yor_Latn/test.jsonl"] == before["sib200/yor_Latn/test.jsonl"]


def test_an_interrupted_call_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = sib200(tmp_path / "up", languages=("eng_Latn", "swh_Latn", "yor_Latn"))
    monkeypatch.setattr(preparing, "_SAVE_EVERY", 1)
    written: list[str] = []
    write_language = preparing.write_language

    def stop_at_the_third(*arguments):  # type: ignore[no-untyped-def]
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(arguments[0].name)
        return write_language(*arguments)

    monkeypatch.setattr(preparing, "write_language", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        prepared("sib200", upstream, tmp_path / "data")
    assert not load_manifest(tmp_path / "data" / "sib200").is_complete
    written.clear()
    manifest = prepared("sib200", upstream, tmp_path / "data")
    assert written == ["yor_Latn"] and manifest.is_complete and len(manifest.languages) == 3


def test_files_that_are_no_benchmark_end_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "_MAX_CHARACTERS", 200)
    with pytest.raises(BenchmarkDataError, match="more than 200 characters"):
        prepared("sib200", sib200(tmp_path / "up"), tmp_path / "data")


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder"):
        prepared("sib200", tmp_path / "none", tmp_path / "data")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no file that ends in \.tsv"):
        prepared("sib200", tmp_path / "empty", tmp_path / "data")
    write(tmp_path / "up" / "eng_Latn" / "test.tsv", "1\tcooking\tx\n")
    with pytest.raises(BenchmarkDataError, match=r"nothing could be prepared.*unknown_label"):
        prepared("sib200", tmp_path / "up", tmp_path / "data")


@pytest.mark.parametrize(
    ("upstream", "code"),
    [
        ("swahili", "swh_Latn"), ("sw", "swh_Latn"), ("sw-KE", "swh_Latn"), ("sw_Latn", "swh_Latn"),
        ("swa", "swa_Latn"), ("swa_Latn", "swa_Latn"), ("swh", "swh_Latn"), ("no", "nob_Latn"), ("nor", "nor_Latn"),
        ("kurdish", "kmr_Latn"), ("ku-Arab", "ckb_Arab"), ("kur", "kur_Latn"), ("et", "est_Latn"),
        ("zh-Hant-TW", "zho_Hant"), ("zh-min-nan", "nan_Latn"), ("standard_arabic", "arb_Latn"),
        ("my-notes", None), ("my-corpus", None), ("eng_wiki", None), ("hin-data", None), ("en-US-x-a", None),
        ("sr_RS.UTF-8@latin", None),
    ],
)  # fmt: skip
def test_names_and_short_codes_stand_for_one_variety_and_other_words_for_nothing(upstream: str, code: str) -> None:
    assert CodeMap({}).corpus_code(upstream, ["some text in Latin letters"]).code == code


def test_every_benchmark_means_the_same_variety() -> None:
    sample = {"Deva": "अपने", "Arab": "ابجد", "Latn": "abcd", "Cyrl": "абвг", "Ethi": "ሀለሐመ", "Kore": "가나다"}
    table = {**load_benchmark("xlsum").languages, **{key: code for code, key in BENCHMARKS["arc"].languages.items()}}
    for benchmark in BENCHMARKS.values():
        table |= {key: code for code, key in benchmark.languages.items() if key != "qu"}  # XCOPA says whose Quechua
    for upstream, code in table.items():
        texts = [sample.get(code[4:], "") * 9]
        found = CodeMap({}).corpus_code(upstream, texts).code
        # Those that are no name and no code, and scripts that nothing here shows, are what definitions are for.
        assert found is None or found[:3] == code[:3], upstream
    assert set(VARIETIES) & {code[:3] for code in table.values()} == set()
    groups = macrolanguages()
    assert all(groups[member] == name[:3] for name, member in VARIETIES.items())


def test_what_was_not_an_exact_code_is_told_and_can_be_given(tmp_path: Path) -> None:
    for code in ("my-notes", "swahili", "swh_Latn", "yoruba", "kor_Hang"):
        write(tmp_path / "up" / f"{code}.txt", "maneno mengi ya kutosha\n")
    definition = load_benchmark("glot500c")
    manifest = prepare(definition, tmp_path / "up", tmp_path / "data", show_progress=False)
    assert sorted(manifest.languages) == ["kor_Kore", "swh_Latn", "yor_Latn"]
    told = "\n".join(manifest_lines(manifest))
    assert "say what they are: --language CODE=xxx_Ssss" in told
    assert "my-notes: no code, tag or English name of a language (1 rows)" in told
    assert "swahili: becomes swh_Latn, as 'swh_Latn' does" in told
    lines = [" ".join(line.split()) for line in code_lines(manifest)]
    assert lines[0] == "upstream language how files" and lines[2:] == [
        "kor_Hang kor_Kore ISO 639-3 of kor kor_Hang.txt",
        "yoruba yor_Latn English name of yor; script of the texts yoruba.txt",
    ]
    given = ["my-notes=eng_Latn", "swahili=swa_Latn", "absent=fra_Latn"]
    again = prepare(with_languages(definition, given), tmp_path / "up", tmp_path / "data", show_progress=False)
    assert sorted(again.languages) == ["eng_Latn", "kor_Kore", "swa_Latn", "swh_Latn", "yor_Latn"]
    assert not again.unmapped and list(unused_lines(again, given)) == [
        "no file and no row has what --language names: absent=fra_Latn"
    ]
    assert any("my-notes" in line and "given: by the definition or by --language" in line for line in code_lines(again))
    with pytest.raises(BenchmarkDataError, match=r"--language my-notes=english x: give CODE=xxx_Ssss"):
        with_languages(definition, ["my-notes=english", "a=eng_Latn", "x"])
    with pytest.raises(BenchmarkDataError, match="twice: a;"):
        with_languages(definition, ["a=eng_Latn", "a=fra_Latn"])


@given(st.text(max_size=30))
def test_any_code_is_a_corpus_code_or_a_reason(code: str) -> None:
    mapped = CodeMap({}).corpus_code(code, ["some text in Latin letters"])
    assert mapped.how and (mapped.code is None or (len(mapped.code) == 8 and mapped.code[3] == "_"))


@pytest.mark.parametrize(
    ("name", "code", "split"),
    [
        ("eng_Latn/train.tsv", "eng_Latn", "train"),
        ("eng_Latn/eng_Latn_dev.tsv", "eng_Latn", "dev"),
        ("chinese_simplified_val.tsv", "chinese_simplified", "dev"),
        ("validation/eng.tsv.gz", "eng", "dev"),
        ("sub/test-00001-of-00003.tsv", "sub", "test"),
        ("eng.tsv", "eng", "test"),
    ],
)
def test_names_say_code_and_split(tmp_path: Path, name: str, code: str, split: str) -> None:
    write(tmp_path / name, "")
    (source,), _ = find_sources(tmp_path, (".tsv",))
    assert (source.code, source.split) == (code, split)
