from __future__ import annotations

import csv
import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from megatron.checkpoint.extend.run import Surgery
from megatron.checkpoint.folder import open_model
from megatron.evaluation.extend.compare import LanguageChange, broken_pivots, scant_pivots, table_lines
from megatron.evaluation.extend.run import PivotError, Trial, extend_model
from megatron.evaluation.metrics.likelihood import text_metrics
from megatron.evaluation.texts import score_texts
from megatron.tokenizer.load import load_tokenizer
from tests.extended_vocabulary import extend_sentencepiece, model_with
from tests.language_models import PlainModel
from tests.unit.tokenizer.conftest import TEXTS, sp_model

__all__ = ["sp_model"]

ROOT = Path(__file__).resolve().parents[4]
LANGUAGES = {
    "eng_Latn": [TEXTS[0], "free"], "fin_Latn": [TEXTS[1]], "hin_Deva": [TEXTS[6], "गग गग"], "tha_Thai": ["กกก"]
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, sp_model: Path) -> Path:
    """A folder with ``model``, ``extended`` and ``texts``."""
    model_with(load_tokenizer("SPMTokenizer", sp_model), tmp_path / "model")
    extend_sentencepiece(sp_model, tmp_path / "extended")
    for code, texts in LANGUAGES.items():
        (tmp_path / "texts" / code).mkdir(parents=True)
        lines = "".join(f"{json.dumps({'text': text})}\n" for text in texts)
        (tmp_path / "texts" / code / "test.jsonl").write_text(lines)
    return tmp_path


def surgery(place: Path, **options: object) -> Surgery:
    return Surgery(str(place / "model"), place / "extended", place / "out", **options)  # type: ignore[arg-type]


def by_hand(folder: Path) -> dict[str, dict[str, float]]:
    """Score one text after the other with a plain model."""
    model = PlainModel(open_model(folder, device=torch.device("cpu")))
    return {code: text_metrics(score_texts(model, texts)) for code, texts in LANGUAGES.items()}


def test_every_language_before_and_after_is_what_a_plain_model_finds(place: Path) -> None:
    (place / "tiers.tsv").write_text("code\ttier\ttokens\neng_Latn\thigh\t9\nhin_Deva\tlow\t1\nfin_Latn\tlow\t1\n")
    trial = Trial(place / "texts", max_pivot_change=1000, tiers=place / "tiers.tsv")
    lines = list(extend_model(surgery(place), trial))
    before, after = by_hand(place / "model"), by_hand(place / "out")
    record = json.loads((place / "out" / "bits_per_byte.json").read_text())
    assert [row["code"] for row in record["languages"]] == list(LANGUAGES)
    assert (record["init"], record["init_output"], record["pivots"]) == ("mean", "mean", ["eng_Latn"])
    with (place / "out" / "bits_per_byte.tsv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    for row, line in zip(record["languages"], table, strict=True):
        code = row["code"]
        for name, metrics in (("before", before[code]), ("after", after[code])):
            assert row[name] == float(line[name]) == pytest.approx(metrics["bits_per_byte"], rel=1e-5)
            assert row[f"tokens_{name}"] == int(line[f"tokens_{name}"]) == metrics["tokens"]
            assert row[f"lossy_{name}"] == metrics["lossy"] == 0
        assert row["change_percent"] == pytest.approx(100 * (row["after"] / row["before"] - 1))
        assert row["bytes"] == sum(len(text.encode()) for text in LANGUAGES[code])
    tokens = {row["code"]: (row["tokens_before"], row["tokens_after"]) for row in record["languages"]}
    assert tokens["hin_Deva"][1] < tokens["hin_Deva"][0] and tokens["tha_Thai"] == (4, 2)
    assert tokens["eng_Latn"][0] == tokens["eng_Latn"][1]
    assert [row["tier"] for row in record["languages"]] == ["high", "low", "low", "unmapped"]
    groups = ("high (1)", "low (2)", "unmapped (1)", "Deva (1)", "Latn (2)", "Thai (1)")
    places = ["\n".join(lines).index(group) for group in groups]
    assert places == sorted(places)
    english = tokens["eng_Latn"][0]
    assert lines[-2:] == [
        f"eng_Latn, a pivot, was measured on {english} tokens alone, which say little: give text of 1,000 or more",
        f"{place}/model and {place}/extended -> {place}/out",
    ]


def test_a_pivot_that_loses_too_much_keeps_the_model_from_appearing(place: Path) -> None:
    there = set(place.iterdir())
    lines = []
    with pytest.raises(PivotError) as caught:
        for line in extend_model(
            surgery(place), Trial(place / "texts", pivots=["eng_Latn", "fin_Latn"], max_pivot_change=0)
        ):
            lines.append(line)
    english, finnish, advice = str(caught.value).splitlines()
    before = by_hand(place / "model")
    for line, code in ((english, "eng_Latn"), (finnish, "fin_Latn")):
        assert line.startswith(f"{code}: {before[code]['bits_per_byte']:.4f} bits per byte before, ")
        assert line.endswith("%; at most +0% is allowed")
    tables = [place / f"out.bits_per_byte.{ending}" for ending in ("tsv", "json")]
    told = f"Nothing is left of the new model but its numbers, in {tables[0]} and {tables[1]}. Try --init-output av"
    assert advice.startswith(told)
    assert set(place.iterdir()) == {*there, *tables}
    shown = [line.split()[0] for line in "\n".join(lines).splitlines() if line[3:4] == "_"]
    assert shown[:4] == list(LANGUAGES)
    record = json.loads(tables[1].read_text())
    assert [row["code"] for row in record["languages"]] == list(LANGUAGES)
    assert len(tables[0].read_text().splitlines()) == 1 + len(LANGUAGES)
    list(extend_model(surgery(place), Trial(place / "texts", pivots=[], max_pivot_change=0)))
    assert (place / "out" / "config.json").exists()


def test_of_tied_matrices_the_advice_names_the_only_option(place: Path, sp_model: Path) -> None:
    model_with(load_tokenizer("SPMTokenizer", sp_model), place / "tied", tie_word_embeddings=True)
    tied = Surgery(str(place / "tied"), place / "extended", place / "out")
    with pytest.raises(PivotError, match=r"Try --init average, with which"):
        list(extend_model(tied, Trial(place / "texts", max_pivot_change=0)))
    with pytest.raises(PivotError, match=r"Try fewer new tokens"):
        list(extend_model(dataclasses.replace(tied, init="average"), Trial(place / "texts", max_pivot_change=0)))


def test_what_is_wrong_with_texts_and_model_is_told_together(place: Path) -> None:
    there = set(place.iterdir())
    trial = Trial(place / "texts", pivots=["eng_Latn", "swh_Latn"], max_pivot_change=-1, text_bytes=3, batch_tokens=0)
    with pytest.raises(ValueError) as caught:
        list(extend_model(surgery(place, vocab_divisible_by=0), trial))
    assert str(caught.value).splitlines() == [
        "--max-pivot-change -1: give a number of percent of at least 0",
        "--text-bytes 3: must be at least 4",
        "--batch-tokens 0: must be at least 1",
        f"{place}/texts has no texts of swh_Latn, a pivot: add them, or name other languages after --pivots; "
        "--pivots with none after it sets no limit",
        "--vocab-divisible-by 0: must be at least 1",
    ]
    with pytest.raises(ValueError, match=r"^--batch-tokens 0: must be at least 1\n.*/none is no folder of texts$"):
        list(extend_model(surgery(place), Trial(place / "none", batch_tokens=0)))
    assert set(place.iterdir()) == there


def test_pivots_are_scored_whatever_languages_are_named(place: Path) -> None:
    trial = Trial(place / "texts", languages=["hin", "tha_Thai"], max_pivot_change=1000)
    list(extend_model(surgery(place), trial))
    record = json.loads((place / "out" / "bits_per_byte.json").read_text())
    assert [row["code"] for row in record["languages"]] == ["eng_Latn", "hin_Deva", "tha_Thai"]


def test_without_texts_nothing_is_scored(place: Path) -> None:
    lines = list(extend_model(surgery(place)))
    assert "no texts were scored before and after: --texts" in lines
    assert not (place / "out" / "bits_per_byte.json").exists() and (place / "out" / "extension.json").exists()


def test_a_new_model_that_cannot_be_scored_is_not_left(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from megatron.checkpoint.extend.rows import NewRows

    monkeypatch.setattr(NewRows, "rows", lambda self, first, stop: torch.full((stop - first, 64), math.nan))
    there = set(place.iterdir())
    with pytest.raises(PivotError, match=r"the new model cannot be scored: .* are no numbers"):
        list(extend_model(surgery(place), Trial(place / "texts")))
    assert set(place.iterdir()) == there


def change(code: str, before: float, after: float) -> LanguageChange:
    return LanguageChange(code, code[4:], "high", 10, before, after, 100, 50, 0.0, 0.5 if code[:3] == "hin" else 0.0)


def test_limits_are_of_pivots_alone_and_nothing_that_is_no_number_passes() -> None:
    changes = [change("eng_Latn", 2, 2.02), change("fra_Latn", 2, math.nan), change("hin_Deva", 1, 9)]
    told = list(broken_pivots(changes, pivots=["eng_Latn", "fra_Latn"], most_percent=1.001))
    assert [line.partition(":")[0] for line in told] == ["fra_Latn"]
    assert len(list(broken_pivots(changes, pivots=["eng_Latn"], most_percent=0.999))) == 1


def test_pivots_with_little_text_are_told() -> None:
    changes = [change("eng_Latn", 2, 2), change("fra_Latn", 2, 2), change("hin_Deva", 2, 2)]
    changes[0] = dataclasses.replace(changes[0], tokens_before=999)
    changes[1] = dataclasses.replace(changes[1], tokens_before=1000)
    [told] = scant_pivots(changes, pivots=["eng_Latn", "fra_Latn"])
    assert told.startswith("eng_Latn, a pivot, was measured on 999 tokens alone")


def test_tables_have_macro_means_and_sums() -> None:
    changes = [change("eng_Latn", 2, 3), change("fra_Latn", 4, 5), change("hin_Deva", 1, 0.5)]
    languages, _, scripts, _, lossy = table_lines(changes, tiers=())
    assert languages.splitlines()[2].split() == ["eng_Latn", "10", "2.0000", "3.0000", "+50.00%", "100", "50", "-50.0%"]
    assert [line.split() for line in scripts.splitlines()[2:]] == [
        ["Deva", "(1)", "10", "1.0000", "0.5000", "-50.00%", "100", "50", "-50.0%"],
        ["Latn", "(2)", "20", "3.0000", "4.0000", "+33.33%", "200", "100", "-50.0%"],
        ["all", "(3)", "30", "2.3333", "2.8333", "+21.43%", "300", "150", "-50.0%"],
    ]
    assert lossy.endswith("hin_Deva")


def test_the_tool(place: Path) -> None:
    command = [
        sys.executable, "tools/extend_model.py", "--model", f"{place}/model", "--tokenizer", f"{place}/extended",
        "--output", f"{place}/out", "--texts", f"{place}/texts", "--init", "average", "--vocab-divisible-by", "64",
        "--languages", "eng", "hin", "--pivots", "hin_Deva", "eng_Latn", "--max-pivot-change", "0.0001",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1 and not (place / "out").exists()
    assert "new rows of the embedding: average; of the output matrix: average\n" in done.stdout
    assert "error: eng_Latn: " in done.stderr and "%; at most +0.0001% is allowed" in done.stderr
    assert "tha_Thai" not in done.stdout + done.stderr


def test_options_about_texts_without_texts_are_refused(place: Path) -> None:
    command = [
        sys.executable, "tools/extend_model.py", "--model", f"{place}/model", "--tokenizer", f"{place}/extended",
        "--output", f"{place}/out",
    ]  # fmt: skip
    options = ["--max-pivot-change", "1", "--pivots", "--text-bytes", "9"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2 and not (place / "out").exists()
    assert "error: --text-bytes, --pivots, --max-pivot-change: nothing is scored without --texts" in done.stderr
    assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=200).returncode == 0
    assert (place / "out" / "config.json").exists()
