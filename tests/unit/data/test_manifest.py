from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.data.indexed import ShardError, ShardReader, ShardWriter
from megatron.data.manifest import (
    Manifest,
    ManifestError,
    ShardInfo,
    Sidecar,
    TokenizerInfo,
    check_shard,
    collect_manifest,
    load_manifest,
    load_sidecar,
    save_manifest,
    save_sidecar,
    sidecar_path,
)

TOKENIZER = TokenizerInfo("SPMTokenizer", "ab12", 32000, 2, 1, False)


def shard(name: str = "fin_Latn", split: Any = "train", **changes: Any) -> ShardInfo:
    part = "" if split == "train" else "_valid"
    entry = ShardInfo(
        name=name,
        path=f"{name}{part}_text_document",
        split=split,
        source="monolingual",
        language="fin",
        script="Latn",
        documents=3,
        words=10,
        tokens=25,
        bytes=60,
        unk_tokens=0,
        dtype="uint16",
        content_hash="00ff",
    )
    return replace(entry, **changes)


def sidecar(folder: Path, entry: ShardInfo, tokenizer: TokenizerInfo = TOKENIZER, made_from: str = "m") -> None:
    save_sidecar(Sidecar(entry, tokenizer, made_from), folder / entry.path)


def test_round_trip_sorts_and_resolves_paths(tmp_path: Path) -> None:
    shards = (shard("swe_Latn"), shard("fin_Latn", "valid"), shard("fin_Latn"))
    save_manifest(Manifest(TOKENIZER, shards), tmp_path / "manifest.json")
    manifest = load_manifest(tmp_path)
    assert manifest == load_manifest(tmp_path / "manifest.json")
    assert manifest.tokenizer == TOKENIZER
    assert [(s.name, s.split) for s in manifest.shards] == [
        ("fin_Latn", "train"),
        ("fin_Latn", "valid"),
        ("swe_Latn", "train"),
    ]
    assert manifest.split("valid") == (shards[1],)
    assert manifest.prefix(shards[1]) == tmp_path / "fin_Latn_valid_text_document"
    assert "root" not in json.loads((tmp_path / "manifest.json").read_text())


def test_codes() -> None:
    assert shard().code == "fin_Latn"
    pair = shard("x", language="eng-fra", script="Latn-Latn", code="")
    assert pair.code == "eng_Latn-fra_Latn"
    assert shard(code="zho_Hani").code == "zho_Hani"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"code": "Finnish"}, "is not like eng_Latn"),
        ({"documents": 0}, "at least one document"),
        ({"words": -1}, "no count below 0"),
        ({"first_document": -1}, "must not be below 0"),
        ({"first_token": -1}, "must not be below 0"),
        ({"path": "/elsewhere/x"}, "must be relative"),
        ({"path": "../x"}, "no parent folder"),
        ({"path": "a/../../x"}, "no parent folder"),
        ({"path": "a\\..\\..\\x"}, "no parent folder"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(ManifestError, match=rule):
        save_manifest(Manifest(TOKENIZER, (shard(**changes),)), tmp_path)


def test_dots_in_names_are_no_parent_folder(tmp_path: Path) -> None:
    save_manifest(Manifest(TOKENIZER, (shard(path="v1..2/fin..x"),)), tmp_path)
    assert load_manifest(tmp_path).shards[0].path == "v1..2/fin..x"


@pytest.mark.parametrize("path", ["../x", "/elsewhere/x"])
def test_paths_of_manifests_and_sidecars_stay_in_their_folder(tmp_path: Path, path: str) -> None:
    entry = asdict(shard(path=path))
    with pytest.raises(ManifestError, match=r"manifest\.json: fin_Latn \(train\): path"):
        load_manifest(edited(tmp_path, shards=[entry]))
    sidecar(tmp_path, shard())
    file = sidecar_path(tmp_path / "fin_Latn_text_document")
    file.write_text(json.dumps({**json.loads(file.read_text()), "shard": entry}))
    with pytest.raises(ManifestError, match=r"document\.json: path"):
        load_sidecar(file)
    with pytest.raises(ManifestError, match=r"document\.json: path"):
        collect_manifest(tmp_path)


def test_all_contradictions_are_listed(tmp_path: Path) -> None:
    twice = (shard(), shard(words=5), shard("x", code="y"))
    with pytest.raises(ManifestError) as error:
        save_manifest(Manifest(TOKENIZER, twice), tmp_path)
    assert "'fin_Latn (train)' is listed twice" in str(error.value)
    assert "path 'fin_Latn_text_document': fin_Latn (train) has tokens 0 to 25, which overlap" in str(error.value)
    assert "'y' is not like" in str(error.value)
    with pytest.raises(ManifestError, match="lists no shards"):
        save_manifest(Manifest(TOKENIZER, ()), tmp_path)


def part(name: str, documents: tuple[int, int], tokens: tuple[int, int], **changes: Any) -> ShardInfo:
    return shard(
        name,
        path="all",
        first_document=documents[0],
        documents=documents[1] - documents[0],
        first_token=tokens[0],
        tokens=tokens[1] - tokens[0],
        **changes,
    )


def test_shards_may_share_a_file_when_they_do_not_overlap(tmp_path: Path) -> None:
    parts = (part("c", (8, 9), (30, 50)), part("a", (0, 3), (0, 20)), part("a", (3, 8), (20, 30), split="valid"))
    save_manifest(Manifest(TOKENIZER, parts), tmp_path)
    assert [(s.name, s.split, s.first_token) for s in load_manifest(tmp_path).shards] == [
        ("a", "train", 0),
        ("a", "valid", 20),
        ("c", "train", 30),
    ]


def test_every_overlap_in_a_file_is_listed(tmp_path: Path) -> None:
    parts = (
        part("a", (0, 9), (0, 90)),
        part("b", (1, 2), (90, 95)),
        part("c", (3, 4), (95, 99)),
        part("d", (9, 10), (98, 105), dtype="int32", content_hash="11ee"),
    )
    with pytest.raises(ManifestError) as error:
        save_manifest(Manifest(TOKENIZER, parts), tmp_path)
    rule = "shards of one file must not overlap"
    problems = [line.partition("path 'all': ")[2] for line in str(error.value).splitlines()]
    assert problems == [
        "its shards give it more than one dtype: 'int32', 'uint16'",
        "its shards give it more than one content_hash: '00ff', '11ee'",
        f"b (train) has documents 1 to 2, which overlap those of a (train), up to 9; {rule}",
        f"c (train) has documents 3 to 4, which overlap those of a (train), up to 9; {rule}",
        f"d (train) has tokens 98 to 105, which overlap those of c (train), up to 99; {rule}",
    ]


@given(borders=st.lists(st.integers(0, 30), min_size=4, max_size=12))
def test_overlaps_are_those_of_a_plain_comparison(borders: list[int]) -> None:
    ranges = [(a, b) for a, b in zip(borders[::2], borders[1::2], strict=False) if a < b]
    parts = [part(f"c{n}", (n, n + 1), borders) for n, borders in enumerate(ranges)]
    overlap = any(a < d and c < b for n, (a, b) in enumerate(ranges) for c, d in ranges[n + 1 :])
    with tempfile.TemporaryDirectory() as folder:
        try:
            save_manifest(Manifest(TOKENIZER, (shard(), *parts)), Path(folder))
            assert not overlap
        except ManifestError:
            assert overlap


def edited(tmp_path: Path, **changes: Any) -> Path:
    save_manifest(Manifest(TOKENIZER, (shard(),)), tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def test_malformed_manifests_name_file_place_and_rule(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"manifest\.json: cannot be read"):
        load_manifest(tmp_path / "manifest.json")
    path = edited(tmp_path, shards=[{"name": "fin_Latn", "tokens": "many"}])
    with pytest.raises(ManifestError, match=r"manifest\.json: shards\.0\.tokens: .*integer") as error:
        load_manifest(path)
    assert "shards.0.documents" in str(error.value)
    with pytest.raises(ManifestError, match="extra"):
        load_manifest(edited(tmp_path, extra=1))
    with pytest.raises(ManifestError, match="version 2"):
        load_manifest(edited(tmp_path, version=2))
    with pytest.raises(ManifestError, match="is no manifest"):
        load_manifest(edited(tmp_path, format="other"))
    path.write_text("[1]")
    with pytest.raises(ManifestError, match="is no manifest"):
        load_manifest(path)
    path.write_text("{")
    with pytest.raises(ManifestError, match="is not JSON"):
        load_manifest(path)


def test_the_prefix_of_a_shard_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "eng_Latn_text_document.idx").touch()
    with pytest.raises(ManifestError, match="is a shard, and a manifest is needed here"):
        load_manifest(tmp_path / "eng_Latn_text_document")


def test_sidecars_round_trip_and_are_collected(tmp_path: Path) -> None:
    for entry in (shard("swe_Latn"), shard("fin_Latn", "valid"), shard("fin_Latn")):
        sidecar(tmp_path, entry)
    assert load_sidecar(sidecar_path(tmp_path / "fin_Latn_text_document")).shard == shard("fin_Latn")
    manifest = collect_manifest(tmp_path)
    save_manifest(manifest, tmp_path)
    assert load_manifest(tmp_path) == manifest
    assert [(s.name, s.split) for s in manifest.shards][:2] == [("fin_Latn", "train"), ("fin_Latn", "valid")]


def test_a_held_out_shard_of_an_unfinished_corpus_is_not_collected(tmp_path: Path) -> None:
    sidecar(tmp_path, shard("swe_Latn"))
    sidecar(tmp_path, shard("fin_Latn", "valid"))
    assert [s.name for s in collect_manifest(tmp_path).shards] == ["swe_Latn"]
    sidecar(tmp_path, shard("fin_Latn"), made_from="something else")
    assert [(s.name, s.split) for s in collect_manifest(tmp_path).shards] == [
        ("fin_Latn", "train"),
        ("swe_Latn", "train"),
    ]


def test_one_folder_holds_one_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no finished shards"):
        collect_manifest(tmp_path)
    sidecar(tmp_path, shard("fin_Latn"))
    sidecar(tmp_path, shard("swe_Latn"), tokenizer=replace(TOKENIZER, prepend_bos=True))
    with pytest.raises(ManifestError, match="shards of one tokenizer"):
        collect_manifest(tmp_path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"documents": 3}, "documents 2, not 3"),
        ({"tokens": 8}, "tokens 7, not 8"),
        ({"dtype": "int32"}, "dtype uint16, not int32"),
    ],
)
def test_a_shard_that_is_not_the_one_listed_is_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    with ShardWriter(tmp_path / "x", dtype="uint16") as writer:
        writer.add_documents(np.arange(7), np.array([3, 4]))
    entry = shard(documents=2, tokens=7)
    check_shard(ShardReader(tmp_path / "x"), entry)
    with pytest.raises(ShardError, match=rf"x\.idx: not the shard .* fin_Latn \(train\): {text}\."):
        check_shard(ShardReader(tmp_path / "x"), replace(entry, **changes))
