from __future__ import annotations

import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from megatron.data.indexed import ShardError, ShardReader, ShardWriter, bin_path, content_hash, idx_path
from megatron.data.inspection import merge as merge_module
from megatron.data.inspection.merge import merge, summary
from megatron.data.inspection.merge_record import MergeError, record_path
from megatron.data.inspection.split import split
from megatron.data.inspection.verify import verify
from megatron.data.manifest import (
    Manifest,
    ManifestError,
    ShardInfo,
    Sidecar,
    TokenizerInfo,
    load_manifest,
    save_manifest,
    save_sidecar,
    sidecar_path,
)
from megatron.data.parts import Parts

TOOL = Path(__file__).resolve().parents[4] / "tools" / "inspect_data.py"
TOKENIZER = TokenizerInfo("SPMTokenizer", "ab12", 1000, 2)


def write(folder: Path, name: str, documents: int, *, part: str = "train", dtype: str = "uint16") -> ShardInfo:
    prefix = folder / f"{name}{'' if part == 'train' else '_valid'}_text_document"
    random = np.random.default_rng([*name.encode(), documents])
    with ShardWriter(prefix, dtype=dtype) as writer:
        for _ in range(documents):
            writer.add_document(np.append(random.integers(3, 1000, size=int(random.integers(1, 30))), 2))
    language, script = name.split("_")
    return ShardInfo(
        name=name, path=prefix.name, split=part, source="monolingual", language=language, script=script,
        documents=documents, words=documents, tokens=writer.num_tokens, bytes=documents, unk_tokens=0, dtype=dtype,
        content_hash=writer.content_hash,
    )  # fmt: skip


def corpus(folder: Path, sizes: dict[str, int], *, tokenizer: TokenizerInfo = TOKENIZER, dtype: str = "uint16") -> Path:
    shards = []
    for name, documents in sizes.items():
        for part, count in (("train", documents), ("valid", 2)):
            shard = write(folder, name, count, part=part, dtype=dtype)
            save_sidecar(Sidecar(shard, tokenizer, f"from {name}", 2, documents), folder / shard.path)
            shards.append(shard)
    save_manifest(Manifest(tokenizer, tuple(shards)), folder / "manifest.json")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def texts(manifest: Manifest) -> dict[tuple[str, str], list[list[int]]]:
    parts = Parts(manifest.root)
    opened = {(shard.name, shard.split): parts.open(shard) for shard in manifest.shards}
    return {key: [part.document(n).tolist() for n in range(part.num_documents)] for key, part in opened.items()}


def no_problems(folder: Path) -> bool:
    return not [problem for verdict in verify([folder], show_progress=False) for problem in verdict.problems]


def test_merged_and_split_again_byte_for_byte(tmp_path: Path) -> None:
    one = corpus(tmp_path / "one", {"eng_Latn": 12, "swh_Latn": 1})
    two = corpus(tmp_path / "two", {"amh_Ethi": 5})
    merged = merge([one, two / "manifest.json"], tmp_path / "merged", show_progress=False)
    assert {path.name for path in (tmp_path / "merged").iterdir()} == {
        f"{part}-00000{suffix}" for part in ("train", "valid") for suffix in (".bin", ".idx", ".merged.json")
    } | {"manifest.json"}
    assert texts(merged) == {**texts(load_manifest(one)), **texts(load_manifest(two))}
    assert {shard.content_hash for shard in merged.split("train")} == {content_hash(tmp_path / "merged/train-00000")}
    assert no_problems(tmp_path / "merged")
    apart = split(tmp_path / "merged", tmp_path / "split", show_progress=False)
    originals = {**contents(one), **contents(two)}
    found = contents(tmp_path / "split")
    for name in originals.keys() - {"manifest.json"}:
        assert found[name] == originals[name], name
    assert found.keys() == originals.keys()
    assert texts(apart) == texts(merged)
    # One folder merged alone comes back with the same manifest, too.
    merge([one], tmp_path / "again", show_progress=False)
    split(tmp_path / "again", tmp_path / "one again", show_progress=False)
    assert contents(tmp_path / "one again") == contents(one)


def test_containers_merge_into_larger_ones(tmp_path: Path) -> None:
    one = corpus(tmp_path / "one", {"eng_Latn": 12, "swh_Latn": 3})
    merge([one], tmp_path / "first", show_progress=False)
    two = corpus(tmp_path / "two", {"amh_Ethi": 5})
    merged = merge([two, tmp_path / "first"], tmp_path / "second", show_progress=False)
    assert no_problems(tmp_path / "second")
    assert len({shard.path for shard in merged.shards}) == 2
    split(tmp_path / "second", tmp_path / "split", corpora=["eng*", "s?h_Latn"], show_progress=False)
    assert contents(tmp_path / "split") == contents(one)
    assert next(summary(merged)).startswith("train: 3 corpora, 20 documents, ")


def test_a_limit_makes_several_files_and_cuts_no_shard(tmp_path: Path) -> None:
    names = {"eng_Latn": 30, "swh_Latn": 3, "amh_Ethi": 4, "fin_Latn": 2}
    source = corpus(tmp_path / "one", names)
    sizes = {shard.name: 2 * shard.tokens for shard in load_manifest(source).split("train")}
    limit = sizes["amh_Ethi"] + sizes["fin_Latn"] + sizes["swh_Latn"] - 1
    merged = merge([source], tmp_path / "merged", max_file_gb=limit / 1e9, show_progress=False)
    files: dict[str, list[str]] = {}
    for shard in merged.split("train"):
        files.setdefault(shard.path, []).append(shard.name)
    assert sorted(map(sorted, files.values())) == [["amh_Ethi"], ["eng_Latn"], ["fin_Latn", "swh_Latn"]]
    assert no_problems(tmp_path / "merged")
    assert texts(merged) == texts(load_manifest(source))


def test_an_interrupted_merge_goes_on(tmp_path: Path) -> None:
    source = corpus(tmp_path / "one", {"eng_Latn": 30, "swh_Latn": 3, "amh_Ethi": 4})
    folder, copy = tmp_path / "merged", merge_module.copy_shards
    calls: list[str] = []

    def copy_once(*arguments: object, **options: object) -> str:
        calls.append(str(arguments[1]))
        if len(calls) == 3:
            raise OSError("disk full")
        return copy(*arguments, **options)  # type: ignore[arg-type]

    with mock.patch.object(merge_module, "copy_shards", copy_once), pytest.raises(OSError, match="disk full"):
        merge([source], folder, max_file_gb=1e-9, show_progress=False)
    assert not (folder / "manifest.json").exists()
    finished = {path: path.stat().st_ino for path in folder.glob("*.bin")}
    assert len(finished) == 2
    with mock.patch.object(merge_module, "copy_shards", wraps=copy) as again:
        merged = merge([source], folder, max_file_gb=1e-9, show_progress=False)
    assert again.call_count == 6 - 2
    assert {path: path.stat().st_ino for path in finished} == finished
    assert texts(merged) == texts(load_manifest(source))
    # Other text under the same name is another container.
    shard = write(source, "amh_Ethi", 9)
    others = [other for other in load_manifest(source).shards if (other.name, other.split) != ("amh_Ethi", "train")]
    save_sidecar(Sidecar(shard, TOKENIZER, "anew", 2, 9), source / shard.path)
    save_manifest(Manifest(TOKENIZER, (shard, *others)), source / "manifest.json")
    with mock.patch.object(merge_module, "copy_shards", wraps=copy) as again:
        merged = merge([source], folder, max_file_gb=1e-9, show_progress=False)
    assert again.call_count == 1
    assert texts(merged) == texts(load_manifest(source))


def test_an_interrupted_split_goes_on(tmp_path: Path) -> None:
    source = corpus(tmp_path / "one", {"eng_Latn": 30, "swh_Latn": 3})
    merge([source], tmp_path / "merged", show_progress=False)
    split(tmp_path / "merged", tmp_path / "split", show_progress=False)
    before = {path: path.stat().st_ino for path in (tmp_path / "split").glob("*.bin")}
    idx_path(tmp_path / "split" / "swh_Latn_text_document").unlink()
    split(tmp_path / "merged", tmp_path / "split", show_progress=False)
    after = {path: path.stat().st_ino for path in (tmp_path / "split").glob("*.bin")}
    assert {path.name for path in before if before[path] != after[path]} == {"swh_Latn_text_document.bin"}
    assert contents(tmp_path / "split") == contents(source)


def test_what_killed_processes_have_left_goes_away(tmp_path: Path) -> None:
    source = corpus(tmp_path / "one", {"eng_Latn": 30})
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    (tmp_path / "merged").mkdir()
    abandoned = tmp_path / "merged" / f".train-00000.bin.tmp{killed.pid}"
    abandoned.write_bytes(b"half of it")
    still_written = tmp_path / "merged" / f".train-00000.bin.tmp{os.getppid()}"
    still_written.touch()
    merge([source], tmp_path / "merged", show_progress=False)
    assert not abandoned.exists()
    assert still_written.exists()


def test_other_shards_are_never_written_over(tmp_path: Path) -> None:
    source = corpus(tmp_path / "one", {"eng_Latn": 5, "swh_Latn": 3})
    other = corpus(tmp_path / "other", {"eng_Latn": 9, "amh_Ethi": 2})
    before = contents(other)
    with pytest.raises(MergeError) as caught:
        split(source, other, show_progress=False)
    assert "eng_Latn_text_document: is there and is not eng_Latn (train)" in str(caught.value)
    assert "holds other shards (amh_Ethi_text_document.bin, " in str(caught.value)
    for name in before:  # nor those without sidecars
        if name.endswith(".json") and name != "manifest.json":
            (other / name).unlink()
    with pytest.raises(MergeError, match="is not eng_Latn"):
        split(source, other, corpora=["eng*"], show_progress=False)
    assert contents(other).items() <= before.items()


def test_a_manifest_of_shards_below_its_folder_stays(tmp_path: Path) -> None:
    source = corpus(tmp_path / "one", {"swh_Latn": 3})
    other = corpus(tmp_path / "two" / "inner", {"eng_Latn": 5})
    listed = [replace(shard, path=f"inner/{shard.path}") for shard in load_manifest(other).shards]
    save_manifest(Manifest(TOKENIZER, tuple(listed)), tmp_path / "two" / "manifest.json")
    for act in (lambda: merge([source], tmp_path / "two"), lambda: split(source, tmp_path / "two")):
        with pytest.raises(MergeError, match=r"holds other shards \(inner/eng_Latn"):
            act()


def test_a_full_disk_is_told_without_a_trace(tmp_path: Path) -> None:
    source = corpus(tmp_path / "one", {"eng_Latn": 300})
    code = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    command = [sys.executable, "-c", code, str(TOOL), "merge", str(source), "--output", str(tmp_path / "merged")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: [Errno 27] File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "merged").iterdir()) == []


def test_damage_is_never_copied(tmp_path: Path) -> None:
    source = corpus(tmp_path / "one", {"eng_Latn": 30, "swh_Latn": 3})
    merge([source], tmp_path / "merged", show_progress=False)
    for path in (source / "swh_Latn_text_document.bin", tmp_path / "merged" / "train-00000.bin"):
        data = bytearray(path.read_bytes())
        data[4] ^= 1
        path.write_bytes(data)
    with pytest.raises(ShardError, match="content hash"):
        merge([source], tmp_path / "again", show_progress=False)
    with pytest.raises(ShardError, match="content hash"):
        split(tmp_path / "merged", tmp_path / "split", show_progress=False)
    assert list((tmp_path / "split").glob("*_Latn_text_document.*")) == []


def test_what_cannot_be_merged_is_all_told(tmp_path: Path) -> None:
    one = corpus(tmp_path / "one", {"eng_Latn": 3})
    two = corpus(tmp_path / "two", {"eng_Latn": 3}, tokenizer=replace(TOKENIZER, eod_id=0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.bin").touch()
    with pytest.raises(MergeError) as caught:
        merge([one, two], tmp_path / "out", show_progress=False)
    for words in ("only shards of one tokenizer", "eng_Latn (train) is in", "holds other shards (x.bin)"):
        assert words in str(caught.value)
    with pytest.raises(MergeError, match="is to be merged"):
        merge([one], one, show_progress=False)
    with pytest.raises(MergeError, match="is to be split"):
        split(one, one, show_progress=False)
    with pytest.raises(MergeError, match=r"no corpus is named x\* or y"):
        split(one, tmp_path / "new", corpora=["x*", "y"], show_progress=False)
    with pytest.raises(ManifestError):
        merge([tmp_path / "nothing"], tmp_path / "new", show_progress=False)


def test_dtypes_are_not_mixed(tmp_path: Path) -> None:
    one = corpus(tmp_path / "one", {"eng_Latn": 3})
    two = corpus(tmp_path / "two", {"swh_Latn": 3}, dtype="int32")
    merged = merge([one, two], tmp_path / "merged", show_progress=False)
    assert len({shard.path for shard in merged.split("train")}) == 2
    assert no_problems(tmp_path / "merged")


def test_containers_without_records_are_split_by_their_manifest(tmp_path: Path) -> None:
    source = corpus(tmp_path / "one", {"eng_Latn": 30, "swh_Latn": 3})
    merged = merge([source], tmp_path / "merged", show_progress=False)
    for part in ("train", "valid"):
        record_path(tmp_path / "merged" / f"{part}-00000").unlink()
    apart = split(tmp_path / "merged", tmp_path / "split", show_progress=False)
    assert no_problems(tmp_path / "split")
    assert texts(apart) == texts(merged)
    tokens = bin_path(tmp_path / "split" / "eng_Latn_document")
    assert tokens.read_bytes() == bin_path(source / "eng_Latn_text_document").read_bytes()


def test_shards_without_sidecars_merge(tmp_path: Path) -> None:
    source = corpus(tmp_path / "one", {"eng_Latn": 5})
    for shard in load_manifest(source).shards:
        sidecar_path(source / shard.path).unlink()
    merge([source], tmp_path / "merged", show_progress=False)
    split(tmp_path / "merged", tmp_path / "split", show_progress=False)
    found = contents(tmp_path / "split")
    assert all(found[name] == data for name, data in contents(source).items())
    assert no_problems(tmp_path / "split")


def test_documents_of_several_sequences_keep_their_tokens(tmp_path: Path) -> None:
    prefix = tmp_path / "one" / "eng_Latn_document"
    prefix.parent.mkdir()
    bin_path(prefix).write_bytes(struct.pack("<9H", *range(10, 19)))
    index = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 4, 3) + struct.pack("<4i", 2, 1, 4, 2)
    idx_path(prefix).write_bytes(index + struct.pack("<4q", 0, 4, 6, 14) + struct.pack("<3q", 0, 2, 4))
    shard = replace(
        write(tmp_path / "one", "swh_Latn", 2), name="eng_Latn", path=prefix.name, documents=2, tokens=9,
        language="eng", code="eng_Latn", content_hash=content_hash(prefix),
    )  # fmt: skip
    save_manifest(Manifest(TOKENIZER, (shard,)), tmp_path / "one" / "manifest.json")
    merged = merge([tmp_path / "one"], tmp_path / "merged", show_progress=False)
    assert texts(merged) == {("eng_Latn", "train"): [list(range(10, 13)), list(range(13, 19))]}
    assert ShardReader(tmp_path / "merged" / "train-00000").num_sequences == 2
