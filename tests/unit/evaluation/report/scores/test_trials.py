from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from megatron.evaluation.report.data import language_name
from megatron.evaluation.report.scores.trials import Trial, limit_of, trial_sentences, trials_of
from megatron.evaluation.report.scores.write import write_scores_report
from megatron.evaluation.results import Score
from tests.unit.evaluation.report.scores.test_write import accuracy, bits, write_results
from tests.unit.evaluation.report.test_write import Page


@pytest.mark.parametrize(
    ("settings", "flags", "limit"),
    [
        ({"limit": 5}, (), 5),
        ({"limit": None}, (), None),
        ({"limit": True}, (), None),
        ({"limit": 0}, (), None),
        ({"limit": "5"}, (), None),
        ({"reference": "eng_Latn", "texts": {"limit": 7}}, (), 7),
        ({"texts": ["limit"]}, (), None),
        ({}, ("limit=12", "lossy"), 12),
        ({}, ("limit=0", "limit=-1", "limit=1e9", "limit=", "no limit=3"), None),
    ],
)
def test_the_limit_of_a_score(settings: dict, flags: tuple[str, ...], limit: int | None) -> None:
    assert limit_of(Score("b", "eng_Latn", {"acc": 1.0}, "acc", True, 3, flags, settings)) == limit


def test_languages_that_were_cut_are_counted_and_benchmarks_are_one_sentence_each() -> None:
    def score(language: str, limit: int | None) -> Score:
        return accuracy(language, 0.5, settings={"limit": limit})

    cut = {code: score(code, limit) for code, limit in (("eng_Latn", 5), ("fra_Latn", 1200), ("deu_Latn", None))}
    whole = {"eng_Latn": score("eng_Latn", None)}
    found = trials_of("sib200", [cut, whole, cut], ["a", "b", "c"])
    assert found == [Trial("sib200", name, (5, 1200), 2, 3) for name in ("a", "c")]
    assert trial_sentences(found) == ["sib200: a, c, at most 5 or 1,200 items of a language in 2 of 3 languages."]


def test_a_trial_run_is_told_first_everywhere(tmp_path: Path) -> None:
    base = [accuracy("eng_Latn", 0.4, settings={"limit": 5}), bits("eng_Latn", 2.0)]
    ours = [accuracy("eng_Latn", 0.5, settings={"limit": None}, flags=("limit=6",)), bits("eng_Latn", 1.0)]
    folders = [write_results(tmp_path / "base", base), write_results(tmp_path / "ours", ours)]
    files = {name: tmp_path / f"r.{end}" for name, end in (("json", "json"), ("markdown", "md"), ("csv", "csv"))}
    write_scores_report(folders, output=tmp_path / "r.html", **files)
    told = (
        "sib200: base, at most 5 items of a language in 1 of 1 languages; "
        "ours, at most 6 items of a language in 1 of 1 languages."
    )
    words = Page(tmp_path / "r.html").words
    assert words.index("Trial run: these scores are no results.") < words.index(told) < words.index("Overview")
    assert "sib200 trial accuracy" in words
    assert "texts trial" not in words
    text = (tmp_path / "r.md").read_text(encoding="utf-8").replace("\\", "")
    assert text.index("**Trial run: these scores are no results.**") < text.index(f"- {told}") < text.index("| bench")
    assert json.loads((tmp_path / "r.json").read_bytes())["trials"] == [
        {"benchmark": "sib200", "model": name, "limits": [limit], "languages": 1, "of": 1}
        for name, limit in (("base", 5), ("ours", 6))
    ]
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        flags = {(row["benchmark"], row["metric"]): row["flags"] for row in csv.DictReader(file)}
    assert flags == {
        ("sib200", "accuracy"): "limit=5 limit=6", ("sib200", "macro_f1"): "limit=5 limit=6",
        ("texts", "bits_per_byte"): "",
    }  # fmt: skip


def test_without_a_trial_run_nothing_warns(tmp_path: Path) -> None:
    folders = [write_results(tmp_path / name, [bits("eng_Latn", 2.0)]) for name in ("base", "ours")]
    write_scores_report(folders, output=tmp_path / "r.html", json=tmp_path / "r.json", markdown=tmp_path / "r.md")
    assert "rial" not in Page(tmp_path / "r.html").words
    assert "rial" not in (tmp_path / "r.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "r.json").read_bytes())["trials"] == []


def test_the_number_of_items_is_told_of_every_language(tmp_path: Path) -> None:
    def score(language: str, value: float, items: int) -> Score:
        return Score("texts", language, {"bits_per_byte": value}, "bits_per_byte", False, items)

    base = [score("eng_Latn", 2.0, 1012), score("swh_Latn", 2.0, 7)]
    ours = [score("eng_Latn", 1.0, 1012), score("swh_Latn", 3.0, 5)]
    folders = [write_results(tmp_path / "base", base), write_results(tmp_path / "ours", ours)]
    files = {name: tmp_path / f"r.{end}" for name, end in (("json", "json"), ("markdown", "md"), ("csv", "csv"))}
    write_scores_report(folders, output=tmp_path / "r.html", **files)
    words = Page(tmp_path / "r.html").words
    assert "English eng_Latn 1,012 2.0000" in words
    assert f"{language_name('swh_Latn')} swh_Latn 5–7 2.0000" in words
    (table,) = json.loads((tmp_path / "r.json").read_bytes())["tables"]
    assert table["items"] == [5, 7, 1012]
    assert [row["items"] for row in table["languages"]] == [{"base": 1012, "ours": 1012}, {"base": 7, "ours": 5}]
    text = (tmp_path / "r.md").read_text(encoding="utf-8").replace("\\", "")
    assert "| 5–1,012 | 2.0000 |" in text
    assert "| swh_Latn | 5–7 | 2.0000 |" in text
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        assert [(row["items: base"], row["items: ours"]) for row in csv.DictReader(file)] == [
            ("1012", "1012"), ("7", "5"),
        ]  # fmt: skip
