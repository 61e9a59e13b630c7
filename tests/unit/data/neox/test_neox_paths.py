from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.schema import DataConfig, TokenizerConfig
from megatron.data.indexed import ShardWriter
from megatron.data.manifest import (
    Manifest,
    ManifestError,
    ShardInfo,
    Sidecar,
    TokenizerInfo,
    save_manifest,
    save_sidecar,
)
from megatron.data.mixture import RunSize, plan_mixture
from megatron.data.neox import bare_shards
from megatron.data.neox import paths as neox_paths
from megatron.data.neox.bare_shards import partial_hash
from megatron.data.neox.named_files import corpus_names, name_of
from megatron.data.neox.paths import mixture_section, open_corpora, split_bounds
from megatron.data.parts import Parts
from megatron.tokenizer.base import Tokenizer
from megatron.tokenizer.load import load_tokenizer
from megatron.tokenizer.train import train_sentencepiece

TEXTS = ["Habari ya asubuhi, dunia nzima.", "Ärger mit ñandú im Zoo", "日本語 שלום नमस्ते", "12,345.67 x"]
Write = Callable[..., str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    train_sentencepiece(TEXTS * 3, path, vocab_size=350)
    return path


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Tokenizer:
    return load_tokenizer("SPMTokenizer", model)


@pytest.fixture
def section(model: Path) -> TokenizerConfig:
    return TokenizerConfig(tokenizer_type="SPMTokenizer", vocab_file=str(model))


@pytest.fixture
def write(tmp_path: Path, tokenizer: Tokenizer) -> Write:
    """Write a shard as GPT-NeoX does, without a sidecar, and return its path."""

    def shard(name: str, texts: list[str], *, end: int | None = None, bos: bool = False) -> str:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        last = [tokenizer.eod_id if end is None else end]
        first = [1] if bos else []
        with ShardWriter(tmp_path / name, dtype=np.uint16) as writer:
            for text in texts:
                writer.add_document(np.array([*first, *tokenizer.encode(text), *last]))
        return str(tmp_path / name)

    return shard


@pytest.fixture
def describe(tokenizer: Tokenizer) -> Callable[..., ShardInfo]:
    """Write the sidecar that our own tools would have written."""

    def sidecar(path: str, manifest: Manifest, **changes: Any) -> ShardInfo:
        [entry] = [shard for shard in manifest.shards if shard.path == path]
        entry = replace(
            entry, path=Path(path).name, language="swh", script="Latn", code="swh_Latn", words=50, bytes=300, **changes
        )
        save_sidecar(Sidecar(entry, TokenizerInfo.of(tokenizer, prepend_bos=False), made_from="x"), path)
        return entry

    return sidecar


def config(**settings: Any) -> DataConfig:
    return DataConfig.model_validate({"seq_length": 8, **settings})


def problems(data: DataConfig, section: TokenizerConfig) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        open_corpora(data, section)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("split", "documents", "bounds"),
    [
        ("969, 30, 1", 1000, (0, 969, 999, 1000)),
        ("969, 30, 1", 10, (0, 10, 10, 10)),
        ("949,50,1", 1000, (0, 949, 999, 1000)),
        ("90/5/5", 100, (0, 90, 95, 100)),
        ("1/1/1", 11, (0, 3, 7, 11)),
        ("1,1", 10, (0, 5, 10, 10)),
        ("9/1", 5, (0, 5, 5, 5)),  # 4.5 and 0.5 are rounded to even numbers; the missing one is added to every bound
        ("100", 7, (0, 7, 7, 7)),
        ("969, 30, 1", 1, (0, 1, 1, 1)),
        ("1e-17, 1, 1", 3, (0, 0, 1, 3)),  # GPT-NeoX has -1 here: nothing is left to train on
    ],
)
def test_split_bounds_are_those_of_gpt_neox(split: str, documents: int, bounds: tuple[int, ...]) -> None:
    assert split_bounds(split, documents) == bounds


@given(parts=st.lists(st.floats(0.1, 1000), min_size=1, max_size=3), documents=st.integers(0, 10**7))
def test_split_bounds_always_divide_the_documents(parts: list[float], documents: int) -> None:
    bounds = split_bounds(", ".join(map(repr, parts)), documents)
    assert bounds[0] == 0 and bounds[-1] == documents and list(bounds) == sorted(bounds)
    ends = np.cumsum([*parts, 0, 0][:3]) / sum(parts) * documents
    assert all(abs(bound - end) <= 3 for bound, end in zip(bounds[1:], ends, strict=True))


def test_bare_shards_are_described(write: Write, section: TokenizerConfig, tokenizer: Tokenizer) -> None:
    train, valid = write("swh_text_document", TEXTS), write("swh_valid_text_document", TEXTS[:2])
    manifest = open_corpora(config(train_data_paths=[train], valid_data_paths=[valid]), section, max_valid_tokens=1000)
    assert manifest.tokenizer == TokenizerInfo.of(tokenizer, prepend_bos=False)
    [first], [second] = manifest.split("train"), manifest.split("valid")
    assert (first.name, first.path, first.code, first.source) == ("swh", train, "und_Zyyy", "monolingual")
    assert (first.documents, first.words, first.bytes, first.dtype) == (4, 0, 0, "uint16")
    assert second.name == "swh" and second.bytes == sum(len(text.encode()) for text in TEXTS[:2])
    assert first.content_hash == partial_hash(train) != second.content_hash
    parts = Parts(manifest.root)
    assert all(parts.open(shard).num_documents == shard.documents for shard in manifest.shards)


def test_a_manifest_is_read_as_it_is(write: Write, section: TokenizerConfig, tmp_path: Path) -> None:
    manifest = open_corpora(config(train_data_paths=[write("a", TEXTS)]), section)
    shards = tuple(replace(shard, path="a") for shard in manifest.shards)
    save_manifest(replace(manifest, shards=shards), tmp_path)
    data = config(data_manifest=str(tmp_path / "manifest.json"))
    again = open_corpora(data, section, max_valid_tokens=1)
    assert again.shards == shards and again.root == tmp_path
    assert mixture_section(data, again) is None
    with pytest.raises(ManifestError, match="no data is named"):
        open_corpora(config(), section)


def test_data_path_is_cut_into_two_parts(write: Write, section: TokenizerConfig, tokenizer: Tokenizer) -> None:
    texts = [f"{TEXTS[number % 4]} {number}" for number in range(20)]
    path = write("corpus_text_document", texts)
    data = config(data_path=path, split="14, 4, 2")
    manifest = open_corpora(data, section, max_valid_tokens=10**6)
    [train], [valid] = manifest.split("train"), manifest.split("valid")
    assert (train.documents, train.first_document, train.first_token) == (14, 0, 0)
    assert (valid.documents, valid.first_document, valid.first_token) == (4, 14, train.tokens)
    assert train.path == valid.path == path and train.name == valid.name == "corpus"
    assert valid.bytes == sum(len(text.encode()) for text in texts[14:18])
    part = Parts(manifest.root).open(valid)
    assert [tokenizer.decode(part.document(number).tolist()) for number in range(4)] == texts[14:18]
    assert mixture_section(data, manifest) is None
    only_train = open_corpora(config(data_path=path, split="1"), section, max_valid_tokens=9)
    assert [(shard.split, shard.documents) for shard in only_train.shards] == [("train", 20)]
    assert "training none of the 20 documents" in problems(config(data_path=path, split="1e-9,1,1"), section)[0]


def test_a_sidecar_is_used(write: Write, describe: Any, section: TokenizerConfig) -> None:
    path = write("x_train_text_document", TEXTS)
    data = config(train_data_paths=[path], valid_data_paths=[path])
    entry = describe(path, open_corpora(config(train_data_paths=[path]), section), name="swahili")
    manifest = open_corpora(data, section, max_valid_tokens=10**6)
    assert manifest.split("train") == (replace(entry, path=path),)
    assert manifest.split("valid") == (replace(entry, path=path, split="valid"),)  # whole, so its bytes are known
    [part] = open_corpora(data, section, max_valid_tokens=1).split("valid")
    assert (part.documents, part.bytes) == (1, len(TEXTS[0].encode()))
    train, valid = sorted(
        open_corpora(config(data_path=path, split="2/2"), section, max_valid_tokens=10**6).shards, key=lambda s: s.split
    )
    assert train.words == round(50 * train.tokens / entry.tokens) and valid.first_document == 2
    assert valid.bytes == sum(len(text.encode()) for text in TEXTS[2:])


def test_training_on_held_out_text_is_told(write: Write, section: TokenizerConfig, caplog: Any) -> None:
    path = write("x", TEXTS)
    open_corpora(config(train_data_paths=[path], valid_data_paths=[path]), section)
    assert "is trained on and scored" in caplog.text


def test_a_sidecar_of_another_tokenizer_is_refused(
    write: Write, describe: Any, section: TokenizerConfig, tmp_path: Path
) -> None:
    path, other = write("a", TEXTS), write("b", TEXTS)
    manifest = open_corpora(config(train_data_paths=[path, other]), section)
    for name in (path, other):
        describe(name, manifest, name=Path(name).name)
    text = Path(f"{path}.json").read_text().replace(manifest.tokenizer.fingerprint, "00")
    Path(f"{path}.json").write_text(text)
    [problem] = problems(config(train_data_paths=[path, other]), section)
    assert problem.startswith("train_data_paths.0: ") and "with fingerprint 00, but vocab_file" in problem
    describe(path, manifest, name="a")
    text = Path(f"{other}.json").read_text().replace('"prepend_bos": false', '"prepend_bos": true')
    Path(f"{other}.json").write_text(text)
    [problem] = problems(config(train_data_paths=[path, other]), section)
    assert problem.startswith("train_data_paths.1: ") and "tokenise one of them again" in problem
    Path(f"{other}.json").write_text('{"text": "raw data"}')
    [first, *_] = problems(config(train_data_paths=[other]), section)
    assert first.startswith("train_data_paths.0: ") and "move it elsewhere" in first
    Path(f"{other}.json").write_text(" " * (1 << 20) + "[1]")
    assert open_corpora(config(train_data_paths=[other]), section).split("train")


def test_every_wrong_path_is_named(write: Write, section: TokenizerConfig, tmp_path: Path) -> None:
    good = write("good_text_document", TEXTS)
    write("empty", [])
    short = good.removesuffix("_text_document")
    paths = [good, short, f"{good}.bin", str(tmp_path / "absent"), str(tmp_path / "empty")]
    again = str(tmp_path / "." / ".." / tmp_path.name / "good_text_document")
    told = problems(config(train_data_paths=[*paths, again], valid_data_paths=[str(tmp_path / "v")]), section)
    texts = (
        "train_data_paths.5: " + again + " is listed before, as train_data_paths.0",
        f"train_data_paths.1: {short}.idx: there is no such file, but {good}.idx is there",
        f"but {good}.idx is there: write {good}",
        "train_data_paths.3: ",
        "train_data_paths.4: ",
        "valid_data_paths.0: ",
    )
    assert len(told) == len(texts)
    assert all(text in problem for text, problem in zip(texts, told, strict=True)), told


def test_a_tokenizer_that_cannot_be_used(write: Write, section: TokenizerConfig, tmp_path: Path) -> None:
    data = config(train_data_paths=[write("a", TEXTS)])
    absent = section.model_copy(update={"vocab_file": str(tmp_path / "absent")})
    assert "cannot be read (No such file" in problems(data, absent)[0]
    (tmp_path / "no.model").write_bytes(b"none")
    damaged = section.model_copy(update={"vocab_file": str(tmp_path / "no.model")})
    assert "is no SentencePiece model" in problems(data, damaged)[0]


def test_ids_outside_the_vocabulary(write: Write, section: TokenizerConfig) -> None:
    [problem] = problems(config(train_data_paths=[write("a", TEXTS), write("b", TEXTS, end=5000)]), section)
    assert problem.startswith("train_data_paths.1: ") and "holds the id 5000, but the tokenizer has only" in problem


def test_documents_without_the_end_of_document(write: Write, section: TokenizerConfig, caplog: Any) -> None:
    paths = [write("good", TEXTS), write("by_neox", TEXTS, end=0)]
    manifest = open_corpora(config(train_data_paths=paths), section)
    assert manifest.tokenizer.eod_id == 2
    assert f"documents of {paths[1]} end with other ids (0) than the tokenizer's end of document, 2" in caplog.text
    keys = {"reset_attention_mask": True, "reset_position_ids": True, "eod_mask_loss": True}
    told = problems(config(train_data_paths=paths, **keys), section)
    assert [problem.split(" = ")[0] for problem in told] == list(keys)
    assert all("end with other ids (0)" in problem for problem in told)
    assert open_corpora(config(train_data_paths=paths[:1], **keys), section)


def test_beginning_of_text_is_seen(write: Write, section: TokenizerConfig, caplog: Any) -> None:
    train, valid = write("a", TEXTS, bos=True), write("v", TEXTS, bos=True)
    manifest = open_corpora(config(train_data_paths=[train], valid_data_paths=[valid]), section, max_valid_tokens=999)
    assert manifest.tokenizer.prepend_bos and manifest.tokenizer.bos_id == 1
    assert manifest.split("valid")[0].bytes == sum(len(text.encode()) for text in TEXTS)
    assert not caplog.records
    assert not open_corpora(config(train_data_paths=[train, write("b", TEXTS)]), section).tokenizer.prepend_bos
    assert f"scores of {train} are a little off" in caplog.text


def test_held_out_text_is_bounded_and_divided_evenly(
    write: Write, section: TokenizerConfig, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{TEXTS[0]} {number}" for number in range(50)]
    lengths = np.cumsum([len(tokenizer.encode(text)) + 1 for text in texts])
    data = config(train_data_paths=[write("t", TEXTS)], valid_data_paths=[write(name, texts) for name in "abc"])

    def taken(limit: int | None) -> set[tuple[int, int, int]]:
        shards = open_corpora(data, section, max_valid_tokens=limit).split("valid")
        assert len(shards) == 3 and all(shard.first_token == 0 for shard in shards)
        return {(shard.documents, shard.tokens, shard.bytes) for shard in shards}

    def of(documents: int) -> set[tuple[int, int, int]]:
        return {(documents, int(lengths[documents - 1]), sum(len(text.encode()) for text in texts[:documents]))}

    assert taken(3 * int(lengths[9])) == of(10)
    assert taken(3 * int(lengths[9]) + 2) == of(10)
    assert taken(3 * int(lengths[9]) - 1) == of(9)
    assert taken(1) == of(1)
    assert taken(10**12) == of(50)
    assert taken(None) == {(50, int(lengths[-1]), 0)}
    monkeypatch.setattr(neox_paths, "MOST_HELD_OUT_TOKENS", 3 * int(lengths[4]))
    assert taken(10**12) == of(5)


def test_held_out_documents_without_text(write: Write, section: TokenizerConfig) -> None:
    data = config(train_data_paths=[write("t", TEXTS)], valid_data_paths=[write("v", ["", ""])])
    with pytest.raises(ManifestError, match="hold no text"):
        open_corpora(data, section, max_valid_tokens=10)


def test_weights(write: Write, section: TokenizerConfig) -> None:
    paths = [write("b", TEXTS * 8), write("a", TEXTS[:1]), write("sub/b", TEXTS)]
    names = [f"{Path(paths[0]).parent.name}/b", "a", "sub/b"]

    def weights(**settings: Any) -> dict[str, float]:
        data = config(train_data_paths=paths, **settings)
        section_ = mixture_section(data, open_corpora(data, section))
        assert section_ is not None and section_.weights is not None
        plan_mixture(open_corpora(data, section), section_, run=RunSize(8, 2, 10))
        return dict(section_.weights)

    assert weights() == dict.fromkeys(names, 1.0)
    assert weights(train_data_weights=[3, 0, 0.5]) == dict(zip(names, (3.0, 0.0, 0.5), strict=True))
    assert weights(weight_by_num_documents=True) == dict(zip(names, (32.0, 1.0, 4.0), strict=True))
    by_root = weights(weight_by_num_documents=True, weighted_sampler_alpha=0.5)
    assert by_root == pytest.approx(dict(zip(names, (32**0.5, 1.0, 2.0), strict=True)))
    assert set(weights(weight_by_num_documents=True, weighted_sampler_alpha=0).values()) == {1.0}


def test_weight_by_num_documents_is_what_gpt_neox_documents(write: Write, section: TokenizerConfig) -> None:
    paths = [write(name, TEXTS) for name in "abc"]
    manifest = open_corpora(config(train_data_paths=paths), section)
    sizes = dict(zip(paths, (1_000_000, 10_000, 100), strict=True))
    manifest = replace(manifest, shards=tuple(replace(s, documents=sizes[s.path]) for s in manifest.shards))
    data = config(train_data_paths=paths, weight_by_num_documents=True, weighted_sampler_alpha=0.3)
    made = mixture_section(data, manifest)
    assert made is not None and made.weights is not None
    total = sum(made.weights.values())
    assert [round(made.weights[name] / total, 3) for name in "abc"] == [0.761, 0.191, 0.048]


def test_a_mixture_of_its_own(write: Write, describe: Any, section: TokenizerConfig) -> None:
    path = write("a", TEXTS)
    for mixture, refused in (
        ({"alpha": 0.3}, True),
        ({"unit": "bytes"}, True),
        ({"unit": "tokens"}, False),
        ({"weights": {"a": 1}}, False),
    ):
        data = config(train_data_paths=[path], mixture=mixture)
        manifest = open_corpora(data, section)
        if refused:
            with pytest.raises(ManifestError, match=r"Set mixture\.unit: tokens"):
                mixture_section(data, manifest)
        else:
            assert mixture_section(data, manifest) is data.mixture
    describe(path, manifest, name="a", content_hash="00")
    data = config(train_data_paths=[path], mixture={"alpha": 0.3})
    assert mixture_section(data, open_corpora(data, section)) is data.mixture


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/x/swh_Latn_text_document", "swh_Latn"),
        ("swh_Latn_valid_text_document", "swh_Latn"),
        ("data/enwik8/enwik8_text_document", "enwik8"),
        ("pile_train_document", "pile"),
        ("plain.v2", "plain.v2"),
        ("x_validation", "x"),
        ("/x/_text_document", "_text_document"),
    ],
)
def test_names_of_files(path: str, name: str) -> None:
    assert name_of(path) == name


def test_equal_names_get_folders() -> None:
    paths = ["/m/a/x", "/m/b/x", "/n/a/x", "/n/y", "/n/y_train"]
    names = corpus_names(paths, ["x", "x", "x", "y", "y"], ["train"] * 5)
    assert names == ["m/a/x", "b/x", "n/a/x", "/n/y", "/n/y_train"]
    assert corpus_names(["x", "y"], ["x", "y"], ["train"] * 2) == ["x", "y"]
    assert corpus_names(["x", "x_train"], ["x", "x"], ["train"] * 2) == ["x", "x_train"]
    assert corpus_names([], [], []) == []


def test_held_out_text_keeps_the_name_of_its_corpus() -> None:
    assert corpus_names(["/a/x", "/a/x_valid"], ["x", "x"], ["train", "valid"]) == ["x", "x"]
    paths = ["/a/x", "/b/x", "/b/x_valid"]
    assert corpus_names(paths, ["x", "x", "x"], ["train", "train", "valid"]) == ["a/x", "b/x", "b/x"]


def test_documents_without_tokens_around_a_split(write: Write, section: TokenizerConfig, tokenizer: Tokenizer) -> None:
    path = write("swh_text_document", [])
    with ShardWriter(path, dtype=np.uint16) as writer:
        for text in ("", "Habari", "dunia", ""):
            writer.add_document(np.array([*tokenizer.encode(text), tokenizer.eod_id] if text else [], dtype=np.int64))
    whole = open_corpora(DataConfig(seq_length=8, data_path=path, split="1,0,0"), section)
    part = open_corpora(DataConfig(seq_length=8, data_path=path, split="3,0,1"), section)
    (all_four,), (first_three,) = whole.shards, part.shards
    assert (first_three.documents, first_three.tokens) == (3, all_four.tokens)
    for manifest, shard in ((whole, all_four), (part, first_three)):
        opened = Parts(manifest.root).open(shard)
        assert [len(opened.document(number)) > 0 for number in range(3)] == [False, True, True]
    with pytest.raises(ManifestError, match=r"the 1 documents of .* for training hold no tokens"):
        open_corpora(DataConfig(seq_length=8, data_path=path, split="1,3,0"), section)


def test_partial_hash_tells_files_apart(write: Write, tmp_path: Path) -> None:
    one, same, other = write("one", TEXTS), write("same", TEXTS), write("other", TEXTS[::-1])
    assert partial_hash(one) == partial_hash(same) != partial_hash(other)


def test_counting_is_shown_when_there_is_much(
    write: Write, section: TokenizerConfig, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = config(train_data_paths=[write("t", TEXTS)], valid_data_paths=[write("v", TEXTS)])
    open_corpora(data, section, max_valid_tokens=1000, show_progress=True)
    assert "bytes of v" not in capfd.readouterr().err
    monkeypatch.setattr(bare_shards, "_WORTH_A_BAR_TOKENS", 10)
    open_corpora(data, section, max_valid_tokens=1000, show_progress=True)
    assert "bytes of v" in capfd.readouterr().err
    open_corpora(data, section, max_valid_tokens=1000)
    assert "bytes of v" not in capfd.readouterr().err


def test_the_tokenizer_is_loaded_once_for_many_held_out_shards(
    write: Write, section: TokenizerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = config(train_data_paths=[write("t", TEXTS)], valid_data_paths=[write(name, TEXTS) for name in "abcd"])
    loads = []

    def counted(*arguments: Any, **options: Any) -> Tokenizer:
        loads.append(arguments)
        return load_tokenizer(*arguments, **options)

    monkeypatch.setattr("megatron.data.neox.made_by.load_tokenizer", counted)
    open_corpora(data, section, max_valid_tokens=1000)
    assert len(loads) == 1
