from __future__ import annotations

from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megatron.corpus import pieces as module
from megatron.corpus.document import CorpusError, Document
from megatron.corpus.engine.task import Outputs, TaskRecord
from megatron.corpus.pieces import CorpusName, PieceWriter, by_corpus, pieces_of, read_piece

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
DOCUMENTS = st.lists(
    st.tuples(
        st.sampled_from(["eng_Latn", "tha_Thai", "eng_Latn-tha_Thai"]),
        st.builds(
            Document, TEXT, st.none() | st.just("en"), st.just("f:1"), st.none() | TEXT, st.none() | st.just("th")
        ),
    ),
    max_size=40,
)


def write(
    folder: Path, documents: list[tuple[str, Document]], piece_bytes: int | None
) -> tuple[TaskRecord, dict[str, list[Document]]]:
    outputs = Outputs(folder, "task")
    writer = PieceWriter(outputs, "file", (0, "file", 0), piece_bytes=piece_bytes)
    for code, document in documents:
        source = "bilingual" if "-" in code else "monolingual"
        writer.add(CorpusName(code, source, code), document)
    result = {"pieces": writer.close()}
    expected: dict[str, list[Document]] = {}
    for code, document in documents:
        expected.setdefault(code, []).append(document)
    return TaskRecord("1", outputs.commit(), result), expected


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents=DOCUMENTS, piece_bytes=st.none() | st.integers(1, 300), frame_bytes=st.integers(1, 500))
def test_everything_that_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory,
    documents: list[tuple[str, Document]],
    piece_bytes: int | None,
    frame_bytes: int,
) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FRAME_BYTES", frame_bytes)
        patch.setattr(module, "_WAITING_BYTES", 2 * frame_bytes)
        record, expected = write(folder, documents, piece_bytes)
    found = pieces_of([record])
    for corpus, of_corpus in by_corpus(found).items():
        read = [document for piece in of_corpus for document in read_piece(folder, piece)]
        assert read == expected.pop(corpus.name)
        assert sum(piece.documents for piece in of_corpus) == len(read)
        assert sum(piece.text_bytes for piece in of_corpus) == sum(document.size_bytes for document in read)
        assert piece_bytes is not None or len(of_corpus) == 1
    assert not expected


def test_a_piece_ends_when_it_is_full(tmp_path: Path) -> None:
    record, _ = write(tmp_path, [("eng_Latn", Document("x" * 10))] * 25, piece_bytes=100)
    assert [piece.documents for piece in pieces_of([record])] == [10, 10, 5]


def test_a_damaged_piece_is_an_error(tmp_path: Path) -> None:
    record, _ = write(tmp_path, [("eng_Latn", Document("a long text " * 50))] * 25, piece_bytes=None)
    (piece,) = pieces_of([record])
    path = tmp_path / piece.path
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for damaged in (bytes(flipped), data[:-5], b"", zstandard.compress(b'{"txt": 1}\n'), zstandard.compress(b"[1]\n")):
        path.write_bytes(damaged)
        with pytest.raises(CorpusError):
            list(read_piece(tmp_path, piece))


def test_names_of_corpora() -> None:
    pair = CorpusName("eng_Latn-tha_Thai", "bilingual", "eng_Latn-tha_Thai")
    assert (pair.is_pair, pair.has_language, [label.script for label in pair.labels]) == (True, True, ["Latn", "Thai"])
    code = CorpusName("code-python", "code", "zxx_Zyyy")
    assert (code.is_pair, code.has_language) == (False, False)
