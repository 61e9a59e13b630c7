from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
    assert "path 'fin_Latn_text_document' is listed twice" in str(error.value)
    assert "'y' is not like" in str(error.value)
    with pytest.raises(ManifestError, match="lists no shards"):
        save_manifest(Manifest(TOKENIZER, ()), tmp_path)


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
