from __future__ import annotations

import base64
import functools
import itertools
import json
import mmap
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.tokenizer import fast as fast_module
from megatron.tokenizer.base import Ids, Tokenizer, TokenizerError
from megatron.tokenizer.fast import FastTokenizer, checked_places, places_of_new_characters
from megatron.tokenizer.load import TokenizerFile, load_tokenizer
from megatron.tokenizer.tiktoken_tokenizer import llama3_special_tokens

pytest.importorskip("gigatoken", reason="fast needs gigatoken: pip install gigatoken==0.10.0")

SPELLED = ["</s>", "<s>", "<unk>", "<0x0A>", "<|end_of_text|>", "<|begin_of_text|>", "▁", " ▁▁", "Ġ"]
TEXT = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.sampled_from(SPELLED),
        st.text(st.sampled_from(" \t\n\r\u00a0\u3000'’aAsS.,-1２²é\u0301人ก"), max_size=20),
    ),
    max_size=6,
).map("".join)
KINDS = ("SPMTokenizer", "TiktokenTokenizer", "HFTokenizer", "HFTokenizer of ranks")


@pytest.fixture(scope="module")
def pair_of(
    sp_model: Path, ranks_file: Path, hf_folder: Path, hf_ranks_folder: Path
) -> Callable[[str], tuple[Tokenizer, FastTokenizer]]:
    """Return a function from a kind to its small tokenizer, plain and fast."""
    files = dict(zip(KINDS, (sp_model, ranks_file, hf_folder, hf_ranks_folder), strict=True))

    @functools.cache
    def make(kind: str) -> tuple[Tokenizer, FastTokenizer]:
        plain = load_tokenizer(kind.split()[0], files[kind])
        return plain, FastTokenizer(plain)

    return make


@pytest.fixture(scope="module", params=[("SPMTokenizer", "llama2"), ("TiktokenTokenizer", "llama3")])
def real(
    request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Tokenizer, FastTokenizer]]:
    """Return a real tokenizer and its tokenizer.json, each plain and fast."""
    kind, name = request.param
    folder = tmp_path_factory.mktemp(name)
    plain = load_tokenizer(kind, shared / "data" / "tokenizers" / name / "tokenizer.model")
    plain.save(folder, prepend_bos=True)
    converted = load_tokenizer("HFTokenizer", folder)
    return [(plain, FastTokenizer(plain)), (converted, FastTokenizer(converted))]


def assert_same(plain: Tokenizer, fast: FastTokenizer, texts: Sequence[str]) -> None:
    for text, ours, theirs in zip(texts, fast.encode_batch(texts), plain.encode_batch(texts), strict=True):
        assert ours.dtype == np.int32
        assert ours.tolist() == theirs.tolist(), text


@pytest.mark.parametrize("kind", KINDS)
def test_all_but_the_speed_is_the_tokenizers_own(
    tmp_path: Path, pair_of: Callable[[str], tuple[Tokenizer, FastTokenizer]], kind: str
) -> None:
    plain, fast = pair_of(kind)
    for name in ("kind", "fingerprint", "vocab_size", "eod_id", "bos_id", "unk_id"):
        assert getattr(fast, name) == getattr(plain, name)
    assert fast.decode(fast.encode("free")) == "free"
    assert fast.byte_token_mask() is plain.byte_token_mask()
    assert fast.tokenizer_json() == plain.tokenizer_json()
    fast.save(tmp_path, prepend_bos=False)
    assert load_tokenizer("HFTokenizer", tmp_path).encode("free") == plain.encode("free")


@pytest.mark.parametrize("kind", KINDS)
def test_fuzz(pair_of: Callable[[str], tuple[Tokenizer, FastTokenizer]], kind: str) -> None:
    plain, fast = pair_of(kind)

    @settings(max_examples=150, deadline=None)
    @given(texts=st.lists(TEXT, max_size=8))
    def run(texts: list[str]) -> None:
        assert_same(plain, fast, texts)

    run()


@pytest.mark.parametrize("kind", KINDS)
def test_repeated_characters(pair_of: Callable[[str], tuple[Tokenizer, FastTokenizer]], kind: str) -> None:
    units = ("a", " ", "\n", "e", "  x", "。", "an", "</s>", "1", "\u0301")
    assert_same(*pair_of(kind), [unit * count for unit in units for count in (*range(40), 1000, 20_000)])


def test_the_real_tokenizers_on_279_languages(shared: Path, real: list[tuple[Tokenizer, FastTokenizer]]) -> None:
    files = sorted((shared / "data" / "udhr" / "raw").glob("*.jsonl"))
    texts = [orjson.loads(line)["text"] for path in files for line in path.read_bytes().splitlines()]
    assert len(texts) > 8000
    plain, fast = real[0]
    assert_same(plain, fast, texts)
    for each in real[1]:  # tokenizers takes seconds for all of them
        assert_same(plain, each, texts[::10])  # type: ignore[arg-type]


def test_markup_with_the_real_tokenizers(real: list[tuple[Tokenizer, FastTokenizer]]) -> None:
    spelled = [*SPELLED, *llama3_special_tokens()]
    texts = [text for token in spelled for text in (token, f"hello {token} world", f"a{token}{token}\n", f"<{token}>")]
    for tokenizer in (tokenizer for pair in real for tokenizer in pair):
        forbidden = {tokenizer.eod_id, tokenizer.bos_id, tokenizer.unk_id}
        for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
            assert ids.tolist() == tokenizer.encode(text)
            assert not forbidden & set(ids.tolist())
            if "▁" not in text:  # SentencePiece's space
                assert tokenizer.decode(ids.tolist()) == text  # special ids give no text, so there are none


def test_characters_that_the_libraries_class_differently(tmp_path: Path) -> None:
    """Every character, with a vocabulary whose ids show where words end; a newer library may know newer ones."""
    leads, tails = (range(0xC2, 0xF5), range(0x80, 0xC0))
    tokens = [bytes([byte]) for byte in range(256)] + [bytes([tail]) + b"\n" for tail in tails]
    tokens += [before + bytes([lead]) for before in (b"a", b".", b"1") for lead in leads]
    lines = (base64.b64encode(token) + f" {rank}\n".encode() for rank, token in enumerate(tokens))
    (tmp_path / "ranks").write_bytes(b"".join(lines))
    plain = load_tokenizer("TiktokenTokenizer", tmp_path / "ranks")
    fast = FastTokenizer(plain)
    characters = [chr(code) for code in range(0x80, 0x110000) if not 0xD800 <= code < 0xE000]
    shown = [f"a{character}\n.{character}1{character}" for character in characters]
    groups = ["\n".join(shown[start : start + 64]) for start in range(0, len(shown), 64)]

    def differ(texts: Sequence[str]) -> list[int]:
        pairs = zip(fast._encode(texts), plain.encode_batch(texts), strict=True)
        return [place for place, (ours, theirs) in enumerate(pairs) if not np.array_equal(ours, theirs)]

    unlike = [characters[64 * group + place] for group in differ(groups) for place in differ(shown[64 * group :][:64])]
    assert len(unlike) == 4657
    assert "\U00032581" in unlike
    assert len(places_of_new_characters(unlike)) == len(unlike)
    assert_same(plain, fast, [shown[characters.index(character)] for character in unlike[::50]])
    converted = tmp_path / "hf"
    plain.save(converted, prepend_bos=False)
    hf = load_tokenizer("HFTokenizer", converted)
    assert_same(hf, FastTokenizer(hf), [*shown[:0x3000], *(f"a{character}\n.{character}" for character in unlike)])


def test_only_texts_with_new_characters_go_the_slow_way() -> None:
    assert places_of_new_characters([]) == []
    assert places_of_new_characters(["a", "é", "人", "😀", "\U00016f00", "\U00018d08", "\U00034000"]) == []
    assert places_of_new_characters(["a", "x\u088f", "", "\U00032581", "\U0001e6c0 b"]) == [1, 3, 4]


def test_the_sample_depends_on_the_texts_alone() -> None:
    texts = [f"text {number}" for number in range(1000)]
    chosen = {texts[place] for place in checked_places(texts)}
    assert len(chosen) == 10
    assert chosen == {texts[::-1][place] for place in checked_places(texts[::-1])}
    assert len(checked_places(texts[:3])) == 1
    assert len(checked_places(["one"] * 500)) == 5


class Broken:
    """Gives the ids of another tokenizer, except for one text, where the last is missing."""

    def __init__(self, fast: FastTokenizer, text: str) -> None:
        self.engine, self.text = fast._engine, text

    def encode(self, text: str) -> Ids:
        ids: Ids = self.engine.encode(text)
        return ids[:-1] if text == self.text else ids


def test_a_difference_is_an_error_that_names_the_text(sp_model: Path) -> None:
    plain = load_tokenizer("SPMTokenizer", sp_model)
    texts = [f"free and equal {number} " + "in dignity " * 30 for number in range(300)]
    places = checked_places(texts)
    for place, is_checked in ((places[-1], True), (next(p for p in range(300) if p not in places), False)):
        fast = FastTokenizer(plain)
        fast._engine = Broken(FastTokenizer(plain), texts[place])
        if not is_checked:
            assert len(fast.encode_batch(texts)[place]) == len(plain.encode(texts[place])) - 1
            continue
        with pytest.raises(TokenizerError) as caught:
            fast.encode_batch(texts)
        message = str(caught.value)
        assert f"free and equal {place} in dignity" in message
        assert len(message) < 500
        last = plain.encode(texts[place])[-1]
        assert f"from token {len(plain.encode(texts[place])) - 1} on [] and [{last}]; run without fast" in message


def test_of_a_long_text_only_the_beginning_is_checked(sp_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_module, "_CHECKED_CHARACTERS", 50)
    plain = load_tokenizer("SPMTokenizer", sp_model)
    fast = FastTokenizer(plain)
    seen: list[str] = []

    def encode_batch(texts: Sequence[str]) -> list[Ids]:
        seen.extend(texts)
        return plain.encode_batch(texts)

    monkeypatch.setattr(fast, "_tokenizer", SimpleNamespace(encode_batch=encode_batch, kind="x"))
    long = "All human beings are born free " * 9
    assert fast.encode_batch([long])[0].tolist() == plain.encode(long)
    assert seen == [long[:50]]
    fast._engine = Broken(FastTokenizer(plain), long[:50])
    with pytest.raises(TokenizerError, match="different ids"):
        fast.encode_batch([long])


@pytest.mark.parametrize("told", [True, False])
def test_what_was_remembered_is_dropped_in_time(sp_model: Path, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    text = "free and equal " * 100
    growth = itertools.count(0, 40) if told else itertools.repeat(None)
    monkeypatch.setattr(fast_module, "resident_bytes", lambda: next(growth))
    monkeypatch.setattr(fast_module, "_GROWTH_CHARACTERS", len(text))
    monkeypatch.setattr(fast_module, "_GROWTH_BYTES", 100 if told else 8 * 2 * len(text))
    plain = load_tokenizer("SPMTokenizer", sp_model)
    fast = FastTokenizer(plain)
    engines = []
    for _ in range(9):
        assert_same(plain, fast, [text])
        engines.append(fast._engine)
    loaded = [place for place, engine in enumerate(engines) if place == 0 or engine is not engines[place - 1]]
    assert loaded == ([0, 3, 6] if told else [0, 2, 5, 8])


def test_memory_of_the_process() -> None:
    before = fast_module.resident_bytes()
    if before is None:
        pytest.skip("this system does not tell the memory of a process")
    with mmap.mmap(-1, 100 << 20) as fresh:  # memory that was free already would not show
        np.frombuffer(fresh, dtype=np.uint8)[:] = 1
        after = fast_module.resident_bytes()
    assert after is not None
    assert after - before > 90 << 20


def test_no_thread_is_started(sp_model: Path) -> None:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("counts threads in /proc")
    code = f"""
import os
from pathlib import Path
from megatron.tokenizer.load import TokenizerFile
fast = TokenizerFile("SPMTokenizer", Path({str(sp_model)!r}), fast=True).load()
fast.encode_batch(["free and equal"])
before = len(os.listdir("/proc/self/task"))
fast.encode_batch(["free and equal in dignity and rights " * 50] * 2000)
assert len(os.listdir("/proc/self/task")) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_gigatoken_the_error_says_what_to_install(sp_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    with pytest.raises(TokenizerError, match=r"not installed: pip install gigatoken==0\.10\.0$"):
        TokenizerFile("SPMTokenizer", sp_model, fast=True).load()
    TokenizerFile("SPMTokenizer", sp_model).load()


def test_a_unigram_model_is_refused(tmp_path: Path, texts: list[str]) -> None:
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(tmp_path / "m"),
        vocab_size=700,
        model_type="unigram",
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    with pytest.raises(TokenizerError, match=r"fast cannot.*SPMTokenizer.*not a BPE model; run without fast"):
        TokenizerFile("SPMTokenizer", tmp_path / "m.model", fast=True).load()


def altered(folder: Path, source: Path, change: Callable[[dict[str, object]], None]) -> Path:
    shutil.copytree(source, folder, dirs_exist_ok=True)
    content = json.loads((folder / "tokenizer.json").read_text())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def test_what_gigatoken_cannot_do_is_refused(tmp_path: Path, hf_ranks_folder: Path) -> None:
    def other_words(content: dict[str, object]) -> None:
        content["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": r"\w+|\W+"}  # type: ignore[index]

    folder = altered(tmp_path, hf_ranks_folder, other_words)
    with pytest.raises(TokenizerError, match="gigatoken cannot do this HFTokenizer: Unknown pre_tokenizer Split"):
        TokenizerFile("HFTokenizer", folder, fast=True).load()


def test_what_gigatoken_does_otherwise_is_found_when_it_is_loaded(tmp_path: Path, hf_folder: Path) -> None:
    library = tokenizers.Tokenizer.from_file(str(hf_folder / "tokenizer.json"))
    for token, whole_word in (("<tool>", False), ("<call>", True)):
        library.add_tokens([tokenizers.AddedToken(token, single_word=whole_word, normalized=False)])
        library.save(str(tmp_path / "tokenizer.json"))
        file = TokenizerFile("HFTokenizer", tmp_path, "</s>", fast=True)
        if whole_word:
            with pytest.raises(TokenizerError, match="different ids for the text 'a<call>b'"):
                file.load()
        else:
            assert library.token_to_id(token) in file.load().encode_batch([f"a{token}b"])[0]
