from __future__ import annotations

from typing import Any

import pytest

from megatron.data.planning.plan_groups import SourcePhase, by_language, by_script, group_rows, tiers_of
from megatron.data.planning.plan_table import caps_summary, phase_table, plan_tables, plan_tsv


def row(corpus: str, tokens: int, sampled: int, *, share: float, **changes: Any) -> dict[str, Any]:
    return {
        "corpus": corpus,
        "code": corpus,
        "tier": "high",
        "source": "bilingual" if "-" in corpus else "monolingual",
        "tokens": tokens,
        "share": share,
        "samples": sampled // 10,
        "sampled_tokens": sampled,
        "epochs": sampled / tokens,
        **changes,
    }


def new(**changes: Any) -> dict[str, Any]:
    """Return the keys that rows of older records lack."""
    return {"wanted": 0.0, "max_epochs": None, "capped": False, "reason": "", "repeats_at": None, **changes}


ROWS = [
    row("eng_Latn", 1000, 400, share=0.4, **new(wanted=0.3)),
    row("swh_Latn", 100, 400, share=0.4, **new(wanted=0.6, max_epochs=4.0, capped=True, repeats_at=25), tier="low"),
    row("eng_Latn-rus_Cyrl", 300, 200, share=0.2, **new(wanted=0.1), estimated=True),
    row("xal_Cyrl", 5, 0, share=0.0, **new(reason="below the lowest tier"), tier="unseen"),
    row("yor_Latn", 50, 0, share=0.0, **new(reason="excluded"), tier="low"),
]
# What records of older runs hold.
OLD = [{key: value for key, value in r.items() if key not in new()} for r in ROWS]


def line(text: str, start: str) -> list[str]:
    found = [line for line in text.splitlines() if line.startswith(start)]
    assert len(found) == 1, (start, text)
    return found[0].removeprefix(start).split()


def test_tables_add_up_what_is_trained_on() -> None:
    text = plan_tables(ROWS, batch_size=10, samples=100)
    assert line(text, "monolingual, low") == ["1", "100", "40.00%", "60.00%", "400", "4.00", "4.00*", "3"]
    assert line(text, "bilingual, high") == ["1", "~300", "20.00%", "10.00%", "200", "0.67", "0.67"]
    assert [line.split()[0] for line in text.splitlines()[1:3]] == ["monolingual", "bilingual"]
    assert "repeats at step" in text
    assert "left out, below the lowest tier: 1 corpus, 5 tokens" in text
    assert "left out, excluded: 1 corpus, 50 tokens" in text
    assert "* held back" in text and "~ an estimate" in text
    assert "phase" not in text


def test_shares_are_those_of_the_tokens_that_are_trained_on() -> None:
    """A run that has paused in its first phase has not had the shares of the whole."""
    rows = [
        row("swh_Latn", 100, 300, share=0.5, **new(wanted=0.5)),
        row("fra_Latn", 100, 0, share=0.5, **new(wanted=0.5)),
    ]
    text = plan_tables(rows)
    assert line(text, "swh_Latn") == ["1", "100", "100.00%", "300", "3.00", "3.00"]
    assert line(text, "fra_Latn") == ["1", "100", "0.00%", "0", "0.00", "0.00"]
    tiny = [row("swh_Latn", 100, 10**9, share=1.0, **new()), row("fra_Latn", 100, 2000, share=2e-6, **new())]
    assert "0.0002%" in line(plan_tables(tiny), "fra_Latn")


def test_rows_of_older_records_have_tables() -> None:
    text = plan_tables(OLD, corpora=2)
    assert line(text, "monolingual, low") == ["1", "100", "40.00%", "400", "4.00", "4.00"]
    assert "left out, since their tier is not trained on: 2 corpora, 55 tokens" in text
    assert "... and 3 corpora with fewer epochs" in text
    assert "repeats" not in text and "uncapped" not in text and "cap" not in text


def test_a_corpus_of_a_later_phase_is_not_left_out() -> None:
    late = row("late_Latn", 10, 0, share=0.0, **new())
    assert "left out" not in plan_tables([*ROWS[:3], late])


def test_corpora_come_with_the_most_epochs_first() -> None:
    text = plan_tables(ROWS, corpora=0)
    names = [line.split()[0] for line in text.split("corpus ")[1].splitlines()[1:6]]
    assert names == ["swh_Latn", "eng_Latn-rus_Cyrl", "eng_Latn", "xal_Cyrl", "yor_Latn"]


def test_half_of_a_pair_belongs_to_each_language() -> None:
    code = row("python", 40, 0, share=0.0, code="zxx_Zyyy", source="code")
    groups = {group.name: group for group in group_rows([*ROWS, code], by_language)}
    assert groups["eng_Latn"].tokens == 1150 and groups["eng_Latn"].trained == 500
    assert groups["rus_Cyrl"].tokens == 150 and groups["rus_Cyrl"].corpora == 1
    assert groups["(no language)"].tokens == 40
    scripts = {group.name: group.tokens for group in group_rows([*ROWS, code], by_script)}
    assert scripts == {"Latn": 1300, "Cyrl": 155, "(no language)": 40}
    one_script = group_rows([row("eng_Latn-fra_Latn", 10, 5, share=1.0)], by_script)
    assert [(group.name, group.corpora, group.tokens) for group in one_script] == [("Latn", 1, 10)]


def test_tables_by_script_and_language() -> None:
    text = plan_tables(ROWS, by=["script", "language"], corpora=2)
    assert line(text, "script (pairs: half)")[0] == "corpora"
    assert "... and 1 more with fewer tokens" in text


def test_tiers_go_from_large_corpora_to_small_ones() -> None:
    many = [row(f"a{number}_Latn", 300, 1, share=0.1, tier="low") for number in range(9)]
    assert [(name, [t.name for t in tiers]) for name, tiers in tiers_of([*ROWS[:2], *many])] == [
        ("monolingual", ["high", "low"])
    ]


def test_caps_tell_who_lost_and_who_got() -> None:
    text = caps_summary(ROWS)
    assert text.splitlines()[0] == "caps on epochs hold 1 corpus back; they moved 20.00% of the tokens"
    assert line(text, "  monolingual, low") == ["lost", "200", "(20.000%);", "1", "of", "1", "corpora", "capped"]
    assert line(text, "  monolingual, high") == ["got", "100", "(10.000%)"]
    assert line(text, "  bilingual, high") == ["got", "100", "(10.000%)"]
    assert caps_summary(OLD) == ""


def test_phases_are_told_in_steps() -> None:
    phases = [SourcePhase(0, 0, {"a": 0.75, "b": 0.25}), SourcePhase(95, 20, {"a": 0.1, "b": 0.9}),
              SourcePhase(1000, 0, {"a": 1.0, "b": 0.0})]  # fmt: skip
    lines = phase_table(phases, 10, 1000).splitlines()
    assert lines[0].split() == ["phase", "after", "step", "ramp", "a", "b"]
    assert lines[1].split() == ["1", "0", "0", "75.00%", "25.00%"]
    assert lines[2].split() == ["2", "9.5", "2", "10.00%", "90.00%"]
    assert lines[3].split() == ["3", "100", "0", "100.00%", "0.00%", "not", "reached"]
    assert phase_table(phases[:1], 10, 1000) == ""
    assert "after sample" in phase_table(phases, None, None)


@pytest.mark.parametrize("rows", [ROWS, OLD])
def test_the_rows_as_tsv(rows: list[dict[str, Any]]) -> None:
    lines = [line.split("\t") for line in plan_tsv(rows).splitlines()]
    assert len(lines) == 1 + len(rows) and {len(line) for line in lines} == {len(lines[0])}
    table = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    assert [line["corpus"] for line in table] == [row["corpus"] for row in rows]
    assert float(table[1]["epochs"]) == 4.0
    assert table[0]["max_epochs"] == ""
