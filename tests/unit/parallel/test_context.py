"""Parts of sequences: every token is somewhere once, sees its document up to itself, and has as much work as others."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from megatron.model.attention import Documents
from megatron.model.micro_batch import MicroBatch
from megatron.parallel.context import GatheredContext, own_context
from megatron.parallel.mesh import Axis


@st.composite
def rows_of_documents(draw: st.DrawFn) -> tuple[list[int], int, int, int]:
    """Return lengths of documents, rows, width and processes."""
    size, rows = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    width = 2 * size * draw(st.integers(1, 5))
    lengths = []
    for _ in range(rows):
        borders = sorted(draw(st.sets(st.integers(1, width - 1), max_size=4))) if width > 1 else []
        lengths += [stop - start for start, stop in zip([0, *borders], [*borders, width], strict=True)]
    return lengths, rows, width, size


@given(rows_of_documents())
def test_every_token_sees_its_document_up_to_itself(case: tuple[list[int], int, int, int]) -> None:
    lengths, rows, width, size = case
    tokens = torch.arange(rows * width).view(rows, width)
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    starts = [int((document == number).nonzero()[0]) for number in range(len(lengths))]
    found: list[int] = []
    for rank in range(size):
        axis = Axis(tuple(range(size)), rank)
        mine = own_context(MicroBatch(tokens, tokens, None, Documents.of(lengths)), axis)
        part = mine.inputs.flatten()
        pattern = GatheredContext.of(lengths, rows, width, axis)
        assert sum(span.queries for span in pattern.spans) == part.numel() == rows * width // size
        at = 0
        for span in pattern.spans:
            assert span.query == at
            at += span.queries
            for offset in range(span.queries):
                token = int(part[span.query + offset])
                found.append(token)
                # The last query of a span sees all of its keys, the others so many fewer.
                last_key = span.key + span.keys - (span.queries - offset)
                assert (span.key, last_key) == (starts[int(document[token])], token)
        offsets = pattern.packing.key_offsets.tolist()
        assert pattern.key_index.numel() == offsets[-1] == sum(span.keys for span in pattern.spans)
    assert sorted(found) == list(range(rows * width))


def test_positions_are_those_of_the_whole_row() -> None:
    tokens = torch.arange(100, 116).view(2, 8)
    parts = [own_context(MicroBatch(tokens, tokens), Axis((0, 1), rank)) for rank in range(2)]
    assert [part.inputs.tolist() for part in parts] == [
        [[100, 101, 106, 107], [108, 109, 114, 115]],
        [[102, 103, 104, 105], [110, 111, 112, 113]],
    ]
    assert all(part.positions is not None and torch.equal(part.positions % 8, part.inputs % 100 % 8) for part in parts)


def test_all_processes_have_the_same_work() -> None:
    def pairs(rank: int) -> int:
        spans = GatheredContext.of([64], 1, 64, Axis((0, 1, 2, 3), rank)).spans
        return sum(span.keys - span.queries + 1 + offset for span in spans for offset in range(span.queries))

    assert len({pairs(rank) for rank in range(4)}) == 1


def test_a_row_of_one_process_is_left_alone() -> None:
    batch = MicroBatch(torch.zeros(1, 4), torch.zeros(1, 4))
    assert own_context(batch, Axis((0,), 0)) is batch
