"""Old tokenizers that need care, or cannot be extended: what is refused before anything is learnt, and why."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import sentencepiece_model_pb2

from megatron.tokenizer.base import TokenizerError
from megatron.tokenizer.extend.byte_level_old import ByteLevelOld
from megatron.tokenizer.extend.extend import ExtendSettings, extend_tokenizer
from megatron.tokenizer.extend.sentencepiece_old import SentencePieceOld
from megatron.tokenizer.extend.source import Source

SETTINGS = ExtendSettings(new_tokens=100, size_multiple=1, max_held_out_changed=1.0, prepend_bos=False)


def read_model(path: Path) -> Any:
    return sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())  # type: ignore[attr-defined]


def write_model(path: Path, proto: Any) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


def test_a_model_without_byte_fallback_is_refused(tmp_path: Path, sp_model: Path, sources: list[Source]) -> None:
    proto = read_model(sp_model)
    kept = [piece for piece in proto.pieces if piece.type != piece.BYTE]
    del proto.pieces[:]
    proto.pieces.extend(kept)
    proto.trainer_spec.byte_fallback = False
    path = write_model(tmp_path / "tokenizer.model", proto)
    with pytest.raises(TokenizerError, match="has no byte fallback"):
        extend_tokenizer(path, sources, tmp_path / "out", SETTINGS)


def test_no_new_token_has_the_text_of_a_control_piece(tmp_path: Path, sp_model: Path, sources: list[Source]) -> None:
    report = extend_tokenizer(sp_model, sources, tmp_path / "plain", SETTINGS)
    word = next(token for token in report.new_tokens["Grek"] if len(token) > 2)
    proto = read_model(sp_model)
    proto.pieces.add(piece=word, score=0.0, type=proto.SentencePiece.CONTROL)
    path = write_model(tmp_path / "tokenizer.model", proto)
    report = extend_tokenizer(path, sources, tmp_path / "out", SETTINGS)
    assert word not in report.new_tokens["Grek"]
    assert [piece.piece for piece in read_model(tmp_path / "out" / "tokenizer.model").pieces].count(word) == 1


def test_a_model_without_a_beginning_is_told_before_the_learning(
    tmp_path: Path, sp_model: Path, sources: list[Source], caplog: pytest.LogCaptureFixture
) -> None:
    proto = read_model(sp_model)
    proto.trainer_spec.bos_id = -1
    proto.pieces[1].piece = "<other>"
    path = write_model(tmp_path / "tokenizer.model", proto)
    with caplog.at_level(logging.INFO, logger="megatron"), pytest.raises(TokenizerError, match="give --no-prepend-bos"):
        extend_tokenizer(path, sources, tmp_path / "out", dataclasses.replace(SETTINGS, prepend_bos=True))
    assert "distinct words" not in caplog.text
    extend_tokenizer(path, sources, tmp_path / "out", SETTINGS)


@pytest.mark.parametrize("name", ["sp", "ranks"])
def test_a_folder_is_as_good_as_the_file_in_it(
    tmp_path: Path, hf_folder: Path, hf_ranks_folder: Path, sources: list[Source], name: str
) -> None:
    folder, file = (hf_folder, "tokenizer.model") if name == "sp" else (hf_ranks_folder, "tokenizer.json")
    assert (folder / "tokenizer.json").is_file()
    extend_tokenizer(folder, sources, tmp_path / "out", SETTINGS)
    extend_tokenizer(folder / file, sources, tmp_path / "same", SETTINGS)
    assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "same" / file).read_bytes()
    with pytest.raises(TokenizerError, match=r"holds neither tokenizer\.model nor tokenizer\.json"):
        extend_tokenizer(tmp_path, sources, tmp_path / "third", SETTINGS)


def test_a_bare_tokenizer_json_needs_no_end_token(tmp_path: Path, hf_ranks_folder: Path, sources: list[Source]) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(hf_ranks_folder / "tokenizer.json", bare)
    extend_tokenizer(bare, sources, tmp_path / "out", SETTINGS)
    extend_tokenizer(hf_ranks_folder, sources, tmp_path / "same", SETTINGS)
    written = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("out", "same")]
    assert written[0] == written[1]
    assert not (tmp_path / "out" / "tokenizer_config.json").exists()


def test_a_token_has_a_text_unless_it_is_a_part_of_a_character(sp_model: Path, ranks_file: Path) -> None:
    assert SentencePieceOld(sp_model, longest=16).surface("▁και") == " και"
    byte_level = ByteLevelOld(ranks_file, longest=16)
    assert [byte_level.surface(token) for token in (" ▁και".encode(), b"\xce", b"a\xce")] == [" ▁και", None, None]
