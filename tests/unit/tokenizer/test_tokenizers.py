from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.tokenizer.base import Tokenizer, TokenizerError
from megatron.tokenizer.load import TOKENIZER_TYPES, TokenizerFile, load_tokenizer
from megatron.tokenizer.tiktoken_tokenizer import LLAMA3_PATTERN, llama3_special_tokens
from megatron.utils.files import fingerprint_file

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
MARKUP = [
    *(
        "</s>",
        "<s>",
        "<unk>",
        "<0x0A>",
        "<0xE3><0x81><0x82>",
        "a </s> b",
        "hello </s> world",
        "<s>x</s>",
        "<S>",
        "< s>",
    ),
    *("<|end_of_text|>", "<|begin_of_text|>", "<|eot_id|>", "<|reserved_special_token_0|>", "x<|end_of_text|>\n"),
]
CASES = [(kind, fast) for kind in (*TOKENIZER_TYPES, "HFTokenizer of ranks") for fast in (False, True)]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}{' fast' * case[1]}")
def tokenizer(
    request: pytest.FixtureRequest, sp_model: Path, ranks_file: Path, hf_folder: Path, hf_ranks_folder: Path
) -> Tokenizer:
    files = {"SPMTokenizer": sp_model, "TiktokenTokenizer": ranks_file, "HFTokenizer": hf_folder / "tokenizer.json"}
    kind, fast = request.param
    if fast:
        pytest.importorskip("gigatoken")
    return TokenizerFile(kind.split()[0], files.get(kind, hf_ranks_folder), fast=fast).load()


def test_batches_are_int32_arrays_of_the_same_ids(tokenizer: Tokenizer, texts: list[str]) -> None:
    texts = [*texts, "", " ", "a"]
    arrays = tokenizer.encode_batch(texts)
    assert [array.dtype for array in arrays] == [np.dtype(np.int32)] * len(texts)
    assert [array.tolist() for array in arrays] == [tokenizer.encode(text) for text in texts]
    assert max(array.max() for array in arrays if len(array)) < tokenizer.vocab_size
    assert tokenizer.encode_batch([]) == []


def test_text_comes_back(tokenizer: Tokenizer, texts: list[str]) -> None:
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(np.array(tokenizer.encode("free"))) == "free"


def test_special_ids_give_no_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.bos_id is not None
    assert tokenizer.decode([tokenizer.bos_id, *tokenizer.encode("free"), tokenizer.eod_id]) == "free"


@pytest.mark.parametrize("markup", MARKUP)
def test_markup_in_text_never_becomes_a_special_id(tokenizer: Tokenizer, markup: str) -> None:
    for ids in (tokenizer.encode(markup), tokenizer.encode_batch([markup])[0].tolist()):
        assert not {tokenizer.eod_id, tokenizer.bos_id, tokenizer.unk_id} & set(ids)
        assert tokenizer.decode(ids) == markup  # special ids give no text, so there are none


def test_fingerprint_is_that_of_the_file(sp_model: Path, ranks_file: Path, hf_folder: Path, tmp_path: Path) -> None:
    assert load_tokenizer("SPMTokenizer", sp_model).fingerprint == fingerprint_file(sp_model)
    copy = shutil.copy(ranks_file, tmp_path / "other_name")
    assert load_tokenizer("TiktokenTokenizer", copy).fingerprint == fingerprint_file(ranks_file)
    assert load_tokenizer("HFTokenizer", hf_folder).fingerprint == fingerprint_file(hf_folder / "tokenizer.json")


def test_sentencepiece_special_ids_are_llama_2s(sp_model: Path) -> None:
    tokenizer = load_tokenizer("SPMTokenizer", sp_model)
    assert (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eod_id, tokenizer.vocab_size) == (0, 1, 2, 700)
    assert tokenizer.kind == "SPMTokenizer"


def test_tiktoken_special_ids_follow_the_ranks(ranks_file: Path) -> None:
    tokenizer = load_tokenizer("TiktokenTokenizer", ranks_file)
    ranks = len(ranks_file.read_bytes().splitlines())
    assert (tokenizer.bos_id, tokenizer.eod_id, tokenizer.unk_id) == (ranks, ranks + 1, None)
    assert tokenizer.vocab_size == ranks + 256
    assert load_tokenizer("TiktokenTokenizer", ranks_file, eod_token="<|eot_id|>").eod_id == ranks + 9


def test_llama_3_has_256_different_special_tokens() -> None:
    tokens = llama3_special_tokens()
    assert len(tokens) == len(set(tokens)) == 256
    assert tokens[6:10] == ["<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>"]
    assert tokens[-1] == "<|reserved_special_token_250|>"
    assert LLAMA3_PATTERN.count("|") == 12


def test_llama_2s_file(shared: Path) -> None:
    tokenizer = load_tokenizer("SPMTokenizer", shared / "data" / "tokenizers" / "llama2" / "tokenizer.model")
    assert (tokenizer.vocab_size, tokenizer.eod_id, tokenizer.bos_id, tokenizer.unk_id) == (32000, 2, 1, 0)
    assert tokenizer.encode("Hello this is a test") == [15043, 445, 338, 263, 1243]


def test_llama_3s_file(shared: Path) -> None:
    tokenizer = load_tokenizer("TiktokenTokenizer", shared / "data" / "tokenizers" / "llama3" / "tokenizer.model")
    assert (tokenizer.vocab_size, tokenizer.eod_id, tokenizer.bos_id) == (128256, 128001, 128000)
    assert tokenizer.encode("This is a test sentence.") == [2028, 374, 264, 1296, 11914, 13]


def test_byte_tokens_are_parts_of_characters(tokenizer: Tokenizer) -> None:
    mask = tokenizer.byte_token_mask()
    assert mask.shape == (tokenizer.vocab_size,)
    assert mask.dtype == np.bool_
    assert not mask.flags.writeable
    assert tokenizer.byte_token_mask() is mask
    assert not mask[tokenizer.encode("for a in range of a")].any()
    assert mask[tokenizer.encode("\U0001f3ff")[-4:]].all()  # no tokenizer here has a token for it
    assert not mask[[tokenizer.eod_id, tokenizer.bos_id]].any()


@settings(max_examples=200, deadline=None)
@given(text=TEXT)
def test_tokenizer_json_gives_sentencepieces_ids(sp_model: Path, hf_folder: Path, text: str) -> None:
    ids = load_tokenizer("SPMTokenizer", sp_model).encode(text)
    assert load_tokenizer("HFTokenizer", hf_folder / "tokenizer.json").encode(text) == ids


def test_repeated_characters_too(sp_model: Path, hf_folder: Path) -> None:
    ours, other = load_tokenizer("SPMTokenizer", sp_model), load_tokenizer("HFTokenizer", hf_folder)
    for unit in ("a", " ", "e", "  x", "。", "an"):
        for count in range(40):
            assert other.encode(unit * count) == ours.encode(unit * count), (unit, count)


@pytest.mark.parametrize("kind", ["SPMTokenizer", "TiktokenTokenizer", "HFTokenizer"])
def test_errors_say_what_is_wrong(tmp_path: Path, kind: str) -> None:
    with pytest.raises(TokenizerError, match="cannot be read"):
        load_tokenizer(kind, tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"\x00\xff not a model")
    with pytest.raises(TokenizerError, match="bad"):
        load_tokenizer(kind, tmp_path / "bad")


def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"GPT2BPETokenizer.*SPMTokenizer, HFTokenizer"):
        load_tokenizer("GPT2BPETokenizer", tmp_path)


def test_the_wrong_type_is_named(sp_model: Path) -> None:
    with pytest.raises(TokenizerError, match="use SPMTokenizer"):
        load_tokenizer("TiktokenTokenizer", sp_model)


@pytest.mark.parametrize("token", ["<unk>", "<|endoftext|>"])
def test_the_unknown_token_never_ends_documents(sp_model: Path, hf_folder: Path, token: str) -> None:
    # SentencePiece answers with the unknown id for a piece that it does not have: GPT-NeoX took it for the separator.
    with pytest.raises(TokenizerError, match="unknown token"):
        load_tokenizer("SPMTokenizer", sp_model, eod_token=token)
    with pytest.raises(TokenizerError, match=r"unknown token|has no token"):
        load_tokenizer("HFTokenizer", hf_folder, eod_token=token)


def test_a_model_without_eos_needs_an_eod_token(tmp_path: Path, sp_model: Path, texts: list[str]) -> None:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(tmp_path / "m"),
        vocab_size=600,
        model_type="bpe",
        eos_id=-1,
        byte_fallback=True,
        minloglevel=2,
    )
    with pytest.raises(TokenizerError, match=r"no token eos.*--eod-token"):
        load_tokenizer("SPMTokenizer", tmp_path / "m.model")
    assert load_tokenizer("SPMTokenizer", tmp_path / "m.model", eod_token="<s>").eod_id == 1


def test_hf_eod_comes_from_the_files_beside_it_or_the_caller(tmp_path: Path, hf_folder: Path) -> None:
    path = Path(shutil.copy(hf_folder / "tokenizer.json", tmp_path))
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json.*--eod-token"):
        load_tokenizer("HFTokenizer", path)
    assert load_tokenizer("HFTokenizer", path, eod_token="<s>").eod_id == 1
    with pytest.raises(TokenizerError, match="has no token '<none>'"):
        load_tokenizer("HFTokenizer", path, eod_token="<none>")
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<s>"}))
    assert load_tokenizer("HFTokenizer", path).eod_id == 1
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "</s>"}, "bos_token": None}))
    assert load_tokenizer("HFTokenizer", path).eod_id == 2
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(TokenizerError, match="is not JSON"):
        load_tokenizer("HFTokenizer", path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(TokenizerError, match="not a JSON object"):
        load_tokenizer("HFTokenizer", path)


def test_the_end_of_document_token_may_be_given_by_its_id(
    tmp_path: Path, sp_model: Path, ranks_file: Path, hf_folder: Path
) -> None:
    ranks = len(ranks_file.read_bytes().splitlines())
    alone = Path(shutil.copy(hf_folder / "tokenizer.json", tmp_path))  # nothing beside it names a token
    for kind, file, eod_id, token in (
        ("SPMTokenizer", sp_model, 1, "<s>"),
        ("HFTokenizer", hf_folder, 1, "<s>"),
        ("HFTokenizer", alone, 2, "</s>"),
        ("TiktokenTokenizer", ranks_file, ranks + 9, "<|eot_id|>"),
    ):
        tokenizer = load_tokenizer(kind, file, eod_id=eod_id)
        assert tokenizer.eod_id == eod_id
        tokenizer.save(tmp_path / kind, prepend_bos=False)
        assert json.loads((tmp_path / kind / "tokenizer_config.json").read_text())["eos_token"] == token
        assert load_tokenizer("HFTokenizer", tmp_path / kind).eod_id == eod_id


def test_an_id_that_cannot_end_documents_is_refused(sp_model: Path, ranks_file: Path, hf_folder: Path) -> None:
    ranks = len(ranks_file.read_bytes().splitlines())
    for kind, file, last in (
        ("SPMTokenizer", sp_model, 699),
        ("HFTokenizer", hf_folder, 699),
        ("TiktokenTokenizer", ranks_file, ranks + 255),
    ):
        assert load_tokenizer(kind, file, eod_id=last).eod_id == last
        for wrong in (-1, last + 1):
            with pytest.raises(TokenizerError, match=f"{file.name}.*has no token {wrong} to end documents"):
                load_tokenizer(kind, file, eod_id=wrong)
    with pytest.raises(TokenizerError, match="has no token 65 to end documents"):  # a byte, no special token
        load_tokenizer("TiktokenTokenizer", ranks_file, eod_id=65)
    for kind, file in (("SPMTokenizer", sp_model), ("HFTokenizer", hf_folder)):
        with pytest.raises(TokenizerError, match="'<unk>', id 0, is the unknown token"):
            load_tokenizer(kind, file, eod_id=0)
    with pytest.raises(TokenizerError, match="eod_token '</s>' and eod_id 2 are given"):
        load_tokenizer("SPMTokenizer", sp_model, eod_token="</s>", eod_id=2)


def test_truncation_and_padding_of_the_file_do_not_apply(tmp_path: Path, hf_folder: Path, texts: list[str]) -> None:
    library = tokenizers.Tokenizer.from_file(str(hf_folder / "tokenizer.json"))
    library.enable_truncation(max_length=3)
    library.enable_padding(length=500)
    library.save(str(tmp_path / "tokenizer.json"))
    limited = load_tokenizer("HFTokenizer", tmp_path, eod_token="</s>")
    assert limited.encode_batch(texts)[0].tolist() == load_tokenizer("HFTokenizer", hf_folder).encode(texts[0])


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        ([b"IQ== 0", b"IQ"], "line 2"),
        ([b"IQ== x"], "line 1"),
        ([b"I?== 0"], "line 1"),
        ([base64.b64encode(bytes([byte])) + f" {byte}".encode() for byte in range(255)], "1 of the 256"),
        ([base64.b64encode(bytes([byte])) + f" {byte + byte // 9}".encode() for byte in range(256)], "0 to 255"),
    ],
)
def test_damaged_ranks_are_refused(tmp_path: Path, lines: list[bytes], rule: str) -> None:
    (tmp_path / "x").write_bytes(b"\n".join(lines))
    with pytest.raises(TokenizerError, match=rule):
        load_tokenizer("TiktokenTokenizer", tmp_path / "x")


def test_imports_without_torch() -> None:
    modules = ["load", "train", "export", "fast", "sentencepiece_tokenizer", "hf_tokenizer", "tiktoken_tokenizer"]
    code = "import sys; sys.modules['torch'] = None\n" + "".join(f"import megatron.tokenizer.{m}\n" for m in modules)
    subprocess.run([sys.executable, "-c", code], check=True)
