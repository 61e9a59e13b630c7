import importlib
import io
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.corpus_schema import InputConfig, InstructionsConfig, ReadConfig
from megatron.corpus.document import CorpusError, Document
from megatron.corpus.instructions import InstructionTemplate
from megatron.corpus.reading.fields import RecordFields
from megatron.corpus.reading.problems import Problems, ReadCounts
from megatron.corpus.reading.tables import table_documents

try:
    import pyarrow
    import pyarrow.parquet
except ImportError:
    pyarrow = None

needs_pyarrow = pytest.mark.skipif(pyarrow is None, reason="needs pyarrow: parquet and arrow files are not tested")
ROWS = [
    {"text": "один", "original_code": "ru", "n": 1},
    {"text": "", "original_code": None, "n": 2},
    {"text": "два", "original_code": None, "n": None},
]


def written(rows, kind, *, schema=None, **options) -> bytes:
    """Return the bytes of a file."""
    table = rows if isinstance(rows, pyarrow.Table) else pyarrow.Table.from_pylist(rows, schema=schema)
    data = io.BytesIO()
    if kind == "parquet":
        pyarrow.parquet.write_table(table, data, **options)
    else:
        open_writer = pyarrow.ipc.new_stream if kind == "stream" else pyarrow.ipc.new_file
        with open_writer(data, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    return data.getvalue()


@pytest.fixture
def table(tmp_path, read):
    """Return a function that writes rows and reads them back."""

    def run(rows, kind, *, schema=None, data=None, **settings):
        path = tmp_path / ("a.parquet" if kind == "parquet" else "a.arrow")
        path.write_bytes(written(rows, kind, schema=schema) if data is None else data)
        found, counts = read(path, **settings)
        if not counts.dropped:
            assert counts.read_bytes <= path.stat().st_size
        return found, counts

    return run


KINDS = ["parquet", "stream", "file"]


@needs_pyarrow
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_documents(table, kind):
    found, counts = table(ROWS, kind)
    name = "a.parquet" if kind == "parquet" else "a.arrow"
    assert found == [Document("один", "ru", f"{name}:1"), Document("два", None, f"{name}:3")]
    assert dict(counts.dropped) == {"blank": 1}
    assert counts.read_bytes > 0


@needs_pyarrow
@pytest.mark.parametrize("kind", KINDS)
def test_pairs_and_chats(table, kind):
    pair = {"src_text": "a", "tgt_text": "b", "src_lang": "en", "tgt_lang": "sw", "url": "u"}
    ((found), counts) = table([pair], kind)
    assert (found[0].text, found[0].target, found[0].target_code, counts.kinds["pair"]) == ("a", "b", "sw", 1)
    chat = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]
    assert [document.text for document in table([{"messages": chat, "id": 3}] * 5, kind)[0]] == ["a?\n\nb"] * 5


@needs_pyarrow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("type_name", ["string", "large_string", "binary", "large_binary", "dictionary", "string_view"])
def test_text_may_have_any_type_of_text(table, kind, type_name):
    if type_name == "string_view" and kind == "parquet":
        pytest.skip("Parquet has no such type")
    texts = pyarrow.array(["один", "два"])
    column = (
        texts.dictionary_encode()
        if type_name == "dictionary"
        else texts.cast(pyarrow.binary())
        if type_name == "binary"
        else texts.cast(getattr(pyarrow, type_name)())
    )
    found, _ = table(pyarrow.table({"text": column}), kind)
    assert [document.text for document in found] == ["один", "два"]


@needs_pyarrow
@pytest.mark.parametrize("kind", KINDS)
def test_broken_rows_are_counted(table, kind):
    schema = pyarrow.schema([("text", pyarrow.binary())])
    rows = [{"text": b"fine"}, {"text": b"a\xff"}, {"text": None}, {"text": b"x" * 5000}, {"text": b"fine"}]
    found, counts = table(rows, kind, schema=schema, max_document_bytes=1000)
    assert [document.id[-2:] for document in found] == [":1", ":5"]
    assert dict(counts.dropped) == {"not_utf8": 1, "wrong_fields": 1, "too_long": 1}
    assert ", row 2: not UTF-8 at byte offset 1" in counts.examples[0][1]
    with pytest.raises(CorpusError, match="row 2"):
        table(rows, kind, schema=schema, broken_records="stop")


@needs_pyarrow
@pytest.mark.parametrize("kind", KINDS)
def test_none_of_the_columns(table, kind):
    with pytest.raises(CorpusError, match="none of the columns that are looked for; it has: body, n"):
        table([{"body": "a", "n": 1}], kind)
    assert table([{"body": "a", "n": 1}], kind, text_key="body")[0][0].text == "a"


@needs_pyarrow
@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_in_order_and_as_a_stream(table, kind):
    rows = [{"text": f"{number} {'x' * (number % 50)}"} for number in range(3000)]
    found, _ = table(rows, kind)
    assert [document.text for document in found] == [row["text"] for row in rows]


@needs_pyarrow
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_is_an_error(table, kind):
    whole = written([{"text": "some text"}] * 50, kind)
    for kept in range(0, len(whole) - 9, 97):
        try:
            found, _ = table([], kind, data=whole[:kept])
        except CorpusError as error:
            assert "cannot be read" in str(error) or "columns" in str(error)
        else:
            assert kind == "stream"  # a stream may end after any batch
            assert len(found) % 2 == 0


@needs_pyarrow
@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 1 << 32))
def test_changed_bytes_are_documents_counts_or_one_kind_of_error(tmp_path_factory, kind, seed):
    whole = bytearray(written(ROWS, kind))
    changes = random.Random(seed)
    for _ in range(changes.randint(1, 6)):
        whole[changes.randrange(len(whole))] = changes.randrange(256)
    path = tmp_path_factory.mktemp("fuzz") / "a"
    path.write_bytes(whole)
    counts = ReadCounts()
    fields = RecordFields(InputConfig(path="a"), InstructionTemplate(InstructionsConfig()), counts.kinds)
    problems = Problems(path, ReadConfig(), counts)
    try:
        for document in table_documents(fields.document, fields.names, "a", problems, is_parquet=kind == "parquet"):
            document.to_json()
    except CorpusError as error:
        assert str(path) in str(error)


@needs_pyarrow
def test_memory_does_not_grow_with_the_row_group(tmp_path):
    path = tmp_path / "a.parquet"
    noise = random.Random(0)
    texts = [noise.randbytes(50_000).hex() for _ in range(400)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts * 4}), path, use_dictionary=False, compression="none")
    assert path.stat().st_size > 150 << 20
    code = f"""
import resource
from pathlib import Path
import pyarrow.parquet
from megatron.config.corpus_schema import InputConfig, InstructionsConfig, ReadConfig
from megatron.corpus.reading.find import find_inputs
from megatron.corpus.reading.read import ReadCounts, read_input
config = InputConfig(path={str(path)!r})
(file,) = find_inputs([config])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
counts = ReadCounts()
for document in read_input(file, config, ReadConfig(), counts=counts, instructions=InstructionsConfig()): pass
assert counts.documents == 1600
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(grown.stdout) < 60


def test_pyarrow_is_asked_for_when_it_is_missing(tmp_path, read, monkeypatch):
    real = importlib.import_module

    def without(name, *args):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorpusError, match="needs pyarrow: pip install pyarrow"):
        read(tmp_path)
