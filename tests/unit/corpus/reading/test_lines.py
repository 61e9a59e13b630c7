import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from megatron.corpus.reading.lines import lines


@given(
    text=st.binary(max_size=60).map(lambda data: data.replace(b"\r", b"\n")),
    limit=st.integers(0, 9),
    chunk=st.integers(1, 70),
)
def test_lines_are_those_of_split_whatever_the_chunks(tmp_path_factory, text, limit, chunk):
    path = tmp_path_factory.mktemp("lines") / "a.txt"
    path.write_bytes(text)
    expected = text.split(b"\n")
    if not expected[-1]:
        expected.pop()  # what follows the last line feed is no line when it is empty
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("megatron.corpus.reading.compressed._CHUNK_BYTES", chunk)
        found = list(lines(path, limit))
    if expected and len(expected[0]) <= limit:
        expected[0] = expected[0].removeprefix(b"\xef\xbb\xbf")
    assert found == [line if len(line) <= limit else None for line in expected]


def test_a_byte_order_mark_only_counts_at_the_start(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n")
    assert list(lines(path, 100)) == [b"a", b"\xef\xbb\xbfb"]


def test_a_long_line_is_never_held(tmp_path):
    path = tmp_path / "a.zst"
    path.write_bytes(zstandard.compress(b"first\n" + bytes(60 << 20) + b"\nlast"))
    tracemalloc.start()
    try:
        assert list(lines(path, 1 << 20)) == [b"first", None, b"last"]
        # One zstd input of 4 KiB is what this file is, so all of it is decoded at once; the line adds nothing to that.
        assert tracemalloc.get_traced_memory()[1] < 75 << 20
    finally:
        tracemalloc.stop()


def test_a_long_line_of_a_plain_file_takes_a_few_chunks(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"first\n" + bytes(60 << 20) + b"\nlast")
    tracemalloc.start()
    try:
        assert list(lines(path, 1 << 20)) == [b"first", None, b"last"]
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
