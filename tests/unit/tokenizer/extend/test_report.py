"""The rows of the report, and what it says of what they lack."""

from __future__ import annotations

import json

from megatron.tokenizer.extend.extend import ExtendSettings
from megatron.tokenizer.extend.gates import Measured
from megatron.tokenizer.extend.report import Report, corpus_rows, script_rows
from megatron.tokenizer.extend.source import Source


def source(name: str, *, is_cut: bool = False, is_pivot: bool = False) -> Source:
    return Source(name, name, list, is_pivot, is_cut)


def measured(total: int, tokens: dict[int, int]) -> Measured:
    after = {number: each // 2 for number, each in tokens.items()}
    return Measured(len(tokens), 10, dict(tokens), after, total)


def premiums(one: Measured, *, is_cut: bool = False, total: int = 20, pivot_is_cut: bool = False) -> float | None:
    sources = [source("eng_Latn", is_pivot=True, is_cut=pivot_is_cut), source("swh_Latn", is_cut=is_cut)]
    known = {"eng_Latn": measured(total, {5: 10, 10: 10, 15: 10, 20: 10}), "swh_Latn": one}
    return corpus_rows(sources, known, {}, parallel="eng_Latn")[1].premium_before


def test_premiums_are_of_the_documents_that_both_have() -> None:
    whole = {5: 20, 10: 30, 15: 40, 20: 50}
    assert premiums(measured(20, whole)) == 3.5
    assert premiums(measured(20, {**whole, 10: 0})) == (20 + 40 + 50) / 30  # a blank record, which has no tokens
    # Less of it was read: of the last document perhaps a part.
    assert premiums(measured(12, {5: 20, 10: 30}), is_cut=True) == 2.5
    assert premiums(measured(10, {5: 20, 10: 1}), is_cut=True) == 2
    assert premiums(measured(30, {**whole, 25: 999}), total=20, pivot_is_cut=True) == 3
    # All of both was read, and one has a document less: nothing says which.
    assert premiums(measured(19, {5: 20, 10: 30, 15: 40})) is None
    assert premiums(measured(4, {}), is_cut=True) is None


def told(parallel: str | None, sources: list[Source], known: dict[str, Measured]) -> Report:
    rows = corpus_rows(sources, known, {"swh_Latn": 1.0}, parallel=parallel)
    facts = {
        "settings": {"parallel": parallel}, "dropped_tokens": {}, "learnt_bytes": 0, "distinct_words": 0,
        "rare_words_dropped": 0, "new_characters": 0, "characters_without_room": 0,
    }  # fmt: skip
    return Report(facts, [], rows, script_rows(rows), {})


def test_what_the_tables_lack_is_told() -> None:
    sources = [source("eng_Latn", is_pivot=True, is_cut=True), source("swh_Latn")]
    report = told("eng_Latn", sources, {"eng_Latn": measured(9, {5: 10}), "swh_Latn": measured(4, {})})
    text = "\n".join(report.lines())
    assert "1 corpora have too few documents to hold one out: swh_Latn" in text
    assert "1 corpora have no premium" in text
    assert "1 pivots the text beyond --max-pivot-bytes was neither guarded nor measured: eng_Latn" in text
    assert [row["saved"] for row in json.loads(report.to_json())["corpora"]] == [0.5, None]
    assert report.to_tsv().splitlines()[2].endswith("\t")
    none = told(ExtendSettings().parallel, sources, {"eng_Latn": measured(9, {}), "swh_Latn": measured(4, {})})
    assert "no premium: --parallel names" in "\n".join(none.lines())
    assert next(line for line in none.lines() if line.startswith("Latn")).split()[-3:] == ["-", "-", "-"]
