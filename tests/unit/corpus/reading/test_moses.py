import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.corpus_schema import InputConfig, InstructionsConfig, ReadConfig
from megatron.corpus.document import CorpusError, Document
from megatron.corpus.reading.find import find_inputs
from megatron.corpus.reading.moses import MosesSide, moses_side
from megatron.corpus.reading.read import ReadCounts, read_input


def write(folder: Path, name: str, first: bytes, second: bytes, ending: str = "") -> None:
    compress = gzip.compress if ending else bytes
    stem, _, codes = name.rpartition(".")
    for code, data in zip(codes.split("-"), (first, second), strict=True):
        (folder / f"{stem}.{codes}.{code}{ending}").write_bytes(compress(data))


@pytest.mark.parametrize(
    ("name", "marked", "side"),
    [
        ("TED.en-sw.en", True, MosesSide("TED.en-sw", "en", 0)),
        ("TED.v1.en-sw.sw.gz", True, MosesSide("TED.v1.en-sw", "sw", 1)),
        ("X.eng_Latn-zho_Hans.zho_Hans", True, MosesSide("X.eng_Latn-zho_Hans", "zho_Hans", 1)),
        ("TED.en-sw.ids", True, None),
        ("TED.en-sw.ids", False, None),
        ("TED.en-sw.fr", True, None),
        ("TED.en-en.en", True, None),
        ("train.en", True, None),
        ("train.en", False, MosesSide("train", "en", None)),
        ("train.pt-BR.zst", False, MosesSide("train", "pt-BR", None)),
        ("LICENSE", False, None),
    ],
)
def test_what_names_tell(name, marked, side):
    assert moses_side(Path(name), marked=marked) == side


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_line_n_translates_line_n(tmp_path, read, ending):
    write(tmp_path, "TED.en-sw", b"Hello.\r\n\nYes\nNo\n", b"Habari.\nx\n\xff\nHapana", ending)
    found, counts = read(tmp_path)
    assert found == [
        Document("Hello.", "en", "TED.en-sw:1", "Habari.", "sw"),
        Document("No", "en", "TED.en-sw:4", "Hapana", "sw"),
    ]
    assert dict(counts.dropped) == {"blank": 1, "not_utf8": 1}
    assert counts.read_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_one_of_both_files_may_be_named(tmp_path, read):
    write(tmp_path, "TED.en-sw", b"a\n", b"b\n")
    write(tmp_path, "TED.de-en", b"c\n", b"d\n")
    for code in ("en", "sw"):
        assert [document.text for document in read(tmp_path / f"TED.en-sw.{code}")[0]] == ["a"]


@pytest.mark.parametrize(("first", "second"), [(3, 2), (2, 3), (0, 1), (5, 0)])
@pytest.mark.parametrize("policy", ["drop", "stop"])
def test_different_numbers_of_lines_are_an_error_that_names_both(tmp_path, read, first, second, policy):
    write(tmp_path, "TED.en-sw", b"a\n" * first, b"b\n" * second)
    with pytest.raises(CorpusError, match=rf"en has {first} lines and .*sw has {second}"):
        read(tmp_path, broken_records=policy)


def test_long_lines_go_with_their_translation(tmp_path, read):
    write(tmp_path, "TED.en-sw", b"a\n" + b"x" * 99 + b"\nc\n", b"d\ne\nf\n")
    found, counts = read(tmp_path, max_document_bytes=50)
    assert [document.target for document in found] == ["d", "f"]
    assert dict(counts.dropped) == {"too_long": 1}


def test_one_side_cut_short(tmp_path, read):
    write(tmp_path, "TED.en-sw", b"a\n" * 3000, b"b\n" * 3000, ".gz")
    path = tmp_path / "TED.en-sw.sw.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorpusError, match=r"sw\.gz: the compressed file is cut short"):
        read(tmp_path)
    found, counts = read(tmp_path, cut_short="drop")
    assert 0 < len(found) <= 3000
    assert dict(counts.dropped) == {"cut_short": 1}


def test_a_missing_half(tmp_path, read):
    (tmp_path / "TED.en-sw.en").write_bytes(b"a\n")
    with pytest.raises(CorpusError, match=r"the pair 'TED\.en-sw' has 1 files"):
        read(tmp_path)


def test_names_that_name_no_pair_need_the_format(tmp_path, read):
    for code in ("de", "en"):
        (tmp_path / f"train.{code}").write_text(code)
    (tmp_path / "README.md").write_text("not a half")
    with pytest.raises(CorpusError, match="no files to read"):
        read(tmp_path)
    assert read(tmp_path, format="moses")[0] == [Document("de", "de", "train:1", "en", "en")]
    assert read(tmp_path, format="moses", language="en de")[0] == [Document("en", "en", "train:1", "de", "de")]
    (tmp_path / "train.fr").write_text("fr")
    with pytest.raises(CorpusError, match=r"3 files \(train\.de, train\.en, train\.fr\)"):
        read(tmp_path, format="moses")


def test_codes_may_be_replaced(tmp_path, read):
    write(tmp_path, "TED.en-sw", b"a\n", b"b\n")
    assert read(tmp_path, language="eng_Latn swh_Latn")[0][0].target_code == "swh_Latn"


@given(first=st.binary(max_size=30), second=st.binary(max_size=30))
def test_every_pair_is_counted_exactly_once(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("moses")
    write(folder, "TED.en-sw", first, second)
    lengths = [len(data.split(b"\n")) - (data.endswith(b"\n") or not data) for data in (first, second)]
    config, counts = InputConfig(path=str(folder)), ReadCounts()
    (file,) = find_inputs([config])
    documents = read_input(file, config, ReadConfig(), counts=counts, instructions=InstructionsConfig())
    if lengths[0] != lengths[1]:
        with pytest.raises(CorpusError):
            list(documents)
    else:
        assert len(list(documents)) + counts.dropped.total() == lengths[0]
