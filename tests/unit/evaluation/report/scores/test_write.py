from __future__ import annotations

import csv
import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from megatron.evaluation.report.data import ReportError, language_name
from megatron.evaluation.report.scores.write import write_scores_report
from megatron.evaluation.results import ResultsFolder, Score
from tests.unit.evaluation.report.test_write import Page

ROOT = Path(__file__).parents[5]
TOOL = ROOT / "tools" / "report_evaluation.py"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
CODES = ("eng_Latn", "fra_Latn", "swh_Latn", "tha_Thai", "amh_Ethi", "bod_Tibt")
TIERS = dict(zip(CODES, ("high", "high", "medium", "medium", "low", ""), strict=True))


def write_tiers(path: Path, tiers: dict[str, str]) -> Path:
    lines = [f"{code}\t{10 ** (9 - number)}\t{tier}" for number, (code, tier) in enumerate(tiers.items())]
    path.write_text("\n".join(["code\ttokens\ttier", *lines]) + "\n", encoding="utf-8")
    return path


def write_results(folder: Path, scores: list[Score], **model: object) -> Path:
    results = ResultsFolder(folder, model={"name": folder.name, **model})
    for score in scores:
        results.add(score, [])
    return folder


def accuracy(language: str, value: float, **changes: object) -> Score:
    metrics = {"accuracy": value, "macro_f1": value / 2}
    return Score("sib200", language, metrics, "accuracy", True, 99, **changes)  # type: ignore[arg-type]


def bits(language: str, value: float, **changes: object) -> Score:
    return Score("texts", language, {"bits_per_byte": value}, "bits_per_byte", False, 9, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models: in ours English got worse, Amharic is lossy and Tibetan is missing; of texts, all is there."""
    folder = tmp_path_factory.mktemp("results")
    base = write_results(
        folder / "base", [accuracy(code, 0.4) for code in CODES] + [bits(code, 2.0) for code in CODES]
    )
    ours = [accuracy(code, 0.3 if code == "eng_Latn" else 0.6) for code in CODES[:4]]
    ours += [accuracy("amh_Ethi", 0.9, flags=("lossy",))]
    ours += [bits(code, 2.5 if code == "eng_Latn" else 1.0) for code in CODES]
    return base, write_results(folder / "ours", ours)


def test_the_page_the_csv_the_json_and_the_markdown_tell_the_same(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    tiers = write_tiers(tmp_path / "tiers.tsv", TIERS)
    written = write_scores_report(
        folders, tiers=tiers, output=tmp_path / "r.html", csv=tmp_path / "r.csv", json=tmp_path / "r.json",
        markdown=tmp_path / "r.md",
    )  # fmt: skip
    assert [path.name for path in written] == ["r.html", "r.csv", "r.json", "r.md"]
    told = json.loads((tmp_path / "r.json").read_bytes())
    page, text = Page(tmp_path / "r.html"), (tmp_path / "r.md").read_text(encoding="utf-8")
    tables = {(table["benchmark"], table["metric"]): table for table in told["tables"]}
    assert list(tables) == [("sib200", "accuracy"), ("sib200", "macro_f1"), ("texts", "bits_per_byte")]

    sib = tables["sib200", "accuracy"]
    assert sib["all"] | {"changes": None} == {
        "name": "all", "languages": 4, "left_out": 2, "changes": None,
        "means": {"base": pytest.approx(0.4), "ours": pytest.approx(0.525)},
    }  # fmt: skip
    change = sib["all"]["changes"]["ours"]
    assert (change["improved"], change["worse"], change["mean_ratio"]) == (3, 1, None)
    assert change["change"] == pytest.approx(0.125)
    assert change["low"] <= change["change"] <= change["high"]
    assert sib["lacking"] == {"base": [], "ours": ["bod_Tibt"]}
    assert sib["lossy"] == {"base": [], "ours": ["amh_Ethi"]}
    assert {line["name"]: line["languages"] for line in sib["tiers"]} == {
        "high": 2, "medium": 2, "low": 0, "unmapped": 0,
    }  # fmt: skip

    texts = tables["texts", "bits_per_byte"]["all"]["changes"]["ours"]
    assert texts["geometric_mean_ratio"] == pytest.approx((1.25 * 0.5**5) ** (1 / 6))
    assert texts["mean_ratio"] == pytest.approx((1.25 + 5 * 0.5) / 6)
    assert texts["ratio_of_sums"] == pytest.approx(7.5 / 12)
    for number in (
        "0.5250", "+0.1250", f"{texts['geometric_mean_ratio']:.4f}", f"{texts['mean_ratio']:.4f}", "+25.0%",
    ):  # fmt: skip
        assert number in page.words, number
        assert number in text.replace("\\", ""), number

    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 + 6 + 6
    for row in rows:
        table = tables[row["benchmark"], row["metric"]]
        (language,) = [entry for entry in table["languages"] if entry["language"] == row["language"]]
        for name in ("base", "ours"):
            assert (float(row[name]) if row[name] else None) == language["values"][name]
        assert (float(row["change: ours"]) if row["change: ours"] else None) == language["changes"]["ours"]
        assert row["tier"] == language["tier"] == (TIERS[row["language"]] or "unmapped")


def test_what_is_missing_or_lossy_is_shown_and_counted(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    write_scores_report(folders, output=tmp_path / "r.html")
    words = Page(tmp_path / "r.html").words
    assert "ours lacks 1 of 6 languages; they are in no mean: bod_Tibt." in words
    assert "The tokenizer of ours cannot write 1 of 6 languages (lossy)" in words
    assert "Amharic amh_Ethi lossy" in words
    assert words.count("Tibetan bod_Tibt") >= 3  # in the table of each metric


def test_a_model_without_a_benchmark_does_not_empty_it(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    third = write_results(tmp_path / "third", [bits(code, 1.5) for code in CODES])
    write_scores_report([*folders, third], output=tmp_path / "r.html", json=tmp_path / "r.json")
    assert "third has no scores of this benchmark" in Page(tmp_path / "r.html").words
    sib = json.loads((tmp_path / "r.json").read_bytes())["tables"][0]
    assert (sib["all"]["languages"], sib["all"]["means"]["third"]) == (4, None)
    assert set(sib["all"]["changes"]) == {"ours"}


def test_a_base_without_a_benchmark_leaves_values_and_no_changes(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    base = write_results(tmp_path / "other", [bits(code, 1.5) for code in CODES])
    write_scores_report([base, *folders], output=tmp_path / "r.html", json=tmp_path / "r.json")
    sib = next(t for t in json.loads((tmp_path / "r.json").read_bytes())["tables"] if t["benchmark"] == "sib200")
    assert sib["all"]["changes"] == {} == sib["forgetting"]
    assert sib["all"]["means"]["ours"] == pytest.approx(0.525)
    assert "other has no scores of this benchmark" in Page(tmp_path / "r.html").words


def test_settings_that_differ_are_told(tmp_path: Path) -> None:
    base = write_results(tmp_path / "base", [accuracy(code, 0.4, settings={"shots": 3}) for code in CODES])
    ours = write_results(tmp_path / "ours", [accuracy(code, 0.4, settings={"shots": 5}) for code in CODES[:2]])
    write_scores_report([base, ours], output=tmp_path / "r.html")
    told = "ours was not scored like base: shots differs in 2 languages (3 there, here 5)."
    assert told in Page(tmp_path / "r.html").words


def test_sources_of_the_training_text_are_told_apart(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    lines = ["code\ttier\tsource", *(f"{code}\tlow\tmonolingual" for code in CODES[:5]), "swh_Latn\tlow\tbilingual"]
    (tmp_path / "t.tsv").write_text("\n".join(lines), encoding="utf-8")
    write_scores_report(folders, tiers=tmp_path / "t.tsv", output=tmp_path / "r.html", json=tmp_path / "r.json")
    texts = json.loads((tmp_path / "r.json").read_bytes())["tables"][2]
    assert {line["name"]: line["languages"] for line in texts["sources"]} == {
        "monolingual": 4, "bilingual + monolingual": 1, "not known": 1,
    }  # fmt: skip
    assert "By source of the training text" in Page(tmp_path / "r.html").words


def test_a_metric_without_any_value_is_there_and_compares_nothing(tmp_path: Path) -> None:
    def score(value: float) -> Score:
        return Score("xlsum", "swh_Latn", {"rouge_l": value, "bertscore": math.nan}, "rouge_l", True, 3)

    folders = [write_results(tmp_path / name, [score(value)]) for name, value in (("a", 0.1), ("b", 0.2))]
    write_scores_report(folders, output=tmp_path / "r.html", json=tmp_path / "r.json")
    tables = json.loads((tmp_path / "r.json").read_bytes())["tables"]
    assert [(table["metric"], table["all"]["languages"]) for table in tables] == [("rouge_l", 1), ("bertscore", 0)]


def test_counts_and_standard_errors_are_named_and_not_compared(tmp_path: Path) -> None:
    metrics = {"acc": 0.5, "tokens": 7.0, "acc_stderr": 0.1, "empty_rate": 0.2}
    score = Score("xnli", "swh_Latn", metrics, "acc", True, 3)
    folders = [write_results(tmp_path / name, [score]) for name in ("a", "b")]
    write_scores_report(folders, output=tmp_path / "r.html", json=tmp_path / "r.json")
    told = "not compared, since no model is better in it: acc_stderr, tokens."
    assert told in Page(tmp_path / "r.html").words
    tables = json.loads((tmp_path / "r.json").read_bytes())["tables"]
    found = {table["metric"]: (table["higher_is_better"], table["main"]) for table in tables}
    assert found == {"acc": (True, True), "empty_rate": (False, False)}


def test_a_value_beyond_all_sense_is_refused(tmp_path: Path) -> None:
    folders = [write_results(tmp_path / name, [bits("swh_Latn", value)]) for name, value in (("a", 1.0), ("b", 1e300))]
    with pytest.raises(ReportError, match="no score: 'texts', 'swh_Latn'; evaluate it again"):
        write_scores_report(folders, output=tmp_path / "r.html")


def test_hostile_names_are_only_text(tmp_path: Path) -> None:
    def hostile(value: float, language: str) -> Score:
        return Score(HOSTILE, language, {HOSTILE: value, "b": value}, HOSTILE, True, 1, (HOSTILE,), {HOSTILE: HOSTILE})

    folders = []
    for name, value in (("a", 0.5), ("b", 0.4)):
        lines = [hostile(value, code) for code in (HOSTILE, "eng_Latn")]
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.json").write_text(json.dumps({"name": HOSTILE + name, HOSTILE: HOSTILE}), encoding="utf-8")
        rows = [{**vars(score), "flags": list(score.flags)} for score in lines]
        (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        folders.append(folder)
    tiers = write_tiers(tmp_path / "tiers.tsv", {HOSTILE: HOSTILE, "eng_Latn": HOSTILE})
    write_scores_report(
        folders, tiers=tiers, output=tmp_path / "r.html", csv=tmp_path / "r.csv", json=tmp_path / "r.json",
        markdown=tmp_path / "r.md",
    )  # fmt: skip
    page, text = Page(tmp_path / "r.html"), (tmp_path / "r.html").read_text(encoding="utf-8")
    assert not {"img", "iframe", "link", "object"} & set(page.tags)
    assert text.count("<script") == page.tags.count("script") == 1 + 2  # our own, and the data of two charts
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.words.count("alert(1)") > 20
    assert not re.search(r"https?://|@import|url\(|\bsrc=[^x]|<link", text)
    assert not re.search(r"(?<!\\)<", (tmp_path / "r.md").read_text(encoding="utf-8"))


def test_a_cell_is_no_formula(tmp_path: Path) -> None:
    for name in ("=1+1", "@x"):
        write_results(tmp_path / name, [Score("=cmd", "eng_Latn", {"accuracy": -0.5}, "accuracy", True, 1)])
    write_scores_report([tmp_path / "=1+1", tmp_path / "@x"], output=tmp_path / "r.html", csv=tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        header, row = list(csv.reader(file))
    assert header[9:14] == ["'=1+1", "'@x", "change: @x", "items: =1+1", "items: @x"]
    assert header[14:] == ["low: @x", "high: @x", "verdict: @x"]
    assert row[0] == "'=cmd"
    assert row[9:] == ["-0.5", "-0.5", "0.0", "1", "1", "", "", ""]


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    made = []
    for number in range(2):
        out = tmp_path / str(number)
        files = {name: out / f"r.{name}" for name in ("csv", "json", "markdown")}
        write_scores_report(folders, output=out / "r.html", **files)
        made.append([path.read_bytes() for path in sorted(out.iterdir())])
    assert made[0] == made[1]


def test_many_languages_and_models_stay_within_reason(tmp_path: Path) -> None:
    rng = random.Random(0)
    codes = [f"{chr(97 + n // 26 % 26)}{chr(97 + n % 26)}{chr(97 + n // 676)}_Latn" for n in range(546)]
    lines = [f"model,{','.join(codes)}"]
    lines += [f"m{model},{','.join(f'{rng.uniform(0.5, 4):.4f}' for _ in codes)}" for model in range(8)]
    (tmp_path / "bpb_web.csv").write_text("\n".join(lines), encoding="utf-8")
    write_scores_report([tmp_path / "bpb_web.csv"], output=tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size < 2_000_000
    words = set(Page(tmp_path / "r.html").words.split())
    assert set(codes) <= words


def run_tool(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def test_the_command_line(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    options = ("--output", "r.html", "--markdown", "r.md", "--names", "Llama", "Emma", "--pivots", "fra_Latn,xho_Latn")
    done = run_tool(*folders, *options, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "r.html\nr.md\n", "")
    words = Page(tmp_path / "r.html").words
    assert "Emma against Llama" in words
    assert "Pivots without values that can be compared: xho_Latn." in words


def test_languages_that_the_tiers_do_not_know_are_told_and_hold_no_pivots(
    tmp_path: Path, folders: tuple[Path, Path]
) -> None:
    one = write_tiers(tmp_path / "one.tsv", {"xxx_Latn": "high", "eng_Latn": "high", "fra_Latn": "low"})
    done = run_tool(*folders, "--output", "r.html", "--tiers", str(one), folder=tmp_path)
    assert done.returncode == 0 and f"{one}: 4 of 6 languages of the results have no tier: amh_Ethi, " in done.stderr
    assert "it has tiers of 3, such as eng_Latn, fra_Latn, xxx_Latn. Codes must be the same" in done.stderr
    none = write_tiers(tmp_path / "none.tsv", {"eng": "high", "fra": "low"})
    options = ("--output", "n.html", "--json", "n.json", "--tiers", str(none))
    done = run_tool(*folders, *options, folder=tmp_path)
    assert "none of the 6 languages of the results has a tier: " in done.stderr and "such as eng, fra." in done.stderr
    told = json.loads((tmp_path / "n.json").read_bytes())
    assert told["tiers"]["order"] == [] and told["tiers"]["from"] == "none.tsv"
    words = Page(tmp_path / "n.html").words
    assert "Languages without a tier 6" in words and "Pivots are eng_Latn. Here" in words
    # A file may call a tier as those are called that have none.
    odd = write_tiers(tmp_path / "odd.tsv", {"amh_Ethi": "unmapped", "bod_Tibt": "no tier", "eng_Latn": "low"})
    options = ("--output", "o.html", "--json", "o.json", "--tiers", str(odd), "--pivots", "fra_Latn")
    run_tool(*folders, *options, folder=tmp_path)
    assert json.loads((tmp_path / "o.json").read_bytes())["tiers"]["order"][-1] == "unmapped"
    assert "Pivots are fra_Latn and of the tier “low”." in Page(tmp_path / "o.html").words


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["nowhere", "base"], 1, "error: nowhere does not exist: give a folder of results or a table"),
        (["base", "ours", "--table-metric", "x"], 2, "'x' is not like NAME=lower or NAME=higher"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    tmp_path: Path, folders: tuple[Path, Path], words: list[str], status: int, message: str
) -> None:
    done = run_tool(*words, "--output", "r.html", folder=tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ([""], {}, r"holds no results: model\.json cannot be read"),
        (["base"], {}, "1 model is not enough for a comparison"),
        (["base", "base"], {}, "base is given twice"),
        (["base", "ours"], {"names": ["a"]}, "1 names for 2 folders of results"),
        (["base", "ours"], {"names": ["a", "a"]}, "scores are in base and in ours"),
        (["base", "ours"], {"models": ["base", "Emma"]}, "no model 'Emma'; there are: base, ours"),
        (["base", "ours"], {"models": ["base", "base"]}, "a model is named twice"),
        (["base", "ours"], {"tiers": Path("none.tsv")}, r"none\.tsv does not exist"),
        (["strange.csv", "base"], {}, "--table-metric NAME=lower or --table-metric NAME=higher"),
        (["base", "odd"], {}, "texts: main metrics differ between scores"),
    ],
)
def test_mistakes_are_told_in_words(
    tmp_path: Path, folders: tuple[Path, Path], inputs: list[str], options: dict, message: str
) -> None:
    known = dict(zip(("base", "ours"), folders, strict=True))
    (tmp_path / "strange.csv").write_text("code,a\neng_Latn,1\n", encoding="utf-8")
    write_results(tmp_path / "odd", [Score("texts", "eng_Latn", {"nll": 1.0}, "nll", False, 1)])
    with pytest.raises(ValueError, match=message):
        write_scores_report([known.get(n, tmp_path / n) for n in inputs], output=tmp_path / "r.html", **options)
    assert not (tmp_path / "r.html").exists()


def test_the_report_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None\nimport megatron.evaluation.report.scores.write\n"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_names_are_those_of_the_languages(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    write_scores_report(folders, output=tmp_path / "r.html", csv=tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        assert {row["language"]: row["name"] for row in csv.DictReader(file)} == {c: language_name(c) for c in CODES}
    words = Page(tmp_path / "r.html").words
    assert all(f"{language_name(code)} {code}" in words for code in CODES)
