from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from megatron.evaluation.report.data import ReportError
from megatron.evaluation.report.runs import join, load_runs, tier_means, unique_names
from megatron.evaluation.report.write import comparison_table, write_comparison
from megatron.monitor.record import MetricsError, MetricsWriter
from tests.unit.evaluation.report.test_write import Page, corpora, write_run

ROOT = Path(__file__).parents[4]
HOSTILE = "<script>alert(1)<img src=x onerror=alert(1)>\"'&"  # without a slash: it names a folder, too
START = {"parameters": 1000, "world_size": 1, "train_iters": 40, "device": "cpu", "precision": "fp32"}


def row(corpus: str, bits: float, tier: str = "low") -> dict[str, Any]:
    nats = bits * math.log(2) * 1000
    return {"corpus": corpus, "code": corpus, "tier": tier, "source": "web", "nats": nats, "bytes": 1000, "tokens": 9}


def part(corpus: str, share: float, tier: str = "low", source: str = "web") -> dict[str, Any]:
    names = {"corpus": corpus, "code": corpus, "tier": tier, "source": source}
    return {**names, "tokens": 100, "share": share, "samples": 10, "sampled_tokens": share * 1000, "epochs": 1.0}


def write_small(
    folder: Path, scores: dict[int, dict[str, float]], *, tokens_per_step: int = 8, mixture: tuple[Any, ...] = (),
    settings: str = "", tier: str = "low",
) -> Path:
    """Write a run of 40 steps with validations of step -> corpus -> bits per byte."""
    with MetricsWriter(folder / "metrics.jsonl") as writer:
        writer.write("start", 0, **START, tokens_per_step=tokens_per_step, resumed_from=None)
        if mixture:
            writer.write("mixture", 0, kind="planned", rows=list(mixture))
        for step in range(41):
            if step:
                writer.write("train", step, loss=5 / step, learning_rate=1e-4, gradient_norm=1.0, seconds=1.0, mfu=None,
                             tokens=step * tokens_per_step, tokens_per_second=100.0)  # fmt: skip
            if step in scores:
                rows = [row(corpus, bits, tier) for corpus, bits in scores[step].items()]
                writer.write("validation", step, rows=rows, seconds=1.0)
        if mixture:
            writer.write("mixture", 40, kind="used", rows=list(mixture))
        writer.write("end", 40, reason="finished")
    if settings:
        (folder / "configs").mkdir()
        (folder / "configs" / "resolved-1.yml").write_text(settings, encoding="utf-8")
    return folder


def compare(*folders: Path) -> Page:
    return Page(write_comparison(folders, output=folders[0] / "c.html"))


def test_two_runs_are_on_one_page(tmp_path: Path) -> None:
    rows = write_run(tmp_path / "mono")
    write_run(tmp_path / "bi", resume=False)
    page = compare(tmp_path / "mono", tmp_path / "bi")
    assert "2 runs" in page.words
    assert page.words.count("finished") >= 2
    for corpus in rows:
        assert corpus["corpus"] in page.words
    assert page.tags.count("figure") == 6  # loss, three panels, validation, difference per corpus
    assert "resumed" in page.words and "from step 30" in page.words
    assert "at step 60 , the last validation that all share" in page.words.replace("step 60,", "step 60 ,")
    assert "bi: not a finite number at step 42" in page.words


def test_runs_are_told_apart_without_colour(tmp_path: Path) -> None:
    folders = [write_small(tmp_path / f"run{number}", {0: {"a": 2.0}, 40: {"a": 1.0}}) for number in range(20)]
    html = write_comparison(folders, output=tmp_path / "c.html").read_text(encoding="utf-8")
    looks = re.findall(r"\.r\d+ \{ (--c: [^;]+; --d: [^;]+);", html)
    assert len(looks) == len(set(looks)) == 20
    assert html.count('class="line r19"') == 5


def test_differences_are_those_of_the_shared_validation(tmp_path: Path) -> None:
    one = write_small(tmp_path / "one", {0: {"swh_Latn": 4.0, "only": 9.0}, 20: {"swh_Latn": 2.0}})
    two = write_small(tmp_path / "two", {0: {"swh_Latn": 4.0}, 20: {"swh_Latn": 3.0}, 40: {"swh_Latn": 1.5}})
    page = compare(one, two)
    assert "By tier, at step 20" in page.words
    assert "one at step 20, two at step 40" in page.words
    assert "+50.0%" in page.words  # at step 20
    assert "−25.0%" in page.words  # each at its last
    assert "1 corpora are left out" in page.words
    assert "Lost most in two" in page.words
    assert comparison_table([one, two]).splitlines()[2:] == [
        "tier  corpora  before     one     two",
        "----  -------  ------  ------  ------",
        "low         1  4.0000  2.0000  3.0000",
        "all         1  4.0000  2.0000  3.0000",
    ]


def test_runs_of_other_batches_are_compared_over_tokens(tmp_path: Path) -> None:
    one = write_small(tmp_path / "one", {0: {"a": 4.0}, 40: {"a": 2.0}})
    two = write_small(tmp_path / "two", {0: {"a": 4.0}, 20: {"a": 3.0}, 40: {"a": 1.0}}, tokens_per_step=16)
    with MetricsWriter(two / "metrics.jsonl") as writer:
        writer.write("train", 41, loss=math.nan, learning_rate=1e-4, gradient_norm=1.0, seconds=1.0, mfu=None,
                     tokens=41 * 16, tokens_per_second=100.0)  # fmt: skip
    page = compare(one, two)
    assert "Over tokens" in page.words
    assert "two: not a finite number at 656 tokens" in page.words
    assert "at 320 tokens, the last validation that all share" in page.words
    assert "Tokens per step 8 16" in page.words
    assert [line.split() for line in comparison_table([one, two]).splitlines()[-1:]] == [
        ["all", "1", "4.0000", "2.0000", "3.0000"]
    ]


def test_runs_of_other_tokenizers_are_told(tmp_path: Path) -> None:
    folders = []
    for name, tokens in (("one", 300), ("two", 200), ("three", 200)):
        folders.append(write_small(tmp_path / name, {0: {"a": 4.0}}))
        with MetricsWriter(tmp_path / name / "metrics.jsonl") as writer:
            writer.write("validation", 40, rows=[{**row("a", 2.0), "tokens": tokens}], seconds=1.0)
    page = compare(*folders[:2])
    assert "their tokenizers differ. Loss per token cannot be compared" in page.words
    loss = page.words.index("Loss nats per token; of other tokens in each tokenizer: not comparable")
    assert page.words.index("Validation, bits per byte") < loss
    page = compare(*folders[1:])
    assert "tokenizers differ" not in page.words and "not comparable" not in page.words
    assert page.words.index("Validation, bits per byte") > page.words.index("Loss nats per token")


def test_rates_of_new_tokens_are_mentioned(tmp_path: Path) -> None:
    folders = [write_small(tmp_path / name, {0: {"a": 4.0}}) for name in ("one", "two")]
    assert "its new tokens have another" not in compare(*folders).words
    with MetricsWriter(folders[1] / "metrics.jsonl") as writer:
        writer.write("train", 41, loss=2.0, learning_rate=0.0, new_tokens_learning_rate=1e-4, gradient_norm=1.0,
                     seconds=1.0, mfu=None, tokens=328, tokens_per_second=100.0)  # fmt: skip
    assert "two: its new tokens have another" in compare(*folders).words


def test_settings_that_differ_are_side_by_side(tmp_path: Path) -> None:
    scores = {0: {"a": 4.0}, 40: {"a": 2.0}}
    one = write_small(tmp_path / "one", scores, settings="save: one\nlr: 0.1\nmixture: {tiers: {low: {rate: 1}}}\n")
    two = write_small(tmp_path / "two", scores, settings="save: two\nlr: 0.1\nmixture: {tiers: {low: {rate: 9}}}\n")
    page = compare(one, two)
    assert "mixture.tiers.low.rate 1 9" in page.words
    assert "1 settings that are the same Setting Value lr 0.1" in page.words
    assert "save" not in page.words
    page = compare(one, write_small(tmp_path / "three", scores))
    assert "No resolved configuration was found of three" in page.words
    page = compare(one, write_small(tmp_path / "four", scores, settings="["))
    assert "The settings cannot be compared: this is no configuration" in page.words


def test_mixtures_are_side_by_side(tmp_path: Path) -> None:
    scores = {0: {"a": 4.0}, 40: {"a": 2.0}}
    mixed = (part("a", 0.75), part("b", 0.25, source="code", tier="high"))
    one = write_small(tmp_path / "one", scores, mixture=mixed)
    two = write_small(tmp_path / "two", scores, mixture=(part("a", 1.0),))
    page = compare(one, two, write_small(tmp_path / "three", scores))
    assert "web 75.0% 100.0% –" in page.words
    assert "code 25.0% 0.0% –" in page.words
    assert "high 25.0% 0.0% –" in page.words
    assert "three: no mixture has been recorded yet" in page.words


def test_runs_without_numbers_are_named(tmp_path: Path) -> None:
    for name in ("empty", "bare"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_bytes(b"")
    page = compare(tmp_path / "empty", tmp_path / "bare")
    for sentence in ("empty: no training step", "bare: no validation", "nothing to compare", "No mixture"):
        assert sentence in page.words
    assert "share no point" in comparison_table([tmp_path / "empty", tmp_path / "bare"])
    one = write_small(tmp_path / "one", {0: {"a": 4.0}})
    two = write_small(tmp_path / "two", {20: {"a": 4.0}})
    assert "The runs share no point" in compare(one, two).words
    assert "bare: no training step" in compare(one, two, tmp_path / "bare").words


def test_validations_without_a_common_corpus(tmp_path: Path) -> None:
    one = write_small(tmp_path / "one", {0: {"a": 4.0}, 40: {"a": 2.0}})
    two = write_small(tmp_path / "two", {0: {"b": 4.0}, 40: {"b": 2.0}})
    assert "No corpus was scored in all of these validations" in compare(one, two).words
    assert "no corpus was scored by all runs" in comparison_table([one, two])


def test_hostile_names_and_settings_are_only_text(tmp_path: Path) -> None:
    folders = []
    for number in (1, 2):
        folder = tmp_path / f"{HOSTILE}{number}"
        settings = f"lr: {number}\nother: '{HOSTILE.replace(chr(39), '')}{number}'\n"
        scores = {0: {HOSTILE: 4.0}, 40: {HOSTILE: 2.0 + number}}
        write_small(folder, scores, mixture=(part(HOSTILE, 1.0, HOSTILE, HOSTILE),), settings=settings, tier=HOSTILE)
        with MetricsWriter(folder / "metrics.jsonl") as writer:
            writer.write("incident", 30, kind=HOSTILE)
            writer.write("incident", 30, kind="node_test", problem=HOSTILE)
            writer.write("checkpoint_failed", 31, reason=HOSTILE)
            writer.write("end", 40, reason=HOSTILE)
        folders.append(folder)
    page = compare(*folders)
    assert not {"img", "iframe", "link", "object"} & set(page.tags)
    html = (folders[0] / "c.html").read_text(encoding="utf-8")
    assert html.count("<script") == page.tags.count("script") == 1 + 6  # our own, and the data of six charts
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.words.count("alert(1)") >= 20
    assert not re.search(r"https?://|@import|url\(|<link", html)
    assert "default-src 'none'" in html


def test_names_are_as_short_as_they_can_be() -> None:
    paths = [Path("/a/x/run"), Path("/a/y/run"), Path("/b/y/run"), Path("/b/other")]
    assert unique_names(paths) == ["x/run", "a/y/run", "b/y/run", "other"]
    assert unique_names([Path("/run"), Path("/a/run")]) == ["run", "a/run"]
    with pytest.raises(ReportError, match="given twice"):
        unique_names([Path("/a/x"), Path("/a/b/../x")])


def test_means_weigh_shared_corpora_equally() -> None:
    joined = join([[row("a", 1.0), row("b", 3.0, "high")], [row("b", 5.0), row("a", 2.0), row("c", 9.0)]])
    means = tier_means(joined, ["high", "low"])
    assert [(mean.name, mean.corpora) for mean in means] == [("high", 1), ("low", 1), ("all", 2)]
    assert means[0].values == pytest.approx([3.0, 5.0])  # the tier is that of the first
    assert means[2].values == pytest.approx([2.0, 3.5])
    assert tier_means(join([]), ["high"]) == []


def test_a_large_comparison_stays_small(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_run(tmp_path / name, languages=500, steps=4000, resume=False)
    output = write_comparison([tmp_path / "one", tmp_path / "two"], output=tmp_path / "c.html")
    assert output.stat().st_size < 1_500_000
    assert len(load_runs([tmp_path / "one", tmp_path / "two"]).tiers()) == len({row["tier"] for row in corpora(500)})


def test_the_command_line(tmp_path: Path) -> None:
    one = write_small(tmp_path / "one", {0: {"a": 4.0}, 40: {"a": 2.0}})
    two = write_small(tmp_path / "two", {0: {"a": 4.0}, 40: {"a": 1.0}})
    command = [sys.executable, str(ROOT / "tools" / "report.py"), str(one), str(two)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(one / "comparison.html")
    table = subprocess.run([*command, "--table"], capture_output=True, text=True, check=True)
    assert table.stdout.startswith("bits per byte of held-out text, before (of one) and at step 40")
    for wrong in ([str(tmp_path / "nowhere")], [str(one)], ["--samples", "x"]):
        failed = subprocess.run([*command, *wrong], capture_output=True, text=True)
        assert failed.returncode in (1, 2)
        assert "Traceback" not in failed.stderr
    with pytest.raises(MetricsError, match="does not exist"):
        load_runs([one, tmp_path / "nowhere"])
