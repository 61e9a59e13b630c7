import gzip
import logging
import random
from pathlib import Path

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from megatron.corpus.languages import Label
from megatron.corpus.read import CorpusError, Document, ReadCounts, find_corpora, read_documents

UDHR = Path(__file__).resolve().parents[4] / "shared" / "data" / "udhr" / "raw"


def as_is(data: bytes) -> bytes:
    return data


COMPRESSORS = {".jsonl": as_is, ".jsonl.gz": gzip.compress, ".jsonl.zst": zstandard.compress}


def jsonl(*records) -> bytes:
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


def write(path: Path, *records) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = next(suffix for suffix in COMPRESSORS if path.name.endswith(suffix))
    path.write_bytes(COMPRESSORS[suffix](jsonl(*records)))
    return path


def read_error(path: Path, data: bytes, **options) -> str:
    path.write_bytes(data)
    with pytest.raises(CorpusError) as caught:
        list(read_documents(path, **options))
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.fixture
def one(tmp_path) -> Path:
    return tmp_path / "one.jsonl"


# ---- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_the_same_documents_come_from_every_format(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", {"text": "один", "original_code": "ru"}, {"text": " \n"}, {"text": "два\n"})
    counts = ReadCounts()
    assert list(read_documents(path, counts=counts)) == [Document("один", "ru"), Document("два\n", None)]
    assert (counts.documents, counts.blank, counts.empty_lines) == (2, 1, 0)


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
@given(texts=st.lists(st.text(alphabet="aé\U00010000\n\u2028 ", max_size=9), max_size=12), cuts=st.data())
def test_members_and_frames_may_begin_anywhere(tmp_path_factory, suffix, texts, cuts):
    data = jsonl(*({"text": text} for text in texts))
    places = sorted(cuts.draw(st.lists(st.integers(0, len(data)), max_size=4)))
    pieces = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
    path = tmp_path_factory.mktemp("frames") / f"a{suffix}"
    path.write_bytes(b"".join(COMPRESSORS[suffix](piece) for piece in pieces))
    counts = ReadCounts()
    found = [document.text for document in read_documents(path, counts=counts)]
    assert found == [text for text in texts if text.strip()]
    assert counts.documents + counts.blank == len(texts)


@given(lengths=st.lists(st.integers(1, 300), max_size=20), chunk=st.integers(1, 64))
def test_lines_do_not_depend_on_the_chunks_they_arrive_in(tmp_path_factory, lengths, chunk):
    path = tmp_path_factory.mktemp("chunks") / "a.jsonl"
    write(path, *({"text": "é" * length} for length in lengths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("megatron.corpus.reading.compressed._CHUNK_BYTES", chunk)
        assert [len(document.text) for document in read_documents(path)] == lengths


def test_a_large_zstd_file_spans_many_inputs(tmp_path):
    noise = random.Random(0)
    texts = [noise.randbytes(40).hex() for _ in range(1000)]
    path = write(tmp_path / "a.jsonl.zst", *({"text": text} for text in texts))
    assert path.stat().st_size > 5 * 4096
    assert [document.text for document in read_documents(path)] == texts


def test_frames_that_hold_no_data_are_skipped(tmp_path):
    skippable = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(skippable + zstandard.compress(jsonl({"text": "a"})) + skippable)
    assert list(read_documents(path)) == [Document("a")]


def test_line_endings_empty_lines_and_a_byte_order_mark(one):
    one.write_bytes(b'\xef\xbb\xbf{"text":"a"}\r\n\n \t\r\n{"text":"b"}')
    counts = ReadCounts()
    assert list(read_documents(one, counts=counts)) == [Document("a"), Document("b")]
    assert (counts.documents, counts.blank, counts.empty_lines) == (2, 0, 2)


def test_an_empty_file_has_no_documents(one):
    one.write_bytes(b"")
    assert list(read_documents(one)) == []


def test_another_field_may_hold_the_text(one):
    write(one, {"content": "a", "text": 3, "original_code": None})
    assert list(read_documents(one, text_key="content")) == [Document("a")]


def test_reading_is_a_stream(one):
    one.write_bytes(jsonl({"text": "a"}) + b"not json\n")
    documents = read_documents(one)
    assert next(documents) == Document("a")
    with pytest.raises(CorpusError, match="line 2"):
        next(documents)


# ---- what is refused -------------------------------------------------------------------------------------------------

GOOD = b'{"text":"fine"}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{'text': 1}", "line 2: not JSON"),
        (b'{"text":"a"} {"text":"b"}', "line 2: not JSON"),
        (b'["text"]', "line 2: not a JSON object but a list"),
        (b"3", "line 2: not a JSON object but a number"),
        (b'{"a":1,"b":2}', "line 2: has no field 'text'; it has: a, b; give --jsonl-keys"),
        (b"{}", "line 2: has no field 'text'; it has: no fields"),
        (b'{"text":null}', "line 2: field 'text' is not a string but null"),
        (b'{"text":["a"]}', "line 2: field 'text' is not a string but a list"),
        (b'{"text":"a","original_code":7}', "line 2: field 'original_code' is not a string but a number"),
        (b'{"text":"ab\xff"}', "line 2: not UTF-8 at byte offset 11 of the line"),
        (b'{"text":"\xed\xa0\x80"}', "line 2: not UTF-8 at byte offset 9 of the line"),
        (rb'{"text":"\ud800"}', "line 2: a lone surrogate"),
        (rb'{"text":"\udc00\ud800"}', "line 2: a lone surrogate"),
        (b'\xef\xbb\xbf{"text":"a"}', "line 2: not JSON"),
    ],
)
def test_broken_lines(one, line, message):
    assert message in read_error(one, GOOD + line + b"\n" + GOOD)


def test_paired_surrogate_escapes_are_one_character(one):
    one.write_bytes(rb'{"text":"\ud83d\ude42"}')
    assert list(read_documents(one)) == [Document("🙂")]


def test_a_file_in_utf_16(one):
    assert "line 1: not UTF-8 at byte offset 0" in read_error(one, '{"text":"a"}\n'.encode("utf-16"))


def test_a_missing_file(tmp_path):
    with pytest.raises(CorpusError, match="No such file"):
        list(read_documents(tmp_path / "none.jsonl"))


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_a_file_cut_short_anywhere(tmp_path, suffix):
    whole = COMPRESSORS[suffix](jsonl(*({"text": f"document {number}"} for number in range(50))))
    for kept in (0, *range(2, len(whole))):
        message = read_error(tmp_path / f"a{suffix}", whole[:kept])
        assert "cut short" in message


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_a_second_member_cut_short(tmp_path, suffix):
    member = COMPRESSORS[suffix](GOOD)
    assert "cut short" in read_error(tmp_path / f"a{suffix}", member + member[:-3])


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_a_file_that_is_not_compressed_as_its_name_says(tmp_path, suffix):
    assert "compressed data is broken" in read_error(tmp_path / f"a{suffix}", GOOD)


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path, suffix):
    data = COMPRESSORS[suffix](GOOD + b"x" * 3_000_000)
    message = read_error(tmp_path / f"a{suffix}", data, max_line_bytes=1_000_000)
    assert "line 2: the line is longer than 1,000,000 bytes" in message


def test_the_longest_line_that_is_allowed(one):
    one.write_bytes(GOOD * 3)
    assert len(list(read_documents(one, max_line_bytes=len(GOOD) - 1))) == 3
    assert "line 1: the line is longer" in read_error(one, GOOD, max_line_bytes=len(GOOD) - 2)


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_folders_files_and_groups(tmp_path):
    write(tmp_path / "eng_Latn" / "b.jsonl", {"text": "b"})
    write(tmp_path / "eng_Latn" / "a.jsonl.zst", {"text": "a"})
    write(tmp_path / "jpn_Japn.jsonl.gz", {"text": "c"})
    write(tmp_path / "pairs" / "eng_Latn-fra_Latn" / "x.jsonl", {"text": "d"})
    write(tmp_path / "pairs" / "eng_Latn-jpn_Japn" / "x.jsonl", {"text": "d"})
    write(tmp_path / "code-python" / "x.jsonl", {"text": "e"})
    write(tmp_path / "books" / "x.jsonl", {"text": "f"})
    write(tmp_path / "instruction-fra_Latn" / "x.jsonl", {"text": "g"})
    corpora = find_corpora(tmp_path)
    assert [(corpus.name, corpus.source, corpus.code) for corpus in corpora] == [
        ("books", "book", "zxx_Zyyy"),
        ("code-python", "code", "zxx_Zyyy"),
        ("eng_Latn", "monolingual", "eng_Latn"),
        ("eng_Latn-fra_Latn", "bilingual", "eng_Latn-fra_Latn"),
        ("eng_Latn-jpn_Japn", "bilingual", "eng_Latn-jpn_Jpan"),
        ("instruction-fra_Latn", "instruction", "fra_Latn"),
        ("jpn_Japn", "monolingual", "jpn_Jpan"),
    ]
    assert corpora[2].paths == (tmp_path / "eng_Latn" / "a.jsonl.zst", tmp_path / "eng_Latn" / "b.jsonl")
    assert corpora[3].pair == (Label("eng", "Latn"), Label("fra", "Latn"))
    assert corpora[3].label is None


@pytest.mark.parametrize(
    ("records", "label"),
    [
        ([{"text": "Hola", "original_code": "es-MX"}], Label("spa", "Latn")),
        ([{"text": "Здраво", "original_code": "sr-Latn"}], Label("srp", "Cyrl")),  # the text decides on the script
        ([{"text": "1"}, {"text": "2", "original_code": "sr-Latn"}], Label("srp", "Latn")),
        ([{"text": "a", "original_code": code} for code in ("en", "fr", "fr")], Label("fra", "Latn")),
        ([{"text": "Привет"}], Label("und", "Cyrl")),
        ([{"text": "", "original_code": "en"}, {"text": "ሰላም", "original_code": "eml"}], Label("und", "Ethi")),
        ([], Label("und", "Zyyy")),
    ],
)
def test_a_label_from_the_documents(tmp_path, records, label):
    write(tmp_path / "part7" / "a.jsonl")
    write(tmp_path / "part7" / "b.jsonl", *records)
    (corpus,) = find_corpora(tmp_path)
    assert (corpus.label, corpus.source) == (label, "monolingual")


def test_the_root_may_be_one_file_or_one_corpus(tmp_path):
    path = write(tmp_path / "swa_Latn" / "part-000.jsonl", {"text": "a"})
    (from_file,) = find_corpora(path)
    assert (from_file.name, from_file.code) == ("part-000", "und_Latn")
    (from_folder,) = find_corpora(path.parent)
    assert (from_folder.name, from_folder.code, from_folder.paths) == ("swa_Latn", "swa_Latn", (path,))


def test_hidden_files_are_skipped_and_other_files_counted(tmp_path, caplog):
    write(tmp_path / "eng_Latn" / "a.jsonl", {"text": "a"})
    write(tmp_path / "eng_Latn" / ".b.jsonl", {"text": "a"})
    write(tmp_path / ".cache" / "c.jsonl", {"text": "a"})
    write(tmp_path / "eng_Latn" / "deeper" / "d.jsonl", {"text": "a"})
    (tmp_path / "eng_Latn" / "data.arrow").touch()
    (tmp_path / "README.md").touch()
    with caplog.at_level(logging.WARNING, logger="megatron.corpus.read"):
        (corpus,) = find_corpora(tmp_path)
    assert [path.name for path in corpus.paths] == ["a.jsonl"]
    assert "1 x .arrow, 1 x .jsonl, 1 x .md" in caplog.text


def test_nothing_to_read(tmp_path):
    with pytest.raises(CorpusError, match="no such file or folder"):
        find_corpora(tmp_path / "none")
    with pytest.raises(CorpusError, match="it is empty"):
        find_corpora(tmp_path)
    (tmp_path / "eng_Latn").mkdir()
    (tmp_path / "eng_Latn" / "a.parquet").touch()
    with pytest.raises(CorpusError, match=r"it holds 1 x \.parquet, which cannot be read"):
        find_corpora(tmp_path)
    with pytest.raises(CorpusError, match="not a document file"):
        find_corpora(tmp_path / "eng_Latn" / "a.parquet")


def test_two_corpora_of_one_name(tmp_path):
    write(tmp_path / "eng_Latn" / "a.jsonl", {"text": "a"})
    write(tmp_path / "eng_Latn.jsonl", {"text": "a"})
    with pytest.raises(CorpusError, match="two corpora are named 'eng_Latn'"):
        find_corpora(tmp_path)


def test_every_declaration_of_human_rights_gets_a_label():
    if not UDHR.exists():
        pytest.skip(f"{UDHR} is not there: reading real files of 279 languages is not checked")
    corpora = {corpus.name: corpus.code for corpus in find_corpora(UDHR)}
    assert len(corpora) == 279
    assert not [name for name, code in corpora.items() if code.endswith("Zyyy")]
    assert sum(code.startswith("und_") for code in corpora.values()) == 5  # the files whose own code says so
    assert corpora["eng"] == "eng_Latn"
    assert corpora["cmn_hant"] == "zho_Hani"
    assert corpora["srp_latn"] == "srp_Latn"
    assert corpora["jpn"] == "jpn_Jpan"
