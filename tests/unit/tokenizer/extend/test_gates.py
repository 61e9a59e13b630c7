"""Every gate is broken by the harm that it is there for, and says so when it has measured nothing."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import sentencepiece_model_pb2

from megatron.tokenizer.base import Tokenizer, TokenizerError
from megatron.tokenizer.extend.byte_level_old import ByteLevelOld
from megatron.tokenizer.extend.extend import ExtendSettings, extend_tokenizer
from megatron.tokenizer.extend.gates import BrokenGatesError, Checks, Gate, gate_table, library_gates
from megatron.tokenizer.extend.sentencepiece_old import SentencePieceOld
from megatron.tokenizer.extend.source import Source, pivot_lines
from megatron.tokenizer.load import load_model_file, load_tokenizer
from tests.unit.tokenizer.extend.conftest import documents

SETTINGS = ExtendSettings(new_tokens=150, size_multiple=32, max_held_out_changed=1.0, prepend_bos=False)
GOOD_WRITE = {SentencePieceOld: SentencePieceOld.write, ByteLevelOld: ByteLevelOld.write}

Write = Callable[[Any, Sequence[Any], Path], Tokenizer]


def test_an_empty_pivot_is_refused(tmp_path: Path, sp_model: Path, sources: list[Source]) -> None:
    empty = Source("nothing", "eng_Latn", lambda: ["", "\n\n"], is_pivot=True)
    with pytest.raises(TokenizerError, match="pivot texts nothing have no line"):
        extend_tokenizer(sp_model, [*sources, empty], tmp_path / "out", SETTINGS)


def test_few_unseen_lines_are_no_measurement_and_there_is_a_warning(
    tmp_path: Path, sp_model: Path, sources: list[Source], caplog: pytest.LogCaptureFixture
) -> None:
    strict = dataclasses.replace(SETTINGS, max_held_out_changed=0.05)
    with caplog.at_level(logging.WARNING, logger="megatron"):
        report = extend_tokenizer(sp_model, sources, tmp_path / "out", strict)
    (guard,) = [gate for gate in report.gates if "has not seen" in gate.name]
    assert (guard.value, guard.of < 100, guard.state) == (0, True, "not measured")
    assert f"only {guard.of} pivot lines tell" in caplog.text


def test_a_gate_says_how_it_ended() -> None:
    gates = [
        Gate("a", 1, 0, 5, "why"),
        Gate("b", 0, 0, 5, "why"),
        Gate("c", 0.9, None, 5, "why"),
        Gate("d", 0, 0.05, 99, "why", least=100),
        Gate("e", 0.5, 0.05, 99, "why", least=100),
    ]
    assert [gate.state for gate in gates] == ["BROKEN", "passes", "told", "not measured", "BROKEN"]
    assert [gate.passes for gate in gates] == [False, True, True, True, False]
    lines = gate_table(gates)
    assert ["'why'" in line for line in lines] == [True, False, False, True, True]
    assert "at most" not in lines[2]


def test_a_library_that_is_not_asked_does_not_pass(sp_model: Path) -> None:
    tokenizer = load_model_file(sp_model)
    *_, last = library_gates(Checks(tokenizer, tokenizer, {"sentencepiece": tokenizer.encode}))
    assert (last.name, last.state) == ("texts with other ids by transformers", "not measured")
    assert "pip install transformers==" in gate_table([last])[0]


def good(old: Any, tokens: Sequence[Any], folder: Path) -> Tokenizer:
    write: Any = GOOD_WRITE[type(old)]
    tokenizer: Tokenizer = write(old, tokens, folder, prepend_bos=False)
    return tokenizer


def join_neighbours(old: Any, tokens: Sequence[Any], folder: Path) -> Tokenizer:
    joined = old.joined(documents("eng_Latn")[:1]) - set(old.texts)
    more = [token for token in sorted(joined) if len(token) > 2][:9]
    return good(old, [*tokens[: -len(more)], *more], folder)


def with_model(change: Callable[[Any, int], None]) -> Write:
    """Return what writes a ``tokenizer.model`` that is changed, given its message and the first new id."""

    def write(old: Any, tokens: Sequence[Any], folder: Path) -> Tokenizer:
        path = folder / "tokenizer.model"
        good(old, tokens, folder)
        proto = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())  # type: ignore[attr-defined]
        change(proto, old.tokenizer.vocab_size)
        path.write_bytes(proto.SerializeToString())
        return load_model_file(path)

    return write


def with_json(change: Callable[[Any], None]) -> Write:
    """Return what writes a ``tokenizer.json`` whose ``model`` is changed."""

    def write(old: Any, tokens: Sequence[Any], folder: Path) -> Tokenizer:
        path = folder / "tokenizer.json"
        tokenizer = good(old, tokens, folder)
        content = json.loads(path.read_text())
        change(content["model"])
        path.write_text(json.dumps(content))
        return load_tokenizer("HFTokenizer", path) if isinstance(old, ByteLevelOld) else tokenizer

    return write


def control(proto: Any, first: int) -> None:
    for piece in proto.pieces[first:]:
        piece.type = piece.CONTROL


def change_a_score(proto: Any, first: int) -> None:
    proto.pieces[first - 1].score -= 0.25


def lose_spaces(proto: Any, first: int) -> None:
    proto.normalizer_spec.remove_extra_whitespaces = True


def swap_the_last(proto: Any, first: int) -> None:
    last, other = proto.pieces[-1], proto.pieces[-2]
    last.piece, other.piece = other.piece, last.piece


def return_another(old: Any, tokens: Sequence[Any], folder: Path) -> Tokenizer:
    right = good(old, tokens, folder)
    with_model(swap_the_last)(old, tokens, folder)
    return right


def lose_merges(model: Any) -> None:
    del model["merges"][-100:]


def swap_old_ids(model: Any) -> None:
    vocab = model["vocab"]
    vocab["!"], vocab["#"] = vocab["#"], vocab["!"]


@pytest.mark.parametrize(
    ("kind", "write", "gate"),
    [
        ("sp", join_neighbours, "pivot lines changed"),
        ("sp", with_model(control), "new tokens that their text does not become"),
        ("sp", with_model(change_a_score), "old ids with another token"),
        ("sp", with_model(lose_spaces), "texts that no longer come back"),
        ("sp", return_another, "texts with other ids by sentencepiece"),
        ("sp", with_json(lose_merges), "texts with other ids by tokenizers"),
        ("sp", with_json(lose_merges), "texts with other ids by transformers"),
        ("ranks", join_neighbours, "pivot lines changed"),
        ("ranks", with_json(lose_merges), "new tokens that their text does not become"),
        ("ranks", with_json(lose_merges), "texts with other ids by tiktoken"),
        ("ranks", with_json(swap_old_ids), "old ids with another token"),
    ],
)
def test_a_bad_write_breaks_its_gate(
    tmp_path: Path, sp_model: Path, ranks_file: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch,
    kind: str, write: Write, gate: str,
) -> None:  # fmt: skip
    if gate.endswith("transformers"):
        pytest.importorskip("transformers")

    def bad(old: Any, tokens: Sequence[Any], folder: Path, *, prepend_bos: bool) -> Tokenizer:
        return write(old, tokens, folder)

    monkeypatch.setattr(SentencePieceOld if kind == "sp" else ByteLevelOld, "write", bad)
    with pytest.raises(BrokenGatesError) as error:
        extend_tokenizer(sp_model if kind == "sp" else ranks_file, sources, tmp_path / "out", SETTINGS)
    (line,) = [line for line in str(error.value).splitlines() if line.startswith(f"{gate} ")]
    assert "  BROKEN" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["sp", "ranks"])
def test_pivot_lines_that_the_guard_has_not_seen_break_its_gate(
    tmp_path: Path, sp_model: Path, ranks_file: Path, sources: list[Source], kind: str
) -> None:
    words = Source("words", "ell_Grek", lambda: documents("ell_Grek", count=40), is_pivot=True)
    unseen = Source("unseen", "ell_Grek", lambda: pivot_lines([words], held_out=True), is_pivot=True)
    strict = dataclasses.replace(SETTINGS, max_held_out_changed=0.05)
    with pytest.raises(BrokenGatesError, match=r"where the guard has not seen them, share.*BROKEN"):
        extend_tokenizer(sp_model if kind == "sp" else ranks_file, [*sources, unseen], tmp_path / "out", strict)


def test_unused_tokens_break_their_gate(tmp_path: Path, sp_model: Path, sources: list[Source]) -> None:
    strict = dataclasses.replace(SETTINGS, max_unused=0.0, hold_out=11)
    with pytest.raises(BrokenGatesError, match=r"unused in held-out text, share.*BROKEN"):
        extend_tokenizer(sp_model, sources, tmp_path / "out", strict)


def test_the_bar_counts_the_characters_too(
    tmp_path: Path, sp_model: Path, sources: list[Source], capsys: pytest.CaptureFixture[str]
) -> None:
    report = extend_tokenizer(sp_model, sources, tmp_path / "out", SETTINGS)
    told = capsys.readouterr().err
    assert report.facts["new_characters"] > 20
    for title in ("learn, to see", "learn"):
        (done, total) = re.findall(rf"{title}, some to spare: 100%.* (\d+)/(\d+) ", told)[-1]
        assert done == total
        assert report.facts["new_tokens"] <= int(total) < 1.2 * report.facts["new_tokens"]
