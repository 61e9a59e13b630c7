from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.tokenizer.base import Tokenizer, TokenizerError
from megatron.tokenizer.fast import FastTokenizer, checked_places
from megatron.tokenizer.load import TOKENIZER_TYPES, TokenizerFile

MARKUP = ["hello </s> world", "<s>", "<unk>", "<0x0A>", "<|end_of_text|>", "<|begin_of_text|>", "<s>x</s>"]
NEW = ["a\U00032581\n", "a\U00011de1b", "1\U00016ff4\n", "\U000e0001", "\U0010ffff a"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(autouse=True)
def _gigatoken(request: pytest.FixtureRequest) -> None:
    if "without_gigatoken" not in request.node.name:
        pytest.importorskip("gigatoken", reason="needs gigatoken: pip install gigatoken==0.10.0")


@pytest.fixture
def files(sp_model: Path, ranks_file: Path, hf_folder: Path) -> dict[str, Path]:
    return {"SPMTokenizer": sp_model, "TiktokenTokenizer": ranks_file, "HFTokenizer": hf_folder / "tokenizer.json"}


@pytest.fixture(params=TOKENIZER_TYPES)
def both(request: pytest.FixtureRequest, files: dict[str, Path]) -> tuple[Tokenizer, Tokenizer]:
    kind = request.param
    return TokenizerFile(kind, files[kind]).load(), TokenizerFile(kind, files[kind], fast=True).load()


def ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [array.tolist() for array in tokenizer.encode_batch(texts)]


def engine_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    # What gigatoken says by itself: neither checked nor routed.
    return [list(row) for row in tokenizer._engine.encode_batch_list(texts, parallel=False)]


def test_the_same_ids_as_int32(both: tuple[Tokenizer, Tokenizer], texts: list[str]) -> None:
    slow, fast = both
    texts = [*texts, "", " ", "a", *NEW]
    assert ids(fast, texts) == ids(slow, texts)
    assert {array.dtype for array in fast.encode_batch(texts)} == {np.dtype(np.int32)}
    assert fast.encode_batch([]) == [] and ids(fast, [""]) == [[]]
    assert engine_ids(fast, texts[:-5]) == ids(slow, texts[:-5])


@pytest.mark.parametrize("markup", MARKUP)
def test_markup_never_becomes_a_special_id(both: tuple[Tokenizer, Tokenizer], markup: str) -> None:
    slow, fast = both
    for found in (slow.encode(markup), *ids(slow, [markup]), fast.encode(markup), *engine_ids(fast, [markup])):
        assert found == slow.encode(markup)
        assert not {slow.eod_id, slow.bos_id, slow.unk_id} & set(found)


def test_everything_else_is_the_tokenizers_own(both: tuple[Tokenizer, Tokenizer], tmp_path: Path) -> None:
    slow, fast = both
    for name in ("kind", "fingerprint", "vocab_size", "eod_id", "bos_id", "unk_id"):
        assert getattr(fast, name) == getattr(slow, name)
    assert fast.decode(fast.encode("free")) == "free"
    assert np.array_equal(fast.byte_token_mask(), slow.byte_token_mask())
    slow.save(tmp_path / "slow", prepend_bos=True)
    fast.save(tmp_path / "fast", prepend_bos=True)
    contents = [json.loads((tmp_path / name / "tokenizer.json").read_text()) for name in ("slow", "fast")]
    assert contents[0] == contents[1]


@settings(max_examples=150, deadline=None)
@given(batch=st.lists(TEXT, max_size=8))
def test_random_texts(sp_model: Path, ranks_file: Path, batch: list[str]) -> None:
    for kind, path in (("SPMTokenizer", sp_model), ("TiktokenTokenizer", ranks_file)):
        assert ids(loaded(kind, path, True), batch) == ids(loaded(kind, path, False), batch)


_LOADED: dict[tuple[str, Path, bool], Tokenizer] = {}


def loaded(kind: str, path: Path, fast: bool) -> Tokenizer:
    key = (kind, path, fast)
    if key not in _LOADED:
        _LOADED[key] = TokenizerFile(kind, path, fast=fast).load()
    return _LOADED[key]


def test_a_difference_is_an_error(both: tuple[Tokenizer, Tokenizer]) -> None:
    _, fast = both
    assert isinstance(fast, FastTokenizer)
    engine = fast._engine

    class Wrong:
        def encode_batch(self, texts: list[str], *, parallel: bool) -> Any:
            return engine.encode_batch([text.replace("e", "a") for text in texts], parallel=parallel)

    fast._engine = Wrong()
    with pytest.raises(TokenizerError, match=r"different ids \(from token \d+ on\) for .*'eee.*without fast"):
        fast.encode_batch(["eee " * 500])


def test_one_in_a_hundred_is_checked() -> None:
    texts = [f"text {number}" for number in range(1000)]
    places = checked_places(texts)
    assert len(places) == len(set(places)) == 10
    assert checked_places(["one"]) == [0] and len(checked_places(texts[:99])) == 1
    assert {texts[place] for place in places} == {texts[::-1][place] for place in checked_places(texts[::-1])}


def test_without_gigatoken_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, sp_model: Path) -> None:
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    with pytest.raises(TokenizerError, match=r"pip install gigatoken==0\.10\.0"):
        TokenizerFile("SPMTokenizer", sp_model, fast=True).load()


@pytest.mark.parametrize(("kind", "name"), [("SPMTokenizer", "llama2"), ("TiktokenTokenizer", "llama3")])
def test_real_tokenizers_over_279_languages(shared: Path, kind: str, name: str) -> None:
    path = shared / "data" / "tokenizers" / name / "tokenizer.model"
    paths = sorted((shared / "data" / "udhr" / "raw").glob("*.jsonl"))
    texts = [json.loads(line)["text"] for each in paths for line in each.read_text(encoding="utf-8").splitlines()]
    assert len(texts) > 8000
    slow, fast = TokenizerFile(kind, path).load(), TokenizerFile(kind, path, fast=True).load()
    assert engine_ids(fast, texts) == ids(slow, texts)
    assert ids(fast, MARKUP + NEW) == ids(slow, MARKUP + NEW)
