import gzip

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.corpus_schema import InputConfig, InstructionsConfig, ReadConfig
from megatron.corpus.document import CorpusError, Document
from megatron.corpus.reading.find import find_inputs
from megatron.corpus.reading.read import REASONS, ReadCounts, read_input

GOOD = b'{"text":"fine"}\n'
BROKEN = [
    (b"{'text': 1}", "not_json"),
    (b'{"text":"ab\xff"}', "not_utf8"),
    (rb'{"text":"\ud800"}', "lone_surrogate"),
    (b"[1]", "not_an_object"),
    (b"3", "not_an_object"),
    (b'{"a":1}', "wrong_fields"),
    (b'{"text":3}', "wrong_fields"),
    (b'{"text":null}', "wrong_fields"),
    (b'{"text":"a","original_code":7}', "wrong_fields"),
    (b'{"text":" \\n"}', "blank"),
    (b'{"text":"%s"}' % (b"x" * 300), "too_long"),
]


@pytest.mark.parametrize(("line", "reason"), BROKEN)
def test_broken_records_are_counted_once_with_their_place(tmp_path, read, line, reason):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + line + b"\n" + GOOD)
    found, counts = read(path, max_document_bytes=300)
    assert [document.id for document in found] == ["a.jsonl:1", "a.jsonl:3"]
    assert dict(counts.dropped) == {reason: 1}
    assert reason in REASONS
    ((shown, place),) = counts.examples
    assert shown == reason
    assert place.startswith(f"{path}, line 2: ")
    if reason == "blank":
        read(path, max_document_bytes=300, broken_records="stop")
    else:
        with pytest.raises(CorpusError, match="line 2: "):
            read(path, max_document_bytes=300, broken_records="stop")


@given(lines=st.lists(st.sampled_from([GOOD, b"\n", b" \n", *(line + b"\n" for line, _ in BROKEN)]), max_size=30))
def test_every_record_is_counted_exactly_once(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(lines)))
    found, counts = reading(path)
    assert len(found) == counts.documents == lines.count(GOOD)
    assert counts.empty_lines == lines.count(b"\n") + lines.count(b" \n")
    assert counts.documents + counts.dropped.total() + counts.empty_lines == len(lines)
    assert counts.read_bytes == path.stat().st_size
    assert len(counts.examples) == sum(min(3, count) for count in counts.dropped.values())


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_a_file_that_is_cut_short(tmp_path, read, suffix, compress):
    texts = [str(number).rjust(6, "0") for number in range(50)]
    whole = b"".join(compress(orjson.dumps({"text": text}) + b"\n") for text in texts)
    path = tmp_path / f"a.jsonl{suffix}"
    for kept in (0, 7, len(whole) // 2 + 1, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(CorpusError, match="cut short"):
            read(path)
        found, counts = read(path, cut_short="drop")
        assert [document.text for document in found] == texts[: len(found)]
        assert dict(counts.dropped) == {"cut_short": 1}
        assert counts.examples == [("cut_short", f"{path}: the compressed file is cut short; fetch or write it again")]
    assert len(found) == 49 if suffix == ".zst" else len(found) >= 49


def test_broken_compression_is_an_error_whatever_the_policy(tmp_path, read):
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstandard.compress(GOOD) + b"garbage")
    with pytest.raises(CorpusError, match="compressed data is broken"):
        read(path, cut_short="drop")


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json.gz", "a.json.zst", "a.ndjson.gz"])
def test_the_names_of_json_lines(tmp_path, read, name):
    compress = {"gz": gzip.compress, "zst": zstandard.compress}.get(name.rpartition(".")[2], bytes)
    (tmp_path / name).write_bytes(compress(GOOD))
    assert read(tmp_path)[0] == [Document("fine", id=f"{name}:1")]


def test_a_plain_json_file_is_read_where_its_format_is_given(tmp_path, read):
    (tmp_path / "a.json").write_bytes(GOOD)
    with pytest.raises(CorpusError, match=r"1 x \.json, which cannot be read"):
        read(tmp_path)
    assert len(read(tmp_path, format="jsonl")[0]) == 1


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@given(data=st.one_of(st.binary(max_size=80), st.text(alphabet='{}[]":,\\tex1\n ', max_size=40).map(str.encode)))
def test_any_bytes_are_documents_counts_or_one_kind_of_error(tmp_path_factory, suffix, data):
    path = tmp_path_factory.mktemp("fuzz") / f"a.jsonl{suffix}"
    path.write_bytes(data)
    try:
        reading(path)
    except CorpusError as error:
        assert suffix
        assert str(path) in str(error)


def reading(path):
    config = InputConfig(path=str(path))
    (file,) = find_inputs([config])
    counts = ReadCounts()
    policy = ReadConfig(max_document_bytes=300)
    return list(read_input(file, config, policy, counts=counts, instructions=InstructionsConfig())), counts
