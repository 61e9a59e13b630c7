import gzip

import pytest
import zstandard

from megatron.corpus.document import CorpusError, Document

COMPRESSORS = {".txt": bytes, ".txt.gz": gzip.compress, ".txt.zst": zstandard.compress}


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_text_file_is_one_document(tmp_path, read, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(COMPRESSORS[suffix](b"\xef\xbb\xbfone\r\n\ntwo\n"))
    assert read(path)[0] == [Document("one\r\n\ntwo\n", id=f"{path.name}:1")]
    assert read(path, language="sw")[0][0].original_code == "sw"


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_or_one_document_a_line(tmp_path, read, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(COMPRESSORS[suffix](b"one\r\n\n \r\ntwo \xff\nthree\xe2\x80\xa8x\nlooooong\nfour"))
    found, counts = read(path, format="lines", language="sw", max_document_bytes=9)
    assert [(document.text, document.id) for document in found] == [
        ("one", f"{path.name}:1"),
        ("three\u2028x", f"{path.name}:5"),
        ("looooong", f"{path.name}:6"),
        ("four", f"{path.name}:7"),
    ]
    assert {document.original_code for document in found} == {"sw"}
    assert counts.empty_lines == 2
    assert dict(counts.dropped) == {"not_utf8": 1}
    assert read(path, format="lines", max_document_bytes=7)[1].dropped["too_long"] == 2


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "blank"), (b" \n", "blank"), (b"a\xff", "not_utf8"), (b"x" * 101, "too_long")]
)
def test_a_text_file_that_cannot_be_used(tmp_path, read, data, reason):
    (tmp_path / "a.txt").write_bytes(data)
    found, counts = read(tmp_path / "a.txt", max_document_bytes=100)
    assert not found
    assert dict(counts.dropped) == {reason: 1}


def test_part_of_a_text_is_no_document(tmp_path, read):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a text " * 100)[:-10])
    with pytest.raises(CorpusError, match="cut short"):
        read(tmp_path)
    found, counts = read(tmp_path, cut_short="drop")
    assert not found
    assert dict(counts.dropped) == {"cut_short": 1}
