from __future__ import annotations

import gzip
import json
import logging
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megatron.corpus import encode
from megatron.corpus.balanced import balanced_texts
from megatron.corpus.manifest_table import summary_table
from megatron.corpus.passes import tokenise as passes
from megatron.corpus.read import CorpusError
from megatron.corpus.tokenise import (
    RawFile,
    TokeniseError,
    TokeniseOptions,
    TokenizerFile,
    tokenise_corpora,
)
from megatron.data.indexed import ShardReader, ShardWriter
from megatron.data.manifest import Manifest, ManifestError, ShardInfo, load_manifest, load_sidecar
from megatron.tokenizer.base import Tokenizer, TokenizerError
from megatron.tokenizer.train import train_sentencepiece
from megatron.utils.files import fingerprint_file

ROOT = Path(__file__).resolve().parents[3]
FINNISH = [f"Kaikki ihmiset syntyvät vapaina {number} ja tasavertaisina." for number in range(40)]
ENGLISH = [f"All human beings are born free {number} and equal in dignity." for number in range(30)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TokenizerFile:
    path = tmp_path_factory.mktemp("sp") / "tokenizer.model"
    train_sentencepiece(FINNISH + ENGLISH, path, vocab_size=420)
    return TokenizerFile("SPMTokenizer", path)


def write(path: Path, texts: list[str], **fields: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps({"text": text, **fields}, ensure_ascii=False) + "\n" for text in texts).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    if path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)
    return path


def corpora(root: Path) -> Path:
    write(root / "fin_Latn" / "a.jsonl", FINNISH[:20])
    write(root / "fin_Latn" / "b.jsonl.gz", FINNISH[20:])
    write(root / "eng_Latn" / "x.jsonl.zst", ENGLISH)
    write(root / "eng_Latn-fin_Latn.jsonl", [f"{a}\n{b}" for a, b in zip(ENGLISH, FINNISH, strict=False)])
    write(root / "code-python.jsonl", ["def f():\n    return 1", "x = 2\n"])
    return root


def run(inputs: Path | list[Path], out: Path, tokenizer: TokenizerFile, workers: int = 1, **options: Any) -> Manifest:
    return tokenise_corpora(
        [inputs] if isinstance(inputs, Path) else inputs,
        out,
        tokenizer=tokenizer,
        options=TokeniseOptions(**options),
        workers=workers,
        show_progress=False,
    )


def texts_of(manifest: Manifest, shard: ShardInfo, tokenizer: Tokenizer) -> list[str]:
    """Decode a shard, checking how each document begins and ends."""
    reader = ShardReader(manifest.prefix(shard))
    reader.verify(shard.content_hash)
    texts = []
    for number in range(len(reader)):
        ids = reader.document(number)
        assert ids[-1] == tokenizer.eod_id
        first = int(manifest.tokenizer.prepend_bos)
        assert (ids[0] == tokenizer.bos_id) == bool(first)
        assert not {tokenizer.eod_id, tokenizer.bos_id, tokenizer.unk_id} & set(ids[first:-1].tolist())
        texts.append(tokenizer.decode(ids[first:-1].tolist()))
    return texts


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("prepend_bos", [False, True])
def test_everything_that_goes_in_comes_out(tmp_path: Path, tokenizer: TokenizerFile, prepend_bos: bool) -> None:
    manifest = run(corpora(tmp_path / "in"), tmp_path / "out", tokenizer, prepend_bos=prepend_bos)
    assert manifest == load_manifest(tmp_path / "out")
    assert manifest.tokenizer.prepend_bos is prepend_bos
    loaded = tokenizer.load()
    expected = {"fin_Latn": FINNISH, "eng_Latn": ENGLISH}
    for name, texts in expected.items():
        shards = {shard.split: shard for shard in manifest.shards if shard.name == name}
        assert set(shards) == {"train", "valid"}
        found = {split: texts_of(manifest, shard, loaded) for split, shard in shards.items()}
        assert sorted(found["train"] + found["valid"]) == sorted(texts)
        assert found["train"] == [text for text in texts if text not in found["valid"]]  # the files' order
        for split, shard in shards.items():
            assert shard.documents == len(found[split])
            assert shard.bytes == sum(len(text.encode()) for text in found[split])
            assert shard.words == sum(len(text.split()) for text in found[split])
            assert shard.tokens == sum(len(loaded.encode(t)) + 1 + prepend_bos for t in found[split])
            assert (shard.unk_tokens, shard.dtype) == (0, "uint16")
            sidecar = load_sidecar(Path(f"{manifest.prefix(shard)}.json"))
            assert sidecar.shard == shard
            assert sidecar.tokenizer == manifest.tokenizer


def test_labels_and_names(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    manifest = run(corpora(tmp_path / "in"), tmp_path / "out", tokenizer)
    rows = {(s.name, s.source, s.language, s.script, s.code) for s in manifest.shards}
    assert rows == {
        ("fin_Latn", "monolingual", "fin", "Latn", "fin_Latn"),
        ("eng_Latn", "monolingual", "eng", "Latn", "eng_Latn"),
        ("eng_Latn-fin_Latn", "bilingual", "eng-fin", "Latn-Latn", "eng_Latn-fin_Latn"),
        ("code-python", "code", "zxx", "Zyyy", "zxx_Zyyy"),
    }
    assert (tmp_path / "out" / "fin_Latn_valid_text_document.idx").exists()
    assert (tmp_path / "out" / "fin_Latn_text_document.json").exists()


def test_one_file_is_named_by_the_output_prefix(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    first = write(tmp_path / "data.jsonl", FINNISH, original_code="fi")
    manifest = run(first, tmp_path / "out" / "x", tokenizer)
    assert [(s.name, s.path, s.code) for s in manifest.split("train")] == [("x", "x_text_document", "fin_Latn")]
    # A second file joins the folder's manifest.
    second = write(tmp_path / "eng_Latn.jsonl", ENGLISH)
    manifest = run(second, tmp_path / "out" / "y", tokenizer)
    assert [(s.name, s.code) for s in manifest.split("train")] == [("x", "fin_Latn"), ("y", "eng_Latn")]


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_change_nothing(tmp_path: Path, tokenizer: TokenizerFile, workers: int) -> None:
    source = corpora(tmp_path / "in")
    run(source, tmp_path / "one", tokenizer)
    run(source, tmp_path / "many", tokenizer, workers=workers)
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "many")


def test_batches_change_nothing(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    source = corpora(tmp_path / "in")
    run(source, tmp_path / "one", tokenizer)
    with mock.patch.object(encode, "_BATCH_BYTES", 100):
        run(source, tmp_path / "small", tokenizer)
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "small")


def test_finished_corpora_are_skipped(
    tmp_path: Path, tokenizer: TokenizerFile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="megatron")
    source = corpora(tmp_path / "in")
    out = tmp_path / "out"
    first = run(source, out, tokenizer)
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.bin")}
    assert run(source, out, tokenizer) == first
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.bin")} == times
    assert "4 of 4 corpora are finished already" in caplog.text
    # Another file, another option or a missing piece: that corpus is done again.
    write(source / "fin_Latn" / "c.jsonl", ["Uusi teksti."])
    (out / "eng_Latn_valid_text_document.bin").unlink()
    caplog.clear()
    second = run(source, out, tokenizer)
    assert "2 of 4 corpora are finished already" in caplog.text
    assert sum(s.documents for s in second.shards) == sum(s.documents for s in first.shards) + 1
    caplog.clear()
    run(source, out, tokenizer, valid_bytes=50)
    assert "finished already" not in caplog.text


def test_some_corpora_hold_more_out_and_the_others_stay_as_they_are(
    tmp_path: Path, tokenizer: TokenizerFile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="megatron")
    source, out = corpora(tmp_path / "in"), tmp_path / "out"

    def held_out(**wanted: int) -> dict[str, int]:
        manifest = tokenise_corpora(
            [source], out, tokenizer=tokenizer, options=TokeniseOptions(valid_bytes=1, valid_fraction=0.5),
            valid_bytes_for=wanted, show_progress=False,
        )  # fmt: skip
        return {shard.name: shard.documents for shard in manifest.split("valid")}

    few = held_out()
    more = held_out(eng_Latn=10_000, xyz_Latn=5)
    assert "3 of 4 corpora are finished already" in caplog.text and "no corpus here is xyz_Latn" in caplog.text
    assert more["eng_Latn"] > few["eng_Latn"]
    assert {**more, "eng_Latn": 0} == {**few, "eng_Latn": 0}


def test_a_killed_run_leaves_no_manifest_of_what_was_there_before(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    root, out = corpora(tmp_path / "in"), tmp_path / "out"
    run(root, out, tokenizer)
    write(root / "eng_Latn" / "x.jsonl.zst", ENGLISH * 3)
    killed = mock.patch("megatron.corpus.tokenise._write_manifest", side_effect=KeyboardInterrupt)
    with killed, pytest.raises(KeyboardInterrupt):
        run(root, out, tokenizer)
    with pytest.raises(ManifestError, match="cannot be read"):
        load_manifest(out / "manifest.json")
    assert {shard.name for shard in run(root, out, tokenizer).shards} >= {"eng_Latn", "fin_Latn"}


def test_a_shard_that_does_not_fit_its_sidecar_is_made_again(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    source = corpora(tmp_path / "in")
    run(source, tmp_path / "out", tokenizer)
    before = snapshot(tmp_path / "out")
    with ShardWriter(tmp_path / "out" / "fin_Latn_text_document", dtype="uint16") as writer:
        writer.add_document(np.array([3, 2]))
    run(source, tmp_path / "out", tokenizer)
    assert snapshot(tmp_path / "out") == before


def test_a_changed_file_of_the_same_size_is_noticed(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    path = write(tmp_path / "in" / "fin_Latn.jsonl", FINNISH)
    before, stat = run(tmp_path / "in", tmp_path / "out", tokenizer), path.stat()
    write(path, [*FINNISH[:-1], FINNISH[-1].swapcase()])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert run(tmp_path / "in", tmp_path / "out", tokenizer) != before


def test_an_untouched_copy_of_a_corpus_counts_as_finished(
    tmp_path: Path, tokenizer: TokenizerFile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="megatron")
    source = corpora(tmp_path / "in")
    before = run(source, tmp_path / "out", tokenizer)
    copy = shutil.copytree(source, tmp_path / "copy", copy_function=shutil.copyfile)
    for path in copy.rglob("*.jsonl*"):
        os.utime(path, ns=(1, 1))
    assert run(copy, tmp_path / "out", tokenizer) == before
    assert "4 of 4 corpora are finished already" in caplog.text


@pytest.mark.parametrize("split", ["train", "valid"])
def test_an_interrupted_corpus_is_done_again(tmp_path: Path, tokenizer: TokenizerFile, split: str) -> None:
    source = corpora(tmp_path / "in")
    run(source, tmp_path / "whole", tokenizer)

    def interrupt(sidecar: Any, prefix: Path) -> None:
        if sidecar.shard.split == split and sidecar.shard.name == "fin_Latn":
            raise KeyboardInterrupt
        save(sidecar, prefix)

    save = passes.save_sidecar
    with mock.patch.object(passes, "save_sidecar", interrupt), pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out", tokenizer)
    assert not (tmp_path / "out" / "fin_Latn_text_document.json").exists()  # so it does not count as finished
    run(source, tmp_path / "out", tokenizer)
    assert snapshot(tmp_path / "whole") == snapshot(tmp_path / "out")


@pytest.mark.parametrize("workers", [1, 2])
def test_all_broken_corpora_are_reported_and_the_others_finished(
    tmp_path: Path, tokenizer: TokenizerFile, workers: int
) -> None:
    source = corpora(tmp_path / "in")
    write(source / "swe_Latn.jsonl", ["", "  "])
    (source / "dan_Latn.jsonl").write_bytes(b"")
    (source / "nob_Latn.jsonl").write_text('{"text": "hei"}\n{"text": 3}\n')
    with pytest.raises(TokeniseError) as error:
        run([source, tmp_path / "absent"], tmp_path / "out", tokenizer, workers=workers)
    message = str(error.value)
    assert "4 corpora or inputs" in message
    assert "swe_Latn: no documents in" in message
    assert "2 documents are blank" in message
    assert "dan_Latn: no documents in" in message
    assert "nob_Latn" in message
    assert "line 2" in message
    assert "absent" in message
    assert {s.name for s in load_manifest(tmp_path / "out").shards} == {
        "fin_Latn",
        "eng_Latn",
        "eng_Latn-fin_Latn",
        "code-python",
    }
    assert not list((tmp_path / "out").glob("nob*"))
    assert not list((tmp_path / "out").glob(".*"))


def test_a_join_leaves_nothing_but_shards(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    source, out = corpora(tmp_path / "in"), tmp_path / "out"
    (out / ".fin_Latn.joining").mkdir(parents=True)
    (out / ".fin_Latn.joining" / "left").touch()

    def full(*_: Any, **__: Any) -> str:
        raise OSError(28, "No space left on device")

    with mock.patch.object(passes, "join_spans", full), pytest.raises(TokeniseError, match="No space left"):
        run(source, out, tokenizer)
    assert list(out.iterdir()) == []
    run(source, out, tokenizer)
    assert not list(out.glob(".*"))


def test_shards_of_a_corpus_that_broke_are_removed(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    path = write(tmp_path / "in" / "fin_Latn.jsonl", FINNISH)
    run(tmp_path / "in", tmp_path / "out", tokenizer)
    path.write_text("{\n")
    with pytest.raises(TokeniseError, match="none is finished"):
        run(tmp_path / "in", tmp_path / "out", tokenizer)
    assert list((tmp_path / "out").iterdir()) == []


def test_blank_documents_are_counted(
    tmp_path: Path, tokenizer: TokenizerFile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="megatron")
    write(tmp_path / "in" / "fin_Latn.jsonl", ["yksi", "", "kaksi", " \n"])
    manifest = run(tmp_path / "in", tmp_path / "out", tokenizer)
    assert sum(shard.documents for shard in manifest.shards) == 2
    assert "fin_Latn (fin_Latn): 2 documents, 2 blank ones left out" in caplog.text
    assert load_sidecar(tmp_path / "out" / "fin_Latn_text_document.json").blank_documents == 2


def test_a_single_text_is_not_held_out(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    write(tmp_path / "in" / "fin_Latn.jsonl", ["sama"] * 5)
    manifest = run(tmp_path / "in", tmp_path / "out", tokenizer)
    assert [(shard.split, shard.documents) for shard in manifest.shards] == [("train", 5)]


def test_a_corpus_that_shrinks_loses_its_held_out_shard(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    path = write(tmp_path / "in" / "fin_Latn.jsonl", FINNISH)
    run(tmp_path / "in", tmp_path / "out", tokenizer)
    write(path, ["yksi"])
    manifest = run(tmp_path / "in", tmp_path / "out", tokenizer)
    assert [shard.split for shard in manifest.shards] == ["train"]
    assert not list((tmp_path / "out").glob("*valid*"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.sampled_from(FINNISH[:6] + ENGLISH[:6] + ["a", " "]), min_size=1, max_size=40),
    valid_bytes=st.integers(0, 300),
    batch=st.integers(1, 500),
)
def test_no_document_is_lost_and_copies_stay_together(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: TokenizerFile, texts: list[str], valid_bytes: int, batch: int
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    write(folder / "in" / "fin_Latn.jsonl", texts)
    kept = [text for text in texts if text.strip()]
    with mock.patch.object(encode, "_BATCH_BYTES", batch):
        if not kept:
            with pytest.raises(TokeniseError, match="no documents"):
                run(folder / "in", folder / "out", tokenizer, valid_bytes=valid_bytes)
            return
        manifest = run(folder / "in", folder / "out", tokenizer, valid_bytes=valid_bytes)
    loaded = tokenizer.load()
    found = {shard.split: texts_of(manifest, shard, loaded) for shard in manifest.shards}
    train, valid = found["train"], found.get("valid", [])
    assert Counter(train) + Counter(valid) == Counter(kept)
    assert not set(train) & set(valid)
    assert bool(valid) == (len(set(kept)) >= 2 and valid_bytes > 0)


def test_documents_are_built_without_a_list_of_tokens(tokenizer: TokenizerFile) -> None:
    loaded = tokenizer.load()
    texts = ["free", "", "born </s> equal"]
    flat, lengths = encode.build_documents(texts, loaded, prepend_bos=True)
    expected = [[1, *loaded.encode(text), 2] for text in texts]
    assert flat.tolist() == [token for document in expected for token in document]
    assert lengths.tolist() == [len(document) for document in expected]
    assert (flat.dtype, lengths.dtype) == (np.int32, np.int32)


class Fake:
    """A tokenizer that turns every text into the same ids."""

    kind, fingerprint, vocab_size, eod_id = "Fake", "f", 70000, 5
    bos_id: int | None = None
    unk_id: int | None = 7

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        return [np.array(self.ids, dtype=np.int32) for _ in texts]


    def byte_token_mask(self) -> np.ndarray:
        mask = np.zeros(self.vocab_size, dtype=bool)
        mask[69999] = True
        return mask


def encoded(tmp_path: Path, tokenizer: Any, texts: list[str], **options: Any) -> encode.EncodeCounts:
    mask = tokenizer.byte_token_mask()
    options = {"prepend_bos": False, **options}
    with encode.TextShardWriter(tmp_path / "x", tokenizer, is_byte_token=mask, **options) as writer:
        for text in texts:
            writer.add(text, size_bytes=len(text.encode()))
    return writer.counts


def test_what_a_shard_holds_is_counted_and_large_vocabularies_get_int32(tmp_path: Path) -> None:
    counts = encoded(tmp_path, Fake([7, 69999, 7]), ["a b", "ä", "c"])
    assert counts == encode.EncodeCounts(3, 6, 5, 4, tokens=12, unk_tokens=6, byte_tokens=3)
    assert ShardReader(tmp_path / "x").dtype == np.int32
    with pytest.raises(TokenizerError, match="needs a beginning-of-text token"):
        encoded(tmp_path, Fake([7]), ["a"], prepend_bos=True)


def test_ids_outside_the_vocabulary_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="gave ids 5 to 70000, its vocabulary has 70000"):
        encoded(tmp_path, Fake([70000]), ["a"])
    assert not list(tmp_path.iterdir())


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "fin_Latn.jsonl", ["a", "b", "c"])
    raw = RawFile(path, 0, TokeniseOptions(), fingerprint_file(path))
    assert list(raw.texts()) == ["a", "b", "c"]
    texts = raw.texts()
    next(texts)
    with path.open("a") as file:
        file.write('{"text": "d"}\n')
    with pytest.raises(CorpusError, match="changed while it was read"):
        list(texts)


@pytest.mark.parametrize("workers", [1, 2])
def test_large_corpora_are_divided_among_the_workers(tmp_path: Path, tokenizer: TokenizerFile, workers: int) -> None:
    for number in range(4):
        write(tmp_path / "in" / "fin_Latn" / f"{number}.jsonl", FINNISH[10 * number : 10 * number + 10])
    write(tmp_path / "one.jsonl", FINNISH)
    many = run(tmp_path / "in", tmp_path / "many", tokenizer, workers=workers)
    one = run(tmp_path / "one.jsonl", tmp_path / "one" / "fin_Latn", tokenizer)
    for split in ("train", "valid"):
        (a,), (b,) = many.split(split), one.split(split)
        assert a.content_hash == b.content_hash


def test_names_must_differ(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder / "fin_Latn.jsonl", FINNISH)
    with pytest.raises(TokeniseError, match=r"two corpora would be written to .*fin_Latn_text_document"):
        run([tmp_path / "a", tmp_path / "b"], tmp_path / "out", tokenizer)
    # A corpus that is called like the held-out shard of another.
    write(tmp_path / "c" / "x.jsonl", FINNISH)
    write(tmp_path / "c" / "x_valid.jsonl", FINNISH)
    with pytest.raises(TokeniseError, match=r"x_valid_text_document"):
        run(tmp_path / "c", tmp_path / "out", tokenizer)


def test_a_run_never_writes_over_shards_of_another_corpus(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    one = write(tmp_path / "fin_Latn.jsonl", FINNISH)
    other = write(tmp_path / "eng_Latn.jsonl", ENGLISH)
    run(one, tmp_path / "out" / "data", tokenizer)
    before = snapshot(tmp_path / "out")
    with pytest.raises(TokeniseError, match="is a shard of data, and one of data_valid would have the same name"):
        run(other, tmp_path / "out" / "data_valid", tokenizer)
    assert snapshot(tmp_path / "out") == before


def test_another_tokenizer_needs_another_folder(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    run(write(tmp_path / "fin_Latn.jsonl", FINNISH), tmp_path / "out" / "x", tokenizer)
    other = write(tmp_path / "eng_Latn.jsonl", ENGLISH)
    with pytest.raises(ManifestError, match="another tokenizer or with another prepend_bos"):
        run(other, tmp_path / "out" / "y", tokenizer, prepend_bos=True)
    assert not list((tmp_path / "out").glob("y*"))
    # The same corpus with another tokenizer replaces its shards where that is asked for.
    before = snapshot(tmp_path / "out")
    with pytest.raises(ManifestError, match="--replace-other-tokenizer writes over them"):
        run(tmp_path / "fin_Latn.jsonl", tmp_path / "out" / "x", tokenizer, prepend_bos=True)
    assert snapshot(tmp_path / "out") == before
    manifest = tokenise_corpora(
        [tmp_path / "fin_Latn.jsonl"], tmp_path / "out" / "x", tokenizer=tokenizer,
        options=TokeniseOptions(prepend_bos=True), replace_other_tokenizer=True, show_progress=False,
    )  # fmt: skip
    assert manifest.tokenizer.prepend_bos
    manifest.tokenizer.require_same(tokenizer.load(), where=tmp_path)
    with pytest.raises(ManifestError, match="vocab_size 420, not 70000"):
        changed: Any = Fake([])
        manifest.tokenizer.require_same(changed, where=tmp_path)


def test_bad_settings_are_refused_before_any_work(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    source = corpora(tmp_path / "in")
    with pytest.raises(TokeniseError, match="--workers 0"):
        run(source, tmp_path / "out", tokenizer, workers=0)
    with pytest.raises(ValueError, match="valid_fraction"):
        run(source, tmp_path / "out", tokenizer, valid_fraction=0.9)
    with pytest.raises(TokenizerError, match="cannot be read"):
        run(source, tmp_path / "out", replace(tokenizer, vocab_file=tmp_path / "none"))
    with pytest.raises(TokeniseError, match="names nothing"):
        run([], tmp_path / "out", tokenizer)
    assert not (tmp_path / "out").exists()


def test_summary_has_a_line_per_corpus_and_the_sum(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    manifest = run(corpora(tmp_path / "in"), tmp_path / "out", tokenizer)
    lines = [line.split() for line in summary_table(manifest).splitlines()]
    by_size = ["eng_Latn-fin_Latn", "fin_Latn", "eng_Latn", "code-python"]
    assert [line[0] for line in lines] == ["corpus", *by_size, "all"]
    assert lines[2][1] == "40"
    tokens = sum(shard.tokens for shard in manifest.shards)
    held_out = sum(shard.documents for shard in manifest.split("valid"))
    assert lines[-1][2] == "102"
    assert (lines[-1][4], lines[-1][-1]) == (f"{tokens:,}", str(held_out))


def test_a_short_summary_lists_the_largest_corpora_and_the_sum_of_all(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    manifest = run(corpora(tmp_path / "in"), tmp_path / "out", tokenizer)
    whole, short = (summary_table(manifest, corpora=corpora).splitlines() for corpora in (0, 2))
    assert [line.split() for line in short] == [
        *(line.split() for line in whole[:3]),
        ["...", "and", "2", "more"],
        whole[-1].split(),
    ]
    assert summary_table(manifest, corpora=4).splitlines() == whole


def test_text_is_mended_where_it_is_asked_for(tmp_path: Path, tokenizer: TokenizerFile) -> None:
    write(tmp_path / "in" / "fin_Latn.jsonl", ["syntyvÃ¤t vapaina"])
    for fix, expected in ((True, "syntyvät vapaina"), (False, "syntyvÃ¤t vapaina")):
        manifest = run(tmp_path / "in", tmp_path / str(fix), tokenizer, fix_text=fix)
        (shard,) = manifest.shards
        assert texts_of(manifest, shard, tokenizer.load()) == [expected]


def test_balanced_texts_take_as_much_of_each_corpus(tmp_path: Path) -> None:
    write(tmp_path / "fin_Latn.jsonl", ["ä" * 10, "ö" * 10, "rest"])
    write(tmp_path / "eng_Latn.jsonl", ["abc"])
    found = list(balanced_texts([tmp_path], max_bytes_per_corpus=25, show_progress=False))
    assert found == ["abc", "ä" * 10, "öö"]
    with pytest.raises(ValueError, match="at least 1"):
        list(balanced_texts([tmp_path], max_bytes_per_corpus=0))


def tool(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_tools(tmp_path: Path) -> None:
    source = corpora(tmp_path / "in")
    model = tmp_path / "sp" / "tokenizer.model"
    trained = tool("train_tokenizer.py", "--input", source, "--output", model, "--vocab-size", 420)
    assert trained.returncode == 0, trained.stderr
    assert "420 pieces" in trained.stdout
    flags = ["--input", source, "--output-prefix", tmp_path / "out", "--tokenizer-type", "SPMTokenizer"]
    flags += ["--vocab-file", model, "--append-eod", "--dataset-impl", "mmap", "--workers", 2, "--num-docs", 5]
    done = tool("preprocess_data.py", *flags, "--log-interval", 100, "--jsonl-keys", "text")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[:2] == ["corpus", "documents"]
    assert len(load_manifest(tmp_path / "out").split("train")) == 4
    for number in range(20):
        write(source / f"book-{number}.jsonl", [f"kirja {number}"])
    short, whole = tool("preprocess_data.py", *flags), tool("preprocess_data.py", *flags, "--table", "all")
    assert (len(short.stdout.splitlines()), len(whole.stdout.splitlines())) == (1 + 15 + 1 + 1, 1 + 24 + 1)
    assert short.stdout.splitlines()[-2] == "... and 9 more"
    for extra, reason in (
        (["--merge-file", "merges.txt"], "no tokenizer here has one"),
        (["--jsonl-keys", "text", "title"], "one field a run"),
        (["--jsonl-keys", "title"], "no field 'title'"),
        (["--vocab-file", source], "cannot be read"),
    ):
        failed = tool("preprocess_data.py", *flags, *extra)
        assert failed.returncode != 0
        assert reason in failed.stderr
        assert "Traceback" not in failed.stderr
    failed = tool("train_tokenizer.py", "--input", source, "--output", model, "--vocab-size", 100000)
    assert failed.returncode == 1
    assert "--vocab-size" in failed.stderr


def test_imports_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import megatron.corpus.tokenise, megatron.corpus.balanced"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
