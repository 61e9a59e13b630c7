import logging
from pathlib import Path

import pytest

from megatron.config.corpus_schema import InputConfig
from megatron.corpus.document import CorpusError
from megatron.corpus.languages import Label
from megatron.corpus.reading.find import find_inputs
from megatron.corpus.reading.formats import format_of, stem


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not opened")


def find(root: Path, **settings):
    return find_inputs([InputConfig(path=str(root), **settings)])


def test_malas_layout_with_every_format(tmp_path):
    make(
        tmp_path,
        "eng_Latn/b.jsonl",
        "eng_Latn/a.parquet",
        "jpn_Japn.jsonl.gz",
        "swh_Latn/data-00000-of-00002.arrow",
        "swh_Latn/data-00001-of-00002.arrow",
        "swh_Latn/dataset_info.json",
        "swh_Latn/state.json",
        "pairs/eng_Latn-fra_Latn/x.jsonl.zst",
        "pairs/opus/TED.en-sw.en",
        "pairs/opus/TED.en-sw.sw",
        "pairs/opus/en-sw.tmx.gz",
        "code-python/x.json.gz",
        "books/swh_Latn/x.txt",
        "books/notes.txt",
    )
    (tmp_path / "books" / "notes.txt").unlink()
    found = find(tmp_path)
    assert [(file.corpus, file.name, file.format, file.source) for file in found] == [
        ("TED.en-sw", "pairs/opus/TED.en-sw", "moses", "bilingual"),
        ("code-python", "code-python/x.json.gz", "jsonl", "code"),
        ("eng_Latn", "eng_Latn/a.parquet", "parquet", "monolingual"),
        ("eng_Latn", "eng_Latn/b.jsonl", "jsonl", "monolingual"),
        ("eng_Latn-fra_Latn", "pairs/eng_Latn-fra_Latn/x.jsonl.zst", "jsonl", "bilingual"),
        ("jpn_Japn", "jpn_Japn.jsonl.gz", "jsonl", "monolingual"),
        ("opus", "pairs/opus/en-sw.tmx.gz", "tmx", "bilingual"),
        ("swh_Latn", "books/swh_Latn/x.txt", "text", "monolingual"),
        ("swh_Latn", "swh_Latn/data-00000-of-00002.arrow", "arrow", "monolingual"),
        ("swh_Latn", "swh_Latn/data-00001-of-00002.arrow", "arrow", "monolingual"),
    ]
    labels = {file.corpus: (file.label, file.pair) for file in found}
    assert labels["jpn_Japn"] == (Label("jpn", "Jpan"), None)
    assert labels["eng_Latn-fra_Latn"] == (None, (Label("eng", "Latn"), Label("fra", "Latn")))
    assert labels["code-python"] == (Label("zxx", "Zyyy"), None)
    assert labels["TED.en-sw"] == labels["opus"] == (None, None)
    assert found[0].paths == (tmp_path / "pairs/opus/TED.en-sw.en", tmp_path / "pairs/opus/TED.en-sw.sw")
    assert found[0].size_bytes == 20


def test_names_of_groups_count_where_those_of_corpora_say_nothing(tmp_path):
    make(tmp_path, "books/gutenberg/x.txt", "eng_Latn-swh_Latn/TED.en-sw.en", "eng_Latn-swh_Latn/TED.en-sw.sw")
    opus, book = find(tmp_path)
    assert (book.source, book.label) == ("book", Label("zxx", "Zyyy"))
    assert opus.pair == (Label("eng", "Latn"), Label("swh", "Latn"))


def test_the_input_says_what_its_text_is(tmp_path):
    make(tmp_path, "eng_Latn/a.jsonl")
    assert find(tmp_path, source="paper")[0].source == "paper"
    assert find(tmp_path, source="paper")[0].label == Label("eng", "Latn")


@pytest.mark.parametrize("folder", ["stories", "eng_Latn"])
def test_numbered_parts_are_one_corpus(tmp_path, folder):
    make(tmp_path / folder, "train-00000-of-00002.parquet", "train-00001-of-00002.parquet")
    assert {file.corpus for file in find(tmp_path / folder)} == {folder}


def test_splits_belong_to_the_folder_that_they_lie_in(tmp_path):
    make(tmp_path, "eng_Latn/train/a.arrow", "eng_Latn/validation/a.arrow", "eng_Latn/dataset_dict.json")
    assert [file.corpus for file in find(tmp_path)] == ["eng_Latn"] * 2
    assert [file.corpus for file in find(tmp_path / "eng_Latn")] == ["eng_Latn"] * 2
    make(tmp_path, "other/train.jsonl")
    assert [file.corpus for file in find(tmp_path / "other" / "train.jsonl")] == ["train"]


def test_an_input_may_be_one_file(tmp_path):
    make(tmp_path, "swh_Latn.jsonl.zst", "data.bin", "TED.en-sw.en", "TED.en-sw.sw")
    (file,) = find(tmp_path / "swh_Latn.jsonl.zst")
    assert (file.corpus, file.name, file.label) == ("swh_Latn", "swh_Latn.jsonl.zst", Label("swh", "Latn"))
    with pytest.raises(CorpusError, match="its format is not known by its name"):
        find(tmp_path / "data.bin")
    (file,) = find(tmp_path / "data.bin", format="parquet")
    assert file.format == "parquet"
    (file,) = find(tmp_path / "TED.en-sw.sw")
    assert (file.corpus, file.name, len(file.paths)) == ("TED.en-sw", "TED.en-sw", 2)
    make(tmp_path, "X.en-fr.en", "X.en-fr.ids", "odd")
    with pytest.raises(CorpusError, match=r"odd: a file of the Moses format is called"):
        find(tmp_path / "odd", format="moses")
    with pytest.raises(CorpusError, match="has 1 files"):
        find(tmp_path / "X.en-fr.en")


def test_files_of_no_use_are_counted_in_a_warning(tmp_path, caplog):
    make(tmp_path, "eng_Latn/a.jsonl", "eng_Latn/.b.jsonl", "eng_Latn/x/deep.jsonl", "README.md", "eng_Latn/a.csv")
    with caplog.at_level(logging.WARNING, logger="megatron.corpus.reading.find"):
        assert len(find(tmp_path)) == 1
    assert "1 x .csv, 1 x .jsonl, 1 x .md" in caplog.text


def test_the_order_does_not_depend_on_the_file_system(tmp_path):
    names = [f"{group}{number}/{part}.jsonl" for group in "zma" for number in (2, 1, 10) for part in "ba"]
    make(tmp_path, *names)
    assert [file.name for file in find(tmp_path)] == sorted(names, key=lambda name: name.split("/"))


def test_nothing_to_read(tmp_path):
    with pytest.raises(CorpusError, match="no such file or folder"):
        find(tmp_path / "none")
    with pytest.raises(CorpusError, match="no files to read in it or in its folders; it is empty"):
        find(tmp_path)
    make(tmp_path, "a.csv", "b.jsonl")
    with pytest.raises(CorpusError, match=r"it holds 1 x \.csv, 1 x \.jsonl, which cannot be read"):
        find(tmp_path, format="parquet")


def test_a_file_that_comes_up_twice(tmp_path):
    make(tmp_path / "a", "eng_Latn/x.jsonl")
    one, all_of_it = (InputConfig(path=str(tmp_path / "a" / name)) for name in ("eng_Latn", "."))
    with pytest.raises(CorpusError, match=r"x\.jsonl: comes up twice, in input 1 .*eng_Latn\) and in input 2 "):
        find_inputs([one, all_of_it])
    (tmp_path / "a" / "fra_Latn").symlink_to(tmp_path / "a" / "eng_Latn")
    with pytest.raises(CorpusError, match=r"comes up twice, in input 1 .* and in input 1"):
        find_inputs([all_of_it])


def test_a_dangling_link(tmp_path):
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "none")
    with pytest.raises(CorpusError, match=r"a\.jsonl: cannot be read"):
        find(tmp_path)


def test_inputs_are_numbered(tmp_path):
    make(tmp_path, "a/eng_Latn.jsonl", "b/eng_Latn.jsonl")
    found = find_inputs([InputConfig(path=str(tmp_path / name)) for name in ("b", "a")])
    assert [(file.input_number, file.paths[0].parent.name) for file in found] == [(0, "b"), (1, "a")]


@pytest.mark.parametrize(
    ("name", "wanted", "found"),
    [
        ("a.jsonl", "auto", "jsonl"),
        ("a.jsonl", "parquet", None),
        ("a.txt.zst", "auto", "text"),
        ("a.txt.zst", "lines", "lines"),
        ("a.json", "auto", None),
        ("a.json", "jsonl", "jsonl"),
        ("a.en-sw.en", "auto", "moses"),
        ("a.en-sw.en.gz", "moses", "moses"),
        ("a.en", "auto", None),
        ("a.en", "moses", "moses"),
        ("a.tmx", "auto", "tmx"),
        ("jsonl", "auto", None),
    ],
)
def test_formats_by_name(name, wanted, found):
    assert format_of(Path(name), wanted) == found


def test_stems():
    names = {
        "a.jsonl.zst": "a",
        "a.json.gz": "a",
        "a.json": "a",
        "a.b.txt": "a.b",
        "x.en-sw.en": "x.en-sw.en",
        "a": "a",
    }
    assert {name: stem(Path(name)) for name in names} == names
