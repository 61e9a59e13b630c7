"""The mixtures of EMMA-500 on the real counts: what is published is exact, and the comments tell what comes out."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from megatron.config.load import load_sections
from megatron.data.mixture import RunSize
from megatron.data.planning.plan import Plan, plan_counts
from megatron.data.planning.plan_groups import by_source, group_rows, tiers_of

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "configs"
LANGUAGES = {"high": 27, "medium-high": 79, "medium": 68, "medium-low": 162, "low": 210}
PAIRS = {"very high": 4, "high": 83, "medium-high": 67, "medium": 281, "medium-low": 508, "low": 655}
MONO = {"monolingual": 0.389, "instruction": 0.168, "code": 0.221, "paper": 0.195, "book": 0.026}
BI = {"bilingual": 0.323, "monolingual": 0.263, "instruction": 0.114, "code": 0.150, "paper": 0.132, "book": 0.018}
MIXES = {
    "emma500": (12_000, "llama2", "emma500-counts", MONO),
    "emma500-gen2-mono": (25_000, "llama3", "emma500-gen2-counts", MONO),
    "emma500-gen2-bi": (40_000, "llama3", "emma500-gen2-counts", BI),
}


@cache
def plan(shared: Path, name: str, *studies: str, steps: int = 0) -> Plan:
    length, tokenizer, counts, shares = MIXES[name]
    size = RunSize(seq_length=4096, batch_size=4096, train_iters=steps or length)
    files = [CONFIGS / "data" / f"{name}.yml", *(CONFIGS / "studies" / f"{study}.yml" for study in studies)]
    section = load_sections(files, [f"seq_length={size.seq_length}"], ["data"])["data"].mixture  # type: ignore[attr-defined]
    tables = [shared / "data" / "mala" / "languages.tsv", CONFIGS / "data" / f"{counts}.tsv"]
    tables += [shared / "data" / "mala" / "pairs.tsv"] if "bilingual" in shares else []
    words = str(CONFIGS / "data" / f"tokens-per-word-{tokenizer}.tsv")
    return plan_counts(tables, section, tokens_per_word=words, run=size, seed=1234)


@pytest.mark.parametrize("name", MIXES)
def test_what_is_published_is_exact(shared: Path, name: str) -> None:
    found = plan(shared, name)
    shares = MIXES[name][3]
    trained = [row for row in found.rows if row["sampled_tokens"]]
    tokens = {"emma500": 201_326_592_000, "emma500-gen2-mono": 419_430_400_000, "emma500-gen2-bi": 671_088_640_000}
    assert sum(row["sampled_tokens"] for row in found.rows) == tokens[name]
    whole = sum(shares.values())
    assert {g.name: g.share for g in group_rows(trained, by_source)} == pytest.approx(
        {source: share / whole for source, share in shares.items()}
    )
    languages = Counter(row["tier"] for row in trained if row["source"] == "monolingual")
    assert languages == LANGUAGES
    if "bilingual" in shares:
        pairs = Counter(row["tier"].removeprefix("pairs ") for row in trained if row["source"] == "bilingual")
        assert pairs == {**PAIRS, "very low": 909 - 413}


@pytest.mark.parametrize("name", MIXES)
def test_no_text_is_repeated_beyond_use(shared: Path, name: str) -> None:
    rows = plan(shared, name).rows
    assert max(row["epochs"] for row in rows if row["source"] == "monolingual") < 8
    assert max((row["epochs"] for row in rows if row["source"] == "bilingual"), default=0) < 4
    assert not any(row["capped"] for row in rows)
    # Sizes of the other sources are estimates; were they repeated much more, the choice of shares would be wrong.
    assert max(row["epochs"] for row in rows) < 8


def printed_table(name: str) -> dict[str, tuple[float, float, float]]:
    """Return tier -> (tokens, tokens trained on, epochs), as the comment of a configuration has them."""
    text = (CONFIGS / "data" / f"{name}.yml").read_text(encoding="utf-8")
    line = re.compile(r"^#   (\S+(?: \S+)*?) +(?:\d+ +)?~?([\d.]+) B +([\d.]+) B +([\d.]+)$", re.MULTILINE)
    return {tier: (float(held), float(used), float(epochs)) for tier, held, used, epochs in line.findall(text)}


@pytest.mark.parametrize("name", MIXES)
def test_the_table_in_the_comment_is_the_plan(shared: Path, name: str) -> None:
    trained = [row for row in plan(shared, name).rows if row["sampled_tokens"]]
    tiers = [tier for _, of_source in tiers_of(trained) for tier in of_source]
    printed = printed_table(name)
    assert printed.keys() == {tier.name for tier in tiers}
    for tier in tiers:
        held, used, epochs = printed[tier.name]
        assert tier.tokens / 1e9 == pytest.approx(held, rel=0.01), tier.name
        assert tier.trained / 1e9 == pytest.approx(used, rel=0.01), tier.name
        assert tier.epochs == pytest.approx(epochs, rel=0.02, abs=0.005), tier.name


@pytest.mark.parametrize(
    ("name", "study", "source"),
    [("emma500", "no-instruction", "instruction"), ("emma500", "no-code", "code"),
     ("emma500-gen2-bi", "no-bilingual", "bilingual")],
)  # fmt: skip
def test_a_study_leaves_one_source_out_and_trains_as_long(shared: Path, name: str, study: str, source: str) -> None:
    found, base = plan(shared, name, study), plan(shared, name)
    used = {group.name: group.trained for group in group_rows(found.rows, by_source)}
    assert used.pop(source) == 0 and min(used.values()) > 0
    assert sum(used.values()) == sum(row["sampled_tokens"] for row in base.rows)
    assert max(row["epochs"] for row in found.rows if row["source"] == "monolingual") < 8.1


@pytest.mark.parametrize("group", ["family-turkic", "script-cyrillic"])
def test_a_group_and_its_control_are_alike(shared: Path, group: str) -> None:
    counted = []
    for study in (group, f"{group}-random"):
        rows = [row for row in plan(shared, "emma500", study, steps=1200).rows if row["sampled_tokens"]]
        assert sum(row["sampled_tokens"] for row in rows) == 1200 * 4096 * 4096
        assert {row["source"] for row in rows} == {"monolingual"}
        assert "eng_Latn" in {row["code"] for row in rows}
        assert max(row["epochs"] for row in rows) < 8.1
        counted.append(Counter(row["tier"] for row in rows))
    assert counted[0] == counted[1]


def blocks_of_the_page(language: str) -> list[str]:
    page = (ROOT / "docs" / "mixtures.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def test_every_mixture_on_the_page_is_accepted(tmp_path: Path) -> None:
    blocks = blocks_of_the_page("yaml")
    assert len(blocks) > 5
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.yml"
        path.write_text(block + "seq_length: 4096\n", encoding="utf-8")
        load_sections([path], (), ["data"])


def test_the_plan_on_the_page_can_be_made(shared: Path) -> None:
    [block] = [block for block in blocks_of_the_page("bash") if "--counts" in block]
    languages = str(shared / "data" / "mala" / "languages.tsv")
    words = [languages if word == "languages.tsv" else word for word in shlex.split(block.replace("\\\n", " "))]
    command = [sys.executable, *words[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "") and "monolingual, medium-low" in done.stdout
