from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megatron.checkpoint.blocks import DamagedError, FileSums
from megatron.checkpoint.index import Index, Part, StoredTensor

FILES = {"a.safetensors": FileSums(1000, ("00",))}
PARTS = (Part((0, 0), (3, 2), "a.safetensors", 8), Part((3, 0), (1, 2), "a.safetensors", 32))
WHOLE = StoredTensor(torch.float32, (4, 2), PARTS)
SCALAR = StoredTensor(torch.bfloat16, (), (Part((), (), "a.safetensors", 40),))


def test_an_index_comes_back() -> None:
    index = Index({"model.w": WHOLE, "optimizer.state.w.step": SCALAR}, FILES)
    assert Index.from_json(index.to_json()) == index
    metadata = index.metadata().state_dict_metadata["model.w"]
    assert [tuple(chunk.offsets) for chunk in metadata.chunks] == [(0, 0), (3, 0)]


def change(path: list[Any], value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(stored: dict[str, Any]) -> None:
        place: Any = stored
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return apply


PART = ["tensors", "model.w", "parts", 0]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (change(["version"], 2), "version 2"),
        (change([*PART, 3], 1.5), "no count"),
        (change([*PART, 3], -8), "no count"),
        (change([*PART, 3], True), "no count"),
        (change([*PART, 3], 990), "outside of a.safetensors"),
        (change([*PART, 2], "b.safetensors"), "outside of b.safetensors"),
        (change([*PART, 1], [5, 2]), "outside of it"),
        (change([*PART, 1], [2, 2]), "not the whole"),
        (change([*PART, 0], [1, 0]), "overlap"),
        (change([*PART, 0], [0]), "zip"),
        (change(["tensors", "model.w", "dtype"], "pickle"), "pickle"),
        (change(["tensors"], []), "cannot be read"),
        (change(["files", "a.safetensors", "bytes"], 5 << 20), "1 checksums for"),
        (change(["files", "../a"], {"bytes": 0, "blocks": []}), "not the name of a file beside it"),
    ],
)
def test_what_contradicts_itself_is_refused(broken: Callable[[dict[str, Any]], None], message: str) -> None:
    stored = orjson.loads(Index({"model.w": WHOLE}, FILES).to_json())
    broken(stored)
    with pytest.raises(DamagedError, match=message):
        Index.from_json(orjson.dumps(stored))


@given(st.data())
def test_a_grid_of_boxes_is_whole_and_with_one_moved_it_is_not(data: st.DataObject) -> None:
    """Every box that is moved by a step leaves a hole and lies on another, or outside."""
    cuts = [sorted({0, size, *data.draw(st.lists(st.integers(1, size - 1), max_size=3))}) for size in (12, 7)]
    boxes = [
        ((top, left), (bottom - top, right - left))
        for top, bottom in zip(cuts[0], cuts[0][1:], strict=False)
        for left, right in zip(cuts[1], cuts[1][1:], strict=False)
    ]
    boxes = data.draw(st.permutations(boxes))
    parts = [Part(offset, shape, "a", 0) for offset, shape in boxes]
    files = {"a": FileSums(1000, ("00",))}

    def stored(parts: list[Part]) -> bytes:
        return Index({"w": StoredTensor(torch.float32, (12, 7), tuple(parts))}, files).to_json()

    Index.from_json(stored(parts))
    moved = data.draw(st.integers(0, len(parts) - 1))
    (top, left), shape = boxes[moved]
    down, right = data.draw(st.sampled_from([(1, 0), (0, 1), (1, 1)]))
    parts[moved] = Part((top + down, left + right), shape, "a", 0)
    with pytest.raises(DamagedError, match=r"overlap|outside"):
        Index.from_json(stored(parts))
