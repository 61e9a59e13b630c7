from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.data.planning.counts import CountsError, TokensPerWord, read_counts, read_tokens_per_word

ROOT = Path(__file__).resolve().parents[4]
TWO = TokensPerWord(2.0)


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(line.replace(" ", "\t") for line in lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def languages(tmp_path: Path) -> Path:
    header = "code texts tokens segments tier"
    return write(tmp_path, "languages.tsv", header, "swh_Latn 40 1000 7 low", "jpn_Japn 3 500 7 low")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    header = "pair src_texts src_tokens src_segments tgt_texts tgt_tokens tgt_segments total_tokens"
    return write(tmp_path, "pairs.tsv", header, "eng_Latn-jpn_Japn 9 100 1 9 10 1 110")


def test_languages_and_pairs_become_shards(languages: Path, pairs: Path) -> None:
    known = TokensPerWord(2.0, {"eng_Latn": 1.5, "Japn": 40.0})
    counts = read_counts([languages, pairs], tokens_per_word=known)
    shards = {shard.name: shard for shard in counts.manifest.shards}
    assert {name: (s.source, s.documents, s.words, s.tokens) for name, s in shards.items()} == {
        "swh_Latn": ("monolingual", 40, 1000, 2000),
        "jpn_Japn": ("monolingual", 3, 500, 20000),
        # Each side by its own figure: 100 x 1.5 + 10 x 40.
        "eng_Latn-jpn_Japn": ("bilingual", 9, 110, 550),
    }
    pair = shards["eng_Latn-jpn_Japn"]
    assert (pair.code, pair.language, pair.script) == ("eng_Latn-jpn_Japn", "eng-jpn", "Latn-Japn")
    assert counts.estimated == set(shards)
    assert all(shard.split == "train" for shard in shards.values())


def test_the_generic_layout_takes_what_is_known(tmp_path: Path) -> None:
    table = write(
        tmp_path, "other.tsv",
        "# a comment", "name source code words tokens bytes", "",
        "swh_Latn monolingual  100  999", "swh-web monolingual swh_Latn 10 33 5", "python code   ~70", "c code   80",
    )  # fmt: skip
    counts = read_counts([table], tokens_per_word=TWO)
    assert {s.name: (s.code, s.words, s.tokens, s.bytes) for s in counts.manifest.shards} == {
        "swh_Latn": ("swh_Latn", 100, 200, 999),
        "swh-web": ("swh_Latn", 10, 33, 5),
        "python": ("zxx_Zyyy", 35, 70, 0),
        "c": ("zxx_Zyyy", 40, 80, 0),
    }
    assert counts.estimated == {"swh_Latn", "python"}
    counts.require_unit("bytes")  # text without a language has no size tier


def test_tiers_in_bytes_need_bytes(languages: Path) -> None:
    counts = read_counts([languages], tokens_per_word=TWO)
    counts.require_unit("words")
    counts.require_unit("tokens")
    with pytest.raises(CountsError, match=r"2 corpora have none \(jpn_Japn, swh_Latn\)"):
        counts.require_unit("bytes")


def test_every_problem_is_told_with_its_line(tmp_path: Path, languages: Path) -> None:
    bad = write(
        tmp_path, "bad.tsv",
        "name source code words tokens", "a  eng_Latn 1 1", "b web Latin 1 1", "c web eng_Latn x -1",
        " web eng_Latn 1 1", "d web eng_Latn", "e web eng_Latn 1 1 1", "swh_Latn web swh_Latn 1 1",
    )  # fmt: skip
    pair = write(
        tmp_path, "pairs.tsv", "pair src_texts src_tokens tgt_tokens total_tokens", "eng_Latn-fra_Latn 1 2 3 9"
    )
    unknown = write(tmp_path, "unknown.tsv", "language size", "swh 3")
    empty = write(tmp_path, "empty.tsv", "code texts tokens")
    latin1 = tmp_path / "latin1.tsv"
    latin1.write_bytes(b"\xe9")
    files = [languages, bad, pair, unknown, empty, latin1, tmp_path / "none.tsv"]
    with pytest.raises(CountsError) as caught:
        read_counts(files, tokens_per_word=TWO)
    lines = str(caught.value).splitlines()
    for number, text in (
        (2, "a has no source"), (3, "code 'Latin' is not like"), (4, "words = 'x' is not a whole number"),
        (4, "tokens = '-1' is not a whole number"), (5, "has no name"), (6, "d has neither words nor tokens"),
        (7, "has 6 cells, but the header names 5"), (8, f"is given twice, first in {languages}:2"),
    ):  # fmt: skip
        assert any(line.startswith(f"{bad}:{number}: ") and text in line for line in lines), text
    assert any(line.startswith(f"{pair}:2: src_tokens + tgt_tokens = 5, but total_tokens = 9") for line in lines)
    assert any(line.startswith(f"{unknown}:1: the columns language size are no table of counts") for line in lines)
    assert f"{empty}: holds no counts" in lines
    assert any(line.startswith(f"{latin1}: is not UTF-8 at byte 0") for line in lines)
    assert any(line.startswith(f"{tmp_path / 'none.tsv'}: cannot be read") for line in lines)
    assert len(lines) == 13


def test_many_problems_are_counted(tmp_path: Path) -> None:
    table = write(tmp_path, "bad.tsv", "code texts tokens", *(f"x{number} 1 1" for number in range(50)))
    with pytest.raises(CountsError, match="and 30 more"):
        read_counts([table], tokens_per_word=TWO)


def test_tokens_per_word_are_a_number_or_a_table(tmp_path: Path) -> None:
    assert read_tokens_per_word("2.5").of("swh_Latn") == 2.5
    table = write(tmp_path, "words.tsv", "code tokens_per_word measured_on", "swh_Latn 2 x", "Latn 3 x", "* 4 x")
    known = read_tokens_per_word(str(table))
    assert [known.of(code) for code in ("swh_Latn", "zul_Latn", "jpn_Jpan", "swh_Latn-jpn_Jpan")] == [2, 3, 4, 3]


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_impossible_tokens_per_word_are_refused(value: str) -> None:
    with pytest.raises(CountsError, match="above 0"):
        read_tokens_per_word(value)


def test_a_bad_table_of_tokens_per_word_is_told_whole(tmp_path: Path) -> None:
    table = write(tmp_path, "words.tsv", "code tokens_per_word", "Latn x", "Cyrl 2", "Cyrl 3", "Arab 0")
    with pytest.raises(CountsError) as caught:
        read_tokens_per_word(str(table))
    assert [line.split(": ")[0].rpartition(":")[2] for line in str(caught.value).splitlines()] == ["2", "4", "5"]
    table = write(tmp_path, "words.tsv", "code tokens_per_word", "Latn 2")
    with pytest.raises(CountsError, match=r"no row `\*`"):
        read_tokens_per_word(str(table))
    table = write(tmp_path, "words.tsv", "language words", "Latn 2")
    with pytest.raises(CountsError, match="are not `code` and `tokens_per_word`"):
        read_tokens_per_word(str(table))


@given(st.text(alphabet="ab_-~ 0129\t\n#.L", max_size=80))
def test_no_text_crashes_the_reader(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.tsv"
        path.write_text("name\tsource\ttokens\n" + text, encoding="utf-8")
        try:
            counts = read_counts([path], tokens_per_word=TWO)
        except CountsError:
            return
        assert all(shard.tokens >= 1 for shard in counts.manifest.shards)


def test_the_real_counts_are_read_in_full(shared: Path) -> None:
    files = [shared / "data" / "mala" / name for name in ("languages.tsv", "pairs.tsv")]
    counts = read_counts(files, tokens_per_word=TokensPerWord(1.0))
    words = dict.fromkeys(("monolingual", "bilingual"), 0)
    for shard in counts.manifest.shards:
        words[shard.source] += shard.words
    assert len(counts.manifest.shards) == 939 + 2507
    assert words == {"monolingual": 74_259_547_978, "bilingual": 426_882_764_808}
    assert sum(shard.tokens for shard in counts.manifest.shards) == sum(words.values())


@pytest.mark.parametrize("name", ["llama2", "llama3"])
def test_the_shipped_figures_of_tokens_per_word_load(name: str) -> None:
    known = read_tokens_per_word(str(ROOT / "configs" / "data" / f"tokens-per-word-{name}.tsv"))
    assert 1 < known.of("eng_Latn") < 1.5 < known.of("swh_Latn") < 3 < known.of("mal_Mlym")


@pytest.mark.parametrize("name", ["emma500-counts", "emma500-gen2-counts"])
def test_the_shipped_counts_are_marked_as_estimates(name: str) -> None:
    counts = read_counts([ROOT / "configs" / "data" / f"{name}.tsv"], tokens_per_word=TWO)
    assert counts.estimated == {shard.name for shard in counts.manifest.shards}
    assert {shard.source for shard in counts.manifest.shards} == {"code", "paper", "instruction", "book"}
