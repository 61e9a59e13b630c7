from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from megatron.evaluation.extend.language_texts import LanguageTexts, read_language_texts


def read(folder: Path, **options: object) -> LanguageTexts:
    return read_language_texts(folder, **{"languages": None, "most_bytes": 1000, **options})  # type: ignore[arg-type]


def write(path: Path, *texts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{json.dumps({'text': text})}\n" for text in texts) if path.name.endswith(".jsonl") else None
    path.write_text(lines if lines is not None else "".join(f"{text}\n" for text in texts), encoding="utf-8")


def test_files_and_folders_of_every_kind(tmp_path: Path) -> None:
    write(tmp_path / "swh_Latn.jsonl", "habari\nya asubuhi", "ndiyo")
    write(tmp_path / "hin_Deva" / "b.txt", "दो", "तीन")
    write(tmp_path / "hin_Deva" / "a.txt", "एक")
    write(tmp_path / "eng_Latn" / "train.jsonl", "seen")
    write(tmp_path / "eng_Latn" / "test.jsonl", "unseen")
    write(tmp_path / "manifest.json", "{}")
    (tmp_path / "fra_Latn.jsonl.gz").write_bytes(gzip.compress(b'{"text": "oui"}\n'))
    found = read(tmp_path)
    assert found.texts == {
        "eng_Latn": ["unseen"], "fra_Latn": ["oui"], "hin_Deva": ["एक", "दो", "तीन"],
        "swh_Latn": ["habari\nya asubuhi", "ndiyo"],
    }  # fmt: skip
    assert list(found.texts) == sorted(found.texts) and found.notes == ()
    assert list(read(tmp_path, languages=["hin", "eng_Latn"]).texts) == ["eng_Latn", "hin_Deva"]


def test_only_the_first_texts_are_read_and_that_is_told(tmp_path: Path) -> None:
    write(tmp_path / "hin_Deva.txt", "एक", "दो", "तीन")  # 6, 6 and 9 bytes
    write(tmp_path / "eng_Latn.txt", "one")
    found = read(tmp_path, most_bytes=12)
    assert found.texts["hin_Deva"] == ["एक", "दो"]
    assert found.notes == ("of 1 languages only the first texts, up to 12 bytes of each",)
    assert read(tmp_path, most_bytes=21).notes == ()
    assert read(tmp_path, most_bytes=20).texts["hin_Deva"] == ["एक", "दो", "ती"]  # whole characters


def test_a_long_text_after_a_short_one_is_cut_and_not_left_out(tmp_path: Path) -> None:
    write(tmp_path / "eng_Latn.jsonl", "Title", "many words " * 10_000, "more")
    title, long = read(tmp_path, most_bytes=50_000).texts["eng_Latn"]
    assert title == "Title" and len(long) == 50_000 - len(title) and ("many words " * 10_000).startswith(long)
    assert read(tmp_path, most_bytes=3).texts["eng_Latn"] == ["Tit"]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    (tmp_path / "eng_Latn.jsonl").write_text('{"text": "one"}\nno\n{"text": " "}\n{"other": 1}\n{"text": 1}\n')
    write(tmp_path / "notes.txt", "no corpus")
    (tmp_path / "english").mkdir()
    found = read(tmp_path)
    assert found.texts == {"eng_Latn": ["one"]}
    assert found.notes == (
        "records left out of the texts: not_json 1, blank 1, wrong_fields 2",
        f"{tmp_path}: 2 entries are no corpora and were not read",
    )


def test_all_that_is_missing_is_told(tmp_path: Path) -> None:
    write(tmp_path / "eng_Latn.txt", "one")
    write(tmp_path / "hin_Deva.txt", " ")
    with pytest.raises(ValueError) as caught:
        read(tmp_path, languages=["eng", "hin", "swh", "tha_Thai"])
    assert str(caught.value).splitlines() == [
        f"{tmp_path} has no texts of swh",
        f"{tmp_path} has no texts of tha_Thai",
        f"{tmp_path}/hin_Deva.txt: no usable text of hin_Deva",
    ]


def test_a_folder_without_texts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no texts: no folder or file such as swh_Latn"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"none is no folder of texts"):
        read(tmp_path / "none")
