"""Every gate is broken by the harm that it is there for, and says so when it has measured nothing."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest

from megatron.tokenizer.base import TokenizerError
from megatron.tokenizer.extend.extend import ExtendSettings, extend_tokenizer
from megatron.tokenizer.extend.gates import Checks, Gate, gate_table, library_gates
from megatron.tokenizer.extend.source import Source
from megatron.tokenizer.load import load_model_file

SETTINGS = ExtendSettings(new_tokens=150, size_multiple=32, max_held_out_changed=1.0, prepend_bos=False)


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
