from __future__ import annotations

from pathlib import Path

from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.evaluation.benchmarks.parity import keep_parity
from megatron.evaluation.report.scores.flags import flag_notes, parity_notes
from megatron.evaluation.report.scores.write import write_scores_report
from megatron.evaluation.results import ResultsFolder, Score
from tests.unit.evaluation.report.scores.test_write import accuracy, write_results
from tests.unit.evaluation.report.test_write import Page


def column(*flags: tuple[str, ...]) -> dict[str, Score]:
    return {f"a{number:02}_Latn": accuracy(f"a{number:02}_Latn", 0.5, flags=each) for number, each in enumerate(flags)}


def test_flags_are_counted_by_model_language_and_item() -> None:
    base = column(("contaminated", "shots_left_out=3"), ("contaminated",), ("contaminated", "shots_left_out=1000"))
    ours = column(("contaminated",), ("contaminated", "queries_cut=1"), ("contaminated", "odd"))
    assert flag_notes([base, ours, {}], ["base", "ours", "third"]) == [
        "contaminated (texts of this benchmark may be in the training text, so values may be too good): "
        "base, ours in 3 of 3 languages.",
        "odd: ours in 1 of 3 languages.",
        "queries_cut (prompts whose beginning was cut off to fit the model): ours in 1 of 3 languages, 1 in all.",
        "shots_left_out (examples that there was no room for in the prompts): base in 2 of 3 languages, 1,003 in all.",
    ]


def test_flags_with_notes_of_their_own_are_not_told_twice() -> None:
    assert flag_notes([column(("lossy", "limit=5"))], ["base"]) == []


def test_flags_without_end_are_cut_and_counted() -> None:
    found = flag_notes([column(tuple(f"flag {number:03}" for number in range(500)))], ["base"])
    assert len(found) == 21
    assert found[-1] == "480 more flags are in the table of all languages."


def write_parity(folder: Path) -> list[Score]:
    kind = {"format": "texts", "kind": "text", "metrics": ["bits_per_byte"]}
    benchmark = BenchmarkConfig.model_validate({"name": "udhr", "data": "udhr", "parity_with": "eng_Latn", **kind})
    results = ResultsFolder(folder, model={"name": folder.name})
    texts = [
        results.add(
            Score("udhr", code, {"bits_per_byte": 1.0}, "bits_per_byte", False, 1, ("contaminated",), {"limit": None}),
            [{"id": "1", "nats": nats}],
        )
        for code, nats in (("eng_Latn", 5.0), ("swh_Latn", 10.0))
    ]
    return keep_parity(benchmark, results, texts)


def test_a_parity_says_what_it_is_compared_with(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("base", "ours")]
    columns = [{score.language: score for score in write_parity(folder)} for folder in folders]
    assert columns[0]["swh_Latn"].metrics == {"information_parity": 0.5}
    (told,) = parity_notes(columns)
    assert told.startswith("Information parity: nats of the texts in eng_Latn over nats of the same texts")
    assert parity_notes([column(())]) == []
    write_scores_report(folders, output=tmp_path / "r.html", markdown=tmp_path / "r.md")
    for text in (Page(tmp_path / "r.html").words, (tmp_path / "r.md").read_text(encoding="utf-8").replace("\\", "")):
        assert told in text
        assert "base, ours in 2 of 2 languages." in text


def test_only_flags_that_tell_languages_apart_stand_beside_them(tmp_path: Path) -> None:
    scores = [
        accuracy("eng_Latn", 0.5, flags=("contaminated", "lossy")),
        accuracy("swh_Latn", 0.5, flags=("contaminated", "lossy", "queries_cut=2")),
    ]
    folders = [write_results(tmp_path / name, scores) for name in ("base", "ours")]
    write_scores_report(folders, output=tmp_path / "r.html")
    words = Page(tmp_path / "r.html").words
    assert "English eng_Latn lossy 99" in words
    assert "swh_Latn lossy queries_cut=2 99" in words
