from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers

from megatron.tokenizer.base import TokenizerError
from megatron.tokenizer.export import SpecialTokens, merges_of, tiktoken_json, write_hf_files
from megatron.tokenizer.load import load_tokenizer


def test_merges_are_all_splits_in_the_order_of_the_tokens() -> None:
    ranks = {"a": 5, "b": 6, "c": 7, "abc": 2, "ab": 0, "bc": 1, "x": 8, "xyz": 3}
    assert merges_of(ranks) == [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")]


@pytest.mark.parametrize("prepend_bos", [False, True])
@pytest.mark.parametrize("kind", ["SPMTokenizer", "TiktokenTokenizer", "HFTokenizer"])
def test_saved_files_load_again_with_the_same_ids(
    tmp_path: Path, sp_model: Path, ranks_file: Path, hf_folder: Path, kind: str, prepend_bos: bool, texts: list[str]
) -> None:
    file = {"SPMTokenizer": sp_model, "TiktokenTokenizer": ranks_file, "HFTokenizer": hf_folder}[kind]
    ours = load_tokenizer(kind, file)
    ours.save(tmp_path / "new" / "folder", prepend_bos=prepend_bos)
    again = load_tokenizer("HFTokenizer", tmp_path / "new" / "folder")
    assert (again.eod_id, again.bos_id, again.vocab_size) == (ours.eod_id, ours.bos_id, ours.vocab_size)
    assert [again.encode(text) for text in texts] == [ours.encode(text) for text in texts]
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "new" / "folder" / "tokenizer.json"))
    first = [ours.bos_id] if prepend_bos else []
    assert library.encode("free").ids == first + ours.encode("free")
    config = json.loads((tmp_path / "new" / "folder" / "tokenizer_config.json").read_text())
    assert config["add_bos_token"] is prepend_bos
    assert config["eos_token"] == {"TiktokenTokenizer": "<|end_of_text|>"}.get(kind, "</s>")
    model = tmp_path / "new" / "folder" / "tokenizer.model"
    assert model.exists() == (kind == "SPMTokenizer")
    if kind == "SPMTokenizer":
        assert model.read_bytes() == sp_model.read_bytes()


def test_settings_that_users_rely_on_survive(tmp_path: Path, hf_folder: Path) -> None:
    source = tmp_path / "source"
    load_tokenizer("HFTokenizer", hf_folder).save(source, prepend_bos=False)
    config = json.loads((source / "tokenizer_config.json").read_text())
    config.update(chat_template="{{ x }}", tokenizer_class="LlamaTokenizerFast", add_bos_token=True, legacy=True)
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    load_tokenizer("HFTokenizer", source).save(tmp_path / "out", prepend_bos=False)
    saved = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert saved["chat_template"] == "{{ x }}"
    # LlamaTokenizer would rebuild the tokenizer with other spaces than tokenizer.json has.
    assert saved["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert saved["add_bos_token"] is False
    assert "legacy" not in saved


def train(path: Path, texts: list[str], **settings: Any) -> Path:
    defaults = {"vocab_size": 600, "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity"}
    defaults |= {"remove_extra_whitespaces": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 3), model_prefix=str(path), **(defaults | settings)
    )
    return Path(f"{path}.model")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"model_type": "unigram", "hard_vocab_limit": False}, "not a BPE model"),
        ({"normalization_rule_name": "nmt_nfkc"}, "normalises text"),
        ({"remove_extra_whitespaces": True}, "normalises text"),
        ({"user_defined_symbols": ["<sep>"]}, "user-defined"),
        ({"treat_whitespace_as_suffix": True}, "spaces in another way"),
    ],
)
def test_models_that_cannot_be_expressed_are_refused(
    tmp_path: Path, settings: dict[str, Any], problem: str, texts: list[str]
) -> None:
    tokenizer = load_tokenizer("SPMTokenizer", train(tmp_path / "m", texts, **settings))
    assert len(tokenizer.encode(texts[0])) > 5
    with pytest.raises(TokenizerError, match=problem):
        tokenizer.save(tmp_path / "out", prepend_bos=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("settings", [{"add_dummy_prefix": False}, {"byte_fallback": False}])
def test_variants_that_can_be_expressed(tmp_path: Path, settings: dict[str, Any], texts: list[str]) -> None:
    ours = load_tokenizer("SPMTokenizer", train(tmp_path / "m", texts, **settings))
    ours.save(tmp_path / "out", prepend_bos=False)
    again = load_tokenizer("HFTokenizer", tmp_path / "out")
    for text in [*texts, "ŧ", "a ŧŧ b", "ŧ ŧ", " lead", "two  spaces ", "\n\n"]:
        assert again.encode(text) == ours.encode(text), text
    for text in texts[:10]:
        if not settings.get("byte_fallback", True):
            break
        assert again.decode(again.encode(text)) == text


def with_pieces(model: Path, out: Path, *, first: list[str], last: list[str]) -> Path:
    """Replace the first pieces that were learnt and the last, rarest characters of a SentencePiece model."""
    from sentencepiece import sentencepiece_model_pb2

    schema: Any = sentencepiece_model_pb2
    proto = schema.ModelProto.FromString(model.read_bytes())
    learnt = [piece for piece in proto.pieces if piece.type == schema.ModelProto.SentencePiece.NORMAL]
    known = {piece.piece for piece in learnt}
    for piece, text in zip(learnt, first, strict=False):
        piece.piece = text
    unused = [piece for piece in learnt if piece.piece in "自由尊严和权利上一律平等。" and len(piece.piece) == 1]
    for piece, text in zip(unused, [text for text in last if text not in known], strict=False):
        piece.piece = text
    # Longer pieces may hold the characters that were taken away.
    left = {piece.piece for piece in learnt}
    for number, piece in enumerate(learnt):
        if not set(piece.piece) <= left:
            piece.piece = f"\ue000{number}"
            piece.type = schema.ModelProto.SentencePiece.CONTROL
    out.write_bytes(proto.SerializeToString())
    return out


def test_no_merge_makes_a_control_piece(tmp_path: Path, sp_model: Path) -> None:
    model = with_pieces(sp_model, tmp_path / "m", first=["</", "s>"], last=["<", "/", "s", ">"])
    ours = load_tokenizer("SPMTokenizer", model)
    assert (
        len(ours.encode("</s>")) == 3
    )  # the space in front and the two pieces, which together spell the control piece
    ours.save(tmp_path / "out", prepend_bos=False)
    again = load_tokenizer("HFTokenizer", tmp_path / "out")
    for text in ("</s>", "</s></s>", "<s>", "x </s>"):
        assert again.encode(text) == ours.encode(text), text


def test_pieces_of_unknown_characters_are_refused(tmp_path: Path, sp_model: Path) -> None:
    from sentencepiece import sentencepiece_model_pb2

    schema: Any = sentencepiece_model_pb2
    proto = schema.ModelProto.FromString(sp_model.read_bytes())
    next(piece for piece in proto.pieces if piece.type == schema.ModelProto.SentencePiece.NORMAL).piece = "ŧŧ"
    (tmp_path / "m").write_bytes(proto.SerializeToString())
    with pytest.raises(TokenizerError, match="characters that are no pieces"):
        load_tokenizer("SPMTokenizer", tmp_path / "m").save(tmp_path / "out", prepend_bos=False)


def test_a_word_that_is_a_token_wins_over_merges(tmp_path: Path) -> None:
    # No merges lead to b"abc" (neither "ab" nor "bc" is a token); tiktoken finds whole words first.
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"abc": 256}
    library = tokenizers.Tokenizer.from_str(tiktoken_json(ranks, special_tokens=["<eod>"], pattern=r"\w+|\W+"))
    assert library.encode("abc").ids == [256]
    assert library.encode("abcd").ids == [97, 98, 99, 100]


def test_prepend_bos_needs_one(tmp_path: Path) -> None:
    ranks = {bytes([byte]): byte for byte in range(256)}
    content = tiktoken_json(ranks, special_tokens=["<eod>"], pattern=r"\w+|\W+")
    with pytest.raises(TokenizerError, match="needs a beginning-of-text token"):
        write_hf_files(tmp_path / "x", content, tokens=SpecialTokens(None, "<eod>", None), prepend_bos=True)
