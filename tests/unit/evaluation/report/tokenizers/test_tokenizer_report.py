from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from megatron.evaluation.report.data import ReportError
from megatron.evaluation.report.scores.tiers import read_tiers
from megatron.evaluation.report.tokenizers.console import console_lines
from megatron.evaluation.report.tokenizers.page import render_tokenizers
from megatron.evaluation.report.tokenizers.summary import Summary, summarise
from megatron.evaluation.report.tokenizers.write import check_output, write_tokenizer_report
from megatron.tokenizer.measure.counts import (
    Example,
    LanguageCounts,
    ParallelCounts,
    Side,
    TextCounts,
    TokenCounts,
)
from megatron.tokenizer.measure.measured import Language, Measured, TokenizerFacts
from megatron.tokenizer.measure.measurer import MeasureSettings
from megatron.tokenizer.measure.words import WordSample
from megatron.tokenizer.train import train_sentencepiece

ROOT = Path(__file__).resolve().parents[5]
HOSTILE = "<script>alert(1)</script>"


def counts(*tokens: int, byte_tokens: int = 0, failures: int = 0) -> LanguageCounts:
    each = [TokenCounts(number, 0, byte_tokens, 0, 2, 2, failures) for number in tokens]
    examples = [{1: Example(HOSTILE, HOSTILE, "\u202ex")} if failures else {} for _ in tokens]
    return LanguageCounts(TextCounts(2, 120, 60, 20), each, examples, WordSample.empty(len(tokens)))


def language(code: str, *tokens: int, compared: bool = True, **how: int) -> Language:
    found = Language(code, code.partition("_")[2] or "Latn", True, [code], parallel_text=counts(*tokens, **how))
    if compared:
        found.parallel = ParallelCounts(2, 1, Side(120, 60, list(tokens)), Side(60, 60, [20, 10]), uneven=True)
    return found


def measured(*languages: Language) -> Measured:
    facts = tuple(TokenizerFacts(name, "SPMTokenizer", 1000, 256, "f" * 32) for name in ("first", HOSTILE))
    return Measured(facts, languages, MeasureSettings(), "eng_Latn", {"records that are blank": 7})


@pytest.fixture
def several() -> Measured:
    return measured(
        language("eng_Latn", 20, 10),
        language("lao_Laoo", 120, 90, byte_tokens=80, failures=1),
        language("swh_Latn", 40, 15),
        language("jpn_Jpan", 60, 12, compared=False),
    )


@pytest.fixture
def tiers(tmp_path: Path) -> Path:
    path = tmp_path / "tiers.tsv"
    path.write_text("code\ttier\neng_Latn\thigh\njpn_Japn\thigh\nswh_Latn\tlow\n")
    return path


def test_groups_are_means_and_languages_find_their_tier_as_mala_writes_them(several: Measured, tiers: Path) -> None:
    summary = summarise(several, read_tiers(tiers))
    assert {row.language.code: row.tier for row in summary.rows} == {
        "eng_Latn": "high", "jpn_Jpan": "high", "swh_Latn": "low", "lao_Laoo": "unmapped",
    }  # fmt: skip
    assert [(group.name, group.languages) for group in summary.tiers] == [("high", 2), ("low", 1), ("unmapped", 1)]
    latin = next(group for group in summary.scripts if group.name == "Latn")
    assert [figures.premium for figures in latin.figures] == [1.5, 1.25]
    assert summary.scripts[0].name == "Laoo" and summary.total.compared == 3
    assert summary.total.highest == (6, 9)
    assert [group.name for group in summary.written_in_bytes()] == ["Laoo"]


def test_every_number_is_in_the_table_and_in_json(several: Measured, tiers: Path, tmp_path: Path) -> None:
    list(write_tokenizer_report(several, tmp_path, tiers=read_tiers(tiers)))
    rows = list(csv.DictReader((tmp_path / "tokens.tsv").open(encoding="utf-8"), delimiter="\t"))
    assert len(rows) == 4 * 2
    lao = next(row for row in rows if row["language"] == "lao_Laoo" and row["tokenizer"] == "first")
    assert lao["name"] == "Lao" and lao["script"] == "Laoo" and lao["tier"] == "unmapped"
    assert (lao["tokens"], lao["byte_tokens"]) == ("120", "80")
    assert (lao["parallel_tokens"], lao["pivot_tokens"]) == ("120", "20")
    assert float(lao["premium"]) == 6 and float(lao["byte_premium"]) == 2 and lao["uneven"] == "yes"
    assert float(lao["byte_share"]) == 80 / 120 and lao["tokens_per_word"] == ""
    assert lao["windows_per_document"] == "1.0"
    japanese = next(row for row in rows if row["language"] == "jpn_Jpan")
    assert japanese["premium"] == "" and japanese["parallel_records"] == ""
    content = orjson.loads((tmp_path / "tokens.json").read_bytes())
    assert content["tokenizers"][0]["gini"]["premium"] == pytest.approx((-2 * 1 + 0 * 2 + 2 * 6) / (3 * 9))
    assert content["written_in_bytes"] == {"first": ["Laoo"], HOSTILE: ["Laoo"]}
    found = {each["language"]: each for each in content["languages"]}
    assert found["lao_Laoo"]["tokenizers"]["first"]["not_given_back"][0]["place"] == HOSTILE
    assert found["jpn_Jpan"]["tokenizers"]["first"]["figures"]["premium"] is None
    assert content["by_tier"][0]["tokenizers"]["first"]["premium"] == 1
    assert content["left_out"] == {"records that are blank": 7}


def test_no_text_can_end_a_cell_or_be_taken_for_a_formula(tmp_path: Path) -> None:
    list(write_tokenizer_report(measured(language("=1+1\t2\n3", 20, 10)), tmp_path))
    heads, *rows = (tmp_path / "tokens.tsv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 2 and {row.count("\t") for row in rows} == {heads.count("\t")}
    assert rows[0].startswith("'=1+1 2 3\t")


def test_the_page_holds_everything_and_nothing_in_it_is_taken_for_html(several: Measured, tiers: Path) -> None:
    page = render_tokenizers(summarise(several, read_tiers(tiers)))
    assert HOSTILE not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    for anchor in ("overview", "ranked", "scripts", "bytes", "tiers", "languages", "roundtrips", "leftout"):
        assert f'<section id="{anchor}">' in page and f'href="#{anchor}"' in page
    assert "uneven" in page and "http" not in page.partition("<body>")[2]
    assert page == render_tokenizers(summarise(several, read_tiers(tiers)))


def test_without_parallel_text_or_tiers_the_report_goes_by_tokens_per_character() -> None:
    alone = measured(language("eng_Latn", 20, 10, compared=False), language("xxx_Thai", 60, 30, compared=False))
    summary = summarise(alone)
    page = render_tokenizers(summary)
    assert "Tokens per character of 2 languages" in page and "No tiers were given" in page and "Premium" not in page
    text = "\n".join(console_lines(summary, shown=1))
    assert "xxx_Thai" in text and "... and 1 more" in text and "premium" not in text


def test_languages_without_any_text_are_shown_and_break_nothing(tmp_path: Path) -> None:
    empty = Language("xxx_Thai", "Thai", True, ["xxx_Thai"], parallel_text=LanguageCounts.empty(2))
    empty.parallel = ParallelCounts.empty(2)
    several = measured(language("eng_Latn", 20, 10), language("yyy_Cyrl", 0, 30), empty)
    lines = list(write_tokenizer_report(several, tmp_path))
    assert any(line.startswith("xxx_Thai") and "–" in line for line in lines)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "xxx_Thai" in page and "nan" not in page.partition("<body>")[2].partition("<script>")[0].lower().split()
    assert "NaN" not in (tmp_path / "tokens.json").read_text()
    rows = list(csv.DictReader((tmp_path / "tokens.tsv").open(encoding="utf-8"), delimiter="\t"))
    assert [row["premium"] for row in rows if row["language"] == "xxx_Thai"] == ["", ""]


def test_the_terminal_lists_the_worst_first_and_what_was_left_out(several: Measured) -> None:
    summary: Summary = summarise(several)
    lines = list(console_lines(summary, shown=0))
    places = [next(i for i, line in enumerate(lines) if line.startswith(code)) for code in ("lao_Laoo", "swh_Latn")]
    assert places == sorted(places)
    assert "first writes in bytes: Laoo" in lines and "left out: 7 records that are blank" in lines


def test_terminal_tables_of_three_tokenizers_fit_a_line(tiers: Path) -> None:
    facts = [TokenizerFacts(name, "SPMTokenizer", 256_000, 256, "f" * 32) for name in ("llama2-7b", "llama3", "e" * 60)]
    found = [
        Language(
            code, code.partition("_")[2], True, [code], parallel_text=counts(20, 3_000, 5),
            parallel=ParallelCounts(2, 0, Side(9, 9, [20, 3_000, 5]), Side(9, 9, [20, 3, 5])),
        )
        for code in ("eng_Latn", "hau_Latn", "sag_Latn", "cmn_Hans", "srp_Cyrl")
    ]  # fmt: skip
    left_out = {"records that are blank": 1234}
    of = {"records that are blank": {f"x{number}_Latn": number for number in range(1, 8)}}
    summary = summarise(Measured(tuple(facts), tuple(found), MeasureSettings(), "eng_Latn", left_out, of))
    text = list(console_lines(summary, shown=0))
    assert text[-1] == (
        "left out: 1,234 records that are blank (x7_Latn 7, x6_Latn 6, x5_Latn 5, x4_Latn 4, x3_Latn 3 and 2 more)"
    )
    assert all(len(line) <= 100 for line in text[:-1]), max(text[:-1], key=len)
    heads = next(number for number, line in enumerate(text) if line.startswith("script"))
    assert text[heads].split()[2:] == ["llama2-7b", "llama3", f"{'e' * 13}…"] * 2
    assert text[heads - 1].split() == ["premium", "byte", "tokens"]
    with_tiers = list(console_lines(summarise(summary.measured, read_tiers(tiers)), shown=0))
    line = next(line for line in with_tiers if line.startswith("no tier in tiers.tsv"))
    assert "cmn_Hans, hau_Latn, sag_Latn, srp_Cyrl" in line


def test_the_terminal_has_more_figures_where_there_is_room(several: Measured) -> None:
    one = Measured(several.tokenizers[:1], several.languages[:1], several.settings, "eng_Latn", {})
    for language_ in one.languages:
        del language_.counts.tokens[1:], language_.counts.examples[1:]
    text = list(console_lines(summarise(one), shown=0))
    heads = next(line for line in text if "byte tokens" in line and "bytes per token" in line)
    assert heads.split() == ["premium", "byte", "tokens", "bytes", "per", "token"]


def test_languages_are_ranked_by_one_figure(several: Measured) -> None:
    summary = summarise(measured(*several.languages, language("tha_Thai", 240, 240, compared=False)))
    # Thai's 4 tokens per character are no premium, though more than Swahili's 2.
    codes = [row.language.code for row in summary.worst_first]
    assert codes == ["lao_Laoo", "swh_Latn", "eng_Latn", "jpn_Jpan", "tha_Thai"]
    assert [group.name for group in summary.scripts] == ["Laoo", "Latn", "Jpan", "Thai"]


def test_the_page_names_the_ends_compares_tiers_by_premium_and_writes_shares_alike(tiers: Path) -> None:
    several = measured(
        *(language(f"x{letter}x_Latn", 20 + number, 10) for number, letter in enumerate("abcdef")),
        language("lao_Laoo", 200, 90, byte_tokens=1),
        language("eng_Latn", 10, 8),
    )
    page = render_tokenizers(summarise(several, read_tiers(tiers)))
    ranked = page.partition('<section id="ranked">')[2].partition("</section>")[0]
    marks = [mark.partition("</bdi>")[0] for mark in ranked.split("<bdi>") if "</bdi></span>" in mark]
    assert marks[0] == "Lao 10.00" and marks[-1] == "English 0.80" and 2 <= len(marks) <= 4
    lanes = page.partition('<section id="tiers">')[2].partition("</section>")[0]
    assert "tokens per token of eng_Latn for the same text, less is better" in lanes and "ytes per token" not in lanes
    assert "0.5%" in page and "0.500%" not in page


def test_only_reports_are_replaced(several: Measured, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = tmp_path / "out"
    check_output(output)
    list(write_tokenizer_report(several, output))
    assert not caplog.records
    (output / "notes.txt").write_text("mine")
    check_output(output)
    assert "the report there will be replaced" in caplog.text
    (output / "tokens.tsv").unlink()
    with pytest.raises(ReportError, match=r"is no report of tokenizers, it has notes\.txt"):
        check_output(output)
    with pytest.raises(ReportError, match="is a file"):
        check_output(output / "notes.txt")


def test_the_command_goes_from_files_to_the_report(tmp_path: Path) -> None:
    texts = ["all human beings are born free", "kaikki ihmiset syntyvät vapaina"]
    for name, text in zip(("eng_Latn", "fin_Latn"), texts, strict=True):
        lines = (orjson.dumps({"text": f"{text} {number}"}) + b"\n" for number in range(9))
        (tmp_path / "p").mkdir(exist_ok=True)
        (tmp_path / "p" / f"{name}.jsonl").write_bytes(b"".join(lines))
    train_sentencepiece(texts * 5, tmp_path / "tokenizer.model", vocab_size=300)
    command = [
        sys.executable, "tools/tokenizer_report.py", "--tokenizer", f"own={tmp_path / 'tokenizer.model'}", "--input",
        *(tmp_path / "p" / f"{name}.jsonl" for name in ("eng_Latn", "fin_Latn")),
        "--parallel", tmp_path / "p", "--output", tmp_path / "out", "--workers", "2", "--context", "8",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "fin_Latn" in done.stdout and "report.html" in done.stdout and "measure: 100%" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "tokens.json", "tokens.tsv"]
    rows = list(csv.DictReader((tmp_path / "out" / "tokens.tsv").open(encoding="utf-8"), delimiter="\t"))
    assert [row["documents"] for row in rows] == ["9", "9"] and float(rows[0]["premium"]) == 1
    late = [*command, "--tiers", tmp_path / "none.tsv"]
    done = subprocess.run(late, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1 and "none.tsv does not exist" in done.stderr and "measure" not in done.stderr
    wrong = [*command[:2], "--output", tmp_path / "out"]
    done = subprocess.run(wrong, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr == "error: no tokenizer is given: --tokenizer NAME=PATH, once for each\n"
