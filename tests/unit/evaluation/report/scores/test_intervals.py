from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest

from megatron.evaluation.metrics.bootstrap import mean_interval
from megatron.evaluation.report.scores.documents import OTHER_DOCUMENTS, OTHER_SCORE
from megatron.evaluation.report.scores.inputs import load_evaluation
from megatron.evaluation.report.scores.intervals import (
    LEAST_DOCUMENTS,
    Intervals,
    Own,
    document_intervals,
    level_of,
)
from megatron.evaluation.report.scores.write import write_scores_report
from megatron.evaluation.results import ResultsFolder, Score, items_path
from tests.unit.evaluation.report.scores.test_write import write_tiers
from tests.unit.evaluation.report.test_write import Page

CODES = [f"aa{letter}_Latn" for letter in "abcdefgh"]


def texts(folder: Path, nats: dict[str, list[float]]) -> Path:
    """Results of a model: of each language the nats of documents of 100, 101, ... bytes."""
    results = ResultsFolder(folder, model={"name": folder.name})
    for code, values in nats.items():
        size = sum(100 + n for n in range(len(values)))
        metrics = {"bits_per_byte": sum(values) / math.log(2) / size}
        items = [{"id": str(n), "nats": value, "bytes": 100 + n} for n, value in enumerate(values)]
        results.add(Score("texts", code, metrics, "bits_per_byte", False, len(values)), items)
    return folder


def choices(folder: Path, right: dict[str, list[bool]]) -> Path:
    results = ResultsFolder(folder, model={"name": folder.name})
    for code, each in right.items():
        items = [{"id": n, "output": "a" if hit else "b", "references": ["a"]} for n, hit in enumerate(each)]
        metrics = {"accuracy": sum(each) / len(each)}
        results.add(Score("sib200", code, metrics, "accuracy", True, len(each)), items)
    return folder


def intervals_of(*folders: Path) -> Intervals:
    evaluation = load_evaluation(folders)
    (table,) = evaluation.main_tables
    return document_intervals(table, [model.folders for model in evaluation.models])


def log_ratios(ours: list[float], base: list[float], rng: np.random.Generator, resamples: int) -> np.ndarray:
    """ln(sum of ours / sum of base) of documents that are drawn anew, the same of both models (Koehn, 2004)."""
    drawn = rng.integers(len(ours), size=(resamples, len(ours)))
    return np.log(np.array(ours)[drawn].sum(axis=1) / np.array(base)[drawn].sum(axis=1))


def paired_ends(ours: list[float], base: list[float], level: float) -> tuple[float, float]:
    """The plain percentile bootstrap of one language."""
    if len(ours) == 1:
        return math.nan, math.nan
    drawn = log_ratios(ours, base, np.random.default_rng(0), 1000)
    return tuple(np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2)))


def macro_ends(pairs: list[tuple[list[float], list[float]]], resamples: int) -> tuple[float, float]:
    """The same of the mean over languages, drawn anew, each with its own draw of its documents."""
    rng = np.random.default_rng(0)
    drawn = np.stack([log_ratios(ours, base, rng, resamples) for ours, base in pairs])
    shape = (resamples, len(pairs))
    means = drawn[rng.integers(len(pairs), size=shape), rng.integers(resamples, size=shape)].mean(axis=1)
    return tuple(np.quantile(means, (0.025, 0.975)))


@pytest.fixture(scope="module")
def nats() -> list[dict[str, list[float]]]:
    """Of three models; documents differ far more than models do."""
    rng = random.Random(3)
    base = {code: [rng.uniform(50, 900) for _ in range(40 + 5 * place)] for place, code in enumerate(CODES)}
    models = []
    for by in (0.01, 0):
        models.append({c: [x * rng.gauss(1 - by * (p - 2), 0.1) for x in base[c]] for p, c in enumerate(CODES)})
    return [base, *models]


def test_intervals_of_languages_are_those_of_the_paired_bootstrap(tmp_path: Path, nats: list[dict]) -> None:
    found = intervals_of(*(texts(tmp_path / str(n), each) for n, each in enumerate(nats)))
    assert set(found.own) == {(code, model) for code in CODES for model in (1, 2)}
    for (code, model), own in found.own.items():
        low, high = paired_ends(nats[model][code], nats[0][code], level_of(own.documents))
        assert (own.low, own.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
        assert own.documents == len(nats[0][code])
    assert found.without == {1: {}, 2: {}}


def test_intervals_of_groups_are_those_over_languages_and_documents(tmp_path: Path, nats: list[dict]) -> None:
    found = intervals_of(*(texts(tmp_path / str(n), each) for n, each in enumerate(nats)))
    for model in (1, 2):
        group = found.of_group(CODES, model)
        assert group is not None
        pairs = [(nats[model][code], nats[0][code]) for code in CODES]
        low, high = macro_ends(pairs, 20_000)
        assert group == (pytest.approx(low, abs=(high - low) / 12), pytest.approx(high, abs=(high - low) / 12))
        _, low, high = mean_interval([math.log(sum(ours) / sum(base)) for ours, base in pairs])
        assert group[1] - group[0] > high - low, "documents make it less sure"


def test_right_and_wrong_are_compared_by_their_differences(tmp_path: Path) -> None:
    rng = random.Random(5)
    base = {code: [rng.random() < 0.4 for _ in range(90)] for code in CODES}
    ours = {code: [hit or rng.random() < 0.3 for hit in base[code]] for code in CODES[:4]}
    ours |= {code: base[code] for code in CODES[4:]}
    found = intervals_of(choices(tmp_path / "base", base), choices(tmp_path / "ours", ours))
    for code in CODES:
        differences = np.array(ours[code], dtype=float) - np.array(base[code], dtype=float)
        _, low, high = mean_interval(differences, level=level_of(len(differences)))
        own = found.own[code, 1]
        assert (own.low, own.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))
        assert own.sign == (1 if code in CODES[:4] else 0)


@pytest.mark.parametrize("count", [1, 2, 199, 700, 3000])
def test_any_number_of_documents_gives_the_same_draws(tmp_path: Path, count: int) -> None:
    rng = random.Random(count)
    base, ours = ({"eng_Latn": [rng.uniform(1, 9) for _ in range(count)]} for _ in range(2))
    own = intervals_of(texts(tmp_path / "a", base), texts(tmp_path / "b", ours)).own["eng_Latn", 1]
    low, high = paired_ends(ours["eng_Latn"], base["eng_Latn"], level_of(count))
    assert (own.low, own.high) == pytest.approx((low, high), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("count", [LEAST_DOCUMENTS, 7, 10, 30, 1000])
def test_few_documents_have_the_interval_of_students_t(count: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="compares with scipy: pip install scipy")
    wide = stats.t.ppf(0.975, count - 1) * math.sqrt(count / (count - 1))
    assert level_of(count) == pytest.approx(1 - 2 * stats.norm.sf(wide), abs=2e-4)


def test_where_nothing_changed_about_one_language_in_fifteen_looks_sure(tmp_path: Path) -> None:
    rng = random.Random(11)
    codes = [f"a{first}{second}_Latn" for first in "abcdefghijklmnopqrst" for second in "abcdefghijklmnopqrst"]
    base = {code: [rng.lognormvariate(5.5, 0.7) for _ in range(7)] for code in codes}
    ours = {code: [value * math.exp(rng.gauss(0, 0.05)) for value in base[code]] for code in codes}
    found = intervals_of(texts(tmp_path / "a", base), texts(tmp_path / "b", ours))
    assert 0.02 < sum(own.sign != 0 for own in found.own.values()) / len(codes) < 0.1


def test_few_documents_are_never_sure() -> None:
    assert [Own(0.1, 0.2, LEAST_DOCUMENTS - less).sign for less in (0, 1)] == [1, 0]
    assert [Own(low, high, 99).sign for low, high in ((-0.2, -0.1), (-0.1, 0.1), (0.0, 0.1), (math.nan, math.nan))] == [
        -1, 0, 0, 0,
    ]  # fmt: skip
    assert 2 / 2 ** (LEAST_DOCUMENTS - 1) > 0.05 > 2 / 2**LEAST_DOCUMENTS


def test_languages_without_an_interval_are_counted_and_groups_with_them_are_over_languages(
    tmp_path: Path, nats: list[dict]
) -> None:
    base = texts(tmp_path / "base", nats[0])
    ours = texts(tmp_path / "ours", {**nats[1], CODES[0]: nats[1][CODES[0]][:-1]})
    items_path(ours, "texts", CODES[1]).write_bytes(items_path(base, "texts", CODES[1]).read_bytes())
    found = intervals_of(base, ours)
    assert found.without == {1: {OTHER_DOCUMENTS: 1, OTHER_SCORE: 1}}
    assert {code for code, _ in found.own} == set(CODES[2:])
    assert found.of_group(CODES, 1) is None and found.of_group(CODES[2:], 1) is not None
    assert found.of_group([], 1) is None
    tiers = write_tiers(tmp_path / "tiers.tsv", {code: "low" if code in CODES[:2] else "high" for code in CODES})
    write_scores_report([base, ours], output=tmp_path / "r.html", json=tmp_path / "r.json", tiers=tiers)
    (table,) = json.loads((tmp_path / "r.json").read_bytes())["tables"]
    over = {line["name"]: line["changes"]["ours"]["interval_over"] for line in [*table["tiers"], table["all"]]}
    assert over == {"high": "languages and documents", "low": "languages", "all": "languages"}
    words = Page(tmp_path / "r.html").words
    assert "ours: languages without an interval of their own: the items are not those of the score (1), " in words
    assert "of groups in which a language has no interval of its own, languages only." in words


def test_what_is_sure_is_marked_and_counted_everywhere(tmp_path: Path) -> None:
    base = {code: [100.0 + n for n in range(20)] for code in CODES}
    by = {CODES[0]: 1.2, CODES[1]: 0.8, CODES[2]: 0.9}
    ours = {code: [(100 + n) * by.get(code, 1.1 if n % 2 else 0.909) for n in range(20)] for code in CODES}
    folders = [texts(tmp_path / "base", base), texts(tmp_path / "ours", ours)]
    files = {name: tmp_path / f"r.{name}" for name in ("json", "markdown", "csv")}
    write_scores_report(folders, output=tmp_path / "r.html", **files)
    (table,) = json.loads((tmp_path / "r.json").read_bytes())["tables"]
    change = table["all"]["changes"]["ours"]
    assert [change[key] for key in ("surely_better", "surely_worse", "undecided")] == [2, 1, 5]
    verdicts = {row["language"]: row["intervals"]["ours"]["verdict"] for row in table["languages"]}
    assert [verdicts[code] for code in CODES] == ["worse", "better", "better", *(["undecided"] * 5)]
    first = table["languages"][0]["intervals"]["ours"]
    assert (first["low"], first["high"], first["documents"]) == (pytest.approx(0.2), pytest.approx(0.2), 20)
    page, text = Page(tmp_path / "r.html"), files["markdown"].read_text(encoding="utf-8")
    assert "+20.0% *" in page.words and "−20.0% *" in page.words and "−10.0% *" in page.words
    assert len(re.findall(r"[+−][\d.]+% \*", page.words)) == 3 + 1  # and the one that lost most
    assert "6 of 8, 1 surely" in page.words and "6 of 8 languages got worse with ours, 1 surely; those" in text
    assert "Intervals of groups draw languages and their documents again." in page.words
    assert f"| {CODES[0]} | 20 |".replace("_", "\\_") in text and "+20.0% \\* | +20.0% to +20.0% |" in text
    assert "| surely better | surely worse | undecided |" in text and "| 2 | 1 | 5 |" in text
    assert files["csv"].read_text(encoding="utf-8").count(",worse\n") == 1


def test_without_items_the_page_says_that_intervals_are_over_languages(tmp_path: Path) -> None:
    lines = ["code,a,b", *(f"{code},{2 + n},{1 + n}" for n, code in enumerate(CODES))]
    (tmp_path / "bpb_web.csv").write_text("\n".join(lines), encoding="utf-8")
    write_scores_report([tmp_path / "bpb_web.csv"], output=tmp_path / "r.html", json=tmp_path / "r.json")
    words = Page(tmp_path / "r.html").words
    assert "Intervals are over languages only: how sure a single language is, is not known." in words
    assert "Surely" not in words and "*" not in words
    (table,) = json.loads((tmp_path / "r.json").read_bytes())["tables"]
    assert table["all"]["changes"]["b"]["interval_over"] == "languages"
    assert "surely_better" not in table["all"]["changes"]["b"]


def test_why_no_language_has_an_interval_is_told_too(tmp_path: Path) -> None:
    folders = []
    for name in ("base", "ours", "third"):
        results = ResultsFolder(tmp_path / name, model={"name": name})
        score = Score("flores", "swh_Latn", {"chrf++": 40.0}, "chrf++", True, 1)
        results.add(score, [{"id": 0, "output": "x", "references": ["y"]}])
        results.add(Score("aya", "swh_Latn", {"accuracy": 1.0}, "accuracy", True, 1), [])
        folders.append(results.folder)
    write_scores_report(folders, output=tmp_path / "r.html", json=tmp_path / "r.json")
    tables = {table["benchmark"]: table for table in json.loads((tmp_path / "r.json").read_bytes())["tables"]}
    reason = "the metric is not a mean over single items"
    assert tables["flores"]["without_interval"] == {name: {reason: 1} for name in ("ours", "third")}
    told = f"ours, third: languages without an interval of their own: {reason} (1)."
    assert told in tables["flores"]["notes"] and told in Page(tmp_path / "r.html").words
    assert tables["aya"]["without_interval"]["ours"] == {"no items are kept": 1}
