from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.corpus.reading.problems import ReadCounts
from megatron.evaluation.benchmarks.prepare.rows import object_rows, text_lines, tsv_rows

_PARTS = (b'"', b",", b"\n", b"\r", b"\t", b"a", b"\xff", b"{", b"}", b'{"a": 1}', b"\0")
_BYTES = st.lists(st.sampled_from(_PARTS)).map(b"".join)
_TEXTS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\r"))


def written(folder: str, name: str, content: bytes) -> Path:
    path = Path(folder) / name
    path.write_bytes(content)
    return path


@settings(max_examples=200, deadline=None)
@given(_BYTES)
def test_any_bytes_are_rows_or_counted(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("x.csv", "x.jsonl"):
            counts = ReadCounts()
            rows = list(object_rows(written(folder, name, content), (), counts))
            assert all(isinstance(row, dict) and row["row"].isdecimal() for row in rows)
        counts = ReadCounts()
        lines = content.split(b"\n")
        path = written(folder, "x.tsv", content)
        found = list(tsv_rows(path, counts))
        assert len(found) + sum(counts.dropped.values()) + counts.empty_lines in (len(lines), len(lines) - 1)
        counts = ReadCounts()
        assert all(text == text.strip() != "" for _, text in text_lines(path, counts))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(_TEXTS, min_size=2, max_size=2)))
def test_what_a_csv_writer_writes_is_read_back(rows: list[list[str]]) -> None:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([["a", "b"], *rows])
    with tempfile.TemporaryDirectory() as folder:
        counts = ReadCounts()
        found = list(object_rows(written(folder, "x.csv", file.getvalue().encode()), (), counts))
    assert [[row["a"], row["b"]] for row in found] == rows and not counts.dropped


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ('1\t"a ""b"""\tc', ["1", 'a "b"', "c"]),
        ('1\t"a\tb', ["1", '"a', "b"]),
        ('1\t"a" b\tc', ["1", "a b", "c"]),
        ("1\ta\r", ["1", "a"]),
    ],
)
def test_quotation_marks_in_tabs(tmp_path: Path, line: str, cells: list[str]) -> None:
    (tmp_path / "x.tsv").write_bytes(line.encode())
    assert list(tsv_rows(tmp_path / "x.tsv", ReadCounts())) == [(1, cells)]


def test_broken_rows_of_csv_are_counted(tmp_path: Path) -> None:
    content = b'a,b\n1,2\n3\n"4" x,5\n\xff,6\n7,"8\n9"\n'
    (tmp_path / "x.csv").write_bytes(content)
    counts = ReadCounts()
    rows = list(object_rows(tmp_path / "x.csv", (), counts))
    assert [(row["a"], row["b"]) for row in rows] == [("1", "2"), ("7", "8\n9")]
    assert counts.dropped == {"wrong_columns": 3}
