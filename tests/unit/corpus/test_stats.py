from __future__ import annotations

from pathlib import Path

import pytest

from megatron.corpus.pieces import CorpusName
from megatron.corpus.stats import TextSizes, TokenSizes, added_up, grouped, rows_of, table, write_tsv
from megatron.corpus.stats_plot import draw_stats
from megatron.corpus.summary import code_table, corpus_table, example_lines, stage_table
from megatron.corpus.tally import Key, Tally
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo

SWAHILI = CorpusName("swh_Latn", "monolingual", "swh_Latn")
BOOK = CorpusName("book-swh_Latn", "book", "swh_Latn")
THAI = CorpusName("tha_Thai", "monolingual", "tha_Thai")
PAIR = CorpusName("eng_Latn-swh_Latn", "bilingual", "eng_Latn-swh_Latn")
CODE = CorpusName("code", "code", "zxx_Zyyy")


def sizes() -> dict[CorpusName, TextSizes]:
    return {
        corpus: TextSizes({"train": [10, size * 6, size * 5, size], "valid": [1, 60, 50, 10]})
        for corpus, size in ((SWAHILI, 2_000_000), (BOOK, 300_000), (THAI, 50), (PAIR, 20_000_000), (CODE, 5))
    }


def manifest() -> Manifest:
    def shard(split: str, tokens: int) -> ShardInfo:
        return ShardInfo(
            "tha_Thai", f"{split}_document", split, "monolingual", "tha", "Thai", 1, 5, tokens, 2 * tokens, 1, "uint16",
            "", byte_tokens=tokens // 2,
        )  # type: ignore[arg-type]  # fmt: skip

    return Manifest(TokenizerInfo("k", "f", 9, 2), (shard("train", 100), shard("valid", 10)), Path())


def test_rows_and_tiers() -> None:
    rows = {row.name: row for row in rows_of(sizes(), {"t": manifest()}, unit="words")}
    tiers = {name: row.tier for name, row in rows.items()}
    assert tiers == {
        "swh_Latn": "medium-low", "book-swh_Latn": "low", "tha_Thai": "unseen", "eng_Latn-swh_Latn": "medium-low",
        "code": "",
    }  # fmt: skip
    assert rows["tha_Thai"].tokens == {"t": TokenSizes(110, 220, 2, 55)}
    assert {row.name: row.tier for row in rows_of(sizes(), {}, unit="bytes")}["swh_Latn"] == "medium"
    assert {row.name: row.tier for row in rows_of(sizes(), {"t": manifest()}, unit="tokens")}["swh_Latn"] == "unseen"


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("language", {"swh", "tha", "eng-swh", "zxx"}),
        ("script", {"Latn", "Thai", "Zyyy"}),
        ("source", {"monolingual", "book", "bilingual", "code"}),
    ],
)
def test_groups_add_up(by: str, names: set[str]) -> None:
    rows = rows_of(sizes(), {"t": manifest()}, unit="words")
    groups = grouped(rows, sizes(), by)
    assert {row.name for row in groups} == names
    for column in ("documents", "bytes", "characters", "words"):
        assert sum(row.text.of(column) for row in groups) == sum(row.text.of(column) for row in rows)
    assert added_up("all", groups).tokens == added_up("all", rows).tokens


def test_tables(tmp_path: Path) -> None:
    rows = rows_of(sizes(), {"t": manifest()}, unit="words")
    lines = table(rows, heading="corpus", shown=2).splitlines()
    assert len(lines) == 1 + 2 + 1 + 1
    assert lines[-2] == "... and 3 more"
    (thai,) = [line for line in table(rows, heading="corpus").splitlines() if line.startswith("tha")]
    assert thai.split()[-5:] == ["2.00", "1.82", "%", "50.00", "%"]
    write_tsv(tmp_path / "x.tsv", rows)
    header, *cells = [line.split("\t") for line in (tmp_path / "x.tsv").read_text().splitlines()]
    assert len(cells) == 5
    assert cells[0][header.index("valid_words")] == "10"
    draw_stats(tmp_path / "x.png", rows, Tally(), list(sizes()))
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def tally() -> Tally:
    found = Tally(keep=1)
    for stage, kind, rule, documents in (
        ("clean", "in", "", 10), ("clean", "changed", "html", 4), ("clean", "dropped", "blank", 1),
        ("filters", "in", "", 9), ("filters", "dropped", "few_characters", 2), ("filters", "out", "", 7),
        ("split", "in", "", 7), ("split", "out", "train", 6), ("split", "out", "valid", 1),
    ):  # fmt: skip
        found.add(Key(stage, "tha_Thai", kind, rule), 100 * documents, documents=documents)  # type: ignore[arg-type]
    found.show(Key("filters", "tha_Thai", "dropped", "few_characters"), "file:3", "สวัสดี\nครับ", "few (2, limit 3)")
    return found


def test_what_the_stages_did() -> None:
    _, row, total = (line.split() for line in corpus_table(tally()).splitlines())
    assert row == ["tha_Thai", "10", "1", "2", "0", "6", "1", "70.0", "%"]
    assert total[2:] == row[1:]
    assert any(
        line.split() == ["filters", "dropped", "few_characters", "2", "200"]
        for line in stage_table(tally()).splitlines()
    )
    assert corpus_table(Tally()) == "nothing has been cleaned yet"
    lines = list(example_lines(tally(), stage="filters"))
    assert lines[0] == "\nfilters: few_characters (dropped: 2 documents)"
    assert lines[1:] == ["  file:3", "    สวัสดี⏎ครับ", "    -> few (2, limit 3)"]
    assert list(example_lines(tally(), stage="clean")) == []
    assert [line.split() for line in code_table({("sw", "swh_Latn"): 3, ("x", "x"): 1}).splitlines()][1:] == [
        ["sw", "swh_Latn", "3"]
    ]
