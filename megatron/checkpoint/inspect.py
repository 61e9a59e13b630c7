"""Looks into checkpoints: what is in one, whether it is whole, how two differ; and averages several."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from megatron.checkpoint.blocks import DamagedError
from megatron.checkpoint.index import Index
from megatron.checkpoint.plan import IndexedReader
from megatron.checkpoint.seal import INDEX, MARKER, STATE, is_sealed, small_sums
from megatron.checkpoint.seal import verify as verify_files
from megatron.checkpoint.shards import MODEL, Box, Piece, arranged_file, file_name, row_groups
from megatron.checkpoint.storage import Storage
from megatron.checkpoint.store import CheckpointError, checkpoint_names, read_state, write_checkpoint
from megatron.config.compare import changed_settings
from megatron.utils.log import progress
from megatron.utils.table import text_table

_CONFIG = "config.yml"


def summary_lines(checkpoint: Storage) -> Iterator[str]:
    """Yield what is in a checkpoint: progress, layout, model, tokenizer, files with sizes and checksums, settings.

    Raises:
        DamagedError: one of its small files is not what was written.
        CheckpointError: ``state.json`` is not a run's.
    """
    index, state = IndexedReader(checkpoint).index, read_state(checkpoint)
    yield text_table(list(_facts(checkpoint, index, state)), left=2)
    yield ""
    rows = [["file", "bytes", "checksums", "the first"]]
    for name, sums in sorted(index.files.items()):
        rows.append([name, f"{sums.bytes:,}", f"{len(sums.blocks):,}", sums.blocks[0] if sums.blocks else "-"])
    yield text_table(rows)
    if checkpoint.size(_CONFIG) is not None:
        yield ""
        yield checkpoint.read(_CONFIG).decode("utf-8").rstrip()


def _facts(checkpoint: Storage, index: Index, state: Mapping[str, Any]) -> Iterator[list[str]]:
    yield ["checkpoint", str(checkpoint)]
    for name in ("step", "samples", "tokens"):
        if name in state:
            yield [name, f"{state[name]:,}"]
    layout = state.get("layout") or {}
    if layout:
        given = ", ".join(f"{name} {value}" for name, value in layout.items() if value not in (False, None, 1, "1f1b"))
        yield ["written by", given or "one process"]
    for name, value in (state.get("written") or {}).items():
        yield [name, str(value)]
    yield ["model", ", ".join(f"{name} {value}" for name, value in state.get("architecture", {}).items())]
    yield ["tokenizer", ", ".join(f"{name} {value}" for name, value in state.get("tokenizer", {}).items())]
    mixture = state.get("mixture") or {}
    yield ["corpora trained on", f"{len(mixture.get('corpora', ())):,}"]
    kinds: dict[str, list[int]] = {}
    for name, tensor in index.tensors.items():
        size = torch.Size(tensor.shape).numel()
        kinds.setdefault(f"{name.partition('.')[0]}, {str(tensor.dtype).removeprefix('torch.')}", []).append(size)
    for kind, sizes in kinds.items():
        yield [kind, f"{sum(sizes):,} numbers in {len(sizes):,} tensors"]


def verify_lines(places: Sequence[Storage]) -> Iterator[str]:
    """Read every byte of checkpoints, for a run's folder of all that it holds, and yield a line for each.

    Raises:
        DamagedError: at the end, when some are damaged.
        CheckpointError: at the end, when there was none in a place.
    """
    found = [(place, list(_checkpoints(place))) for place in places]
    num_damaged = 0
    for checkpoint in (checkpoint for _, of_place in found for checkpoint in of_place):
        try:
            index = verify_files(checkpoint, show_progress=True)
        except DamagedError as error:
            num_damaged += 1
            yield f"{checkpoint} is damaged: {error}"
            continue
        size = sum(sums.bytes for sums in index.files.values())
        yield f"{checkpoint} is whole: {len(index.files):,} files with {size:,} bytes, and all that lies beside them"
    if num_damaged:
        raise DamagedError(f"{num_damaged:,} of {sum(len(of_place) for _, of_place in found):,} are damaged")
    empty = [str(place) for place, of_place in found if not of_place]
    if empty:
        raise CheckpointError(f"no checkpoint in {', '.join(empty)}")


def _checkpoints(place: Storage) -> Iterator[Storage]:
    """Yield a checkpoint itself, or those of a run's folder, whatever their state; an unfinished one is none."""
    if is_sealed(place) or place.size(STATE) is not None:
        yield place
        return
    for name in checkpoint_names(place):
        if is_sealed(place / name):
            yield place / name


def difference_lines(first: Storage, second: Storage, *, shown: int | None = 20) -> Iterator[str]:
    """Yield how two checkpoints differ: settings, progress, and by how much each tensor of the model.

    The relative change of a tensor is the norm of the difference over the norm of the first.

    Args:
        first: the one that is compared with.
        second: the other.
        shown: so many tensors, those that have changed most; None for all.

    Raises:
        DamagedError: a file of one of them is not what was written.
    """
    readers = [IndexedReader(first), IndexedReader(second)]
    states = [read_state(first), read_state(second)]
    for name in ("step", "samples", "tokens"):
        if states[0].get(name) != states[1].get(name):
            yield f"{name}: {states[0].get(name)} -> {states[1].get(name)}"
    yield from _setting_lines(first, second)
    before, after = ({n for n in reader.index.tensors if n.startswith(f"{MODEL}.")} for reader in readers)
    yield from (f"{_short(name)} is only in {first}" for name in sorted(before - after))
    yield from (f"{_short(name)} is only in {second}" for name in sorted(after - before))
    changes = []
    both = [name for name in readers[0].index.tensors if name in before & after]
    for name in progress(both, description="comparing", unit="tensor"):
        shapes = [reader.index.tensors[name].shape for reader in readers]
        if shapes[0] != shapes[1]:
            yield f"{_short(name)} has shape {list(shapes[0])} in {first}, {list(shapes[1])} in {second}"
            continue
        groups = row_groups(shapes[0], readers[0].index.tensors[name].dtype.itemsize)
        norms = [_norms(*(reader.tensor(name, rows) for reader in readers)) for rows in groups]
        squared, squared_before, largest = zip(*norms, strict=True)
        changes.append(_Change(_short(name), sum(squared), sum(squared_before), max(largest)))
    yield from _change_lines(changes, shown)


def _setting_lines(first: Storage, second: Storage) -> Iterator[str]:
    if first.size(_CONFIG) is None or second.size(_CONFIG) is None:
        return
    texts = [checkpoint.read(_CONFIG).decode("utf-8") for checkpoint in (first, second)]
    yield from changed_settings(texts[0], texts[1])


@dataclasses.dataclass(frozen=True)
class _Change:
    name: str
    squared: float
    squared_before: float
    largest: float

    @property
    def relative(self) -> float:
        if self.squared == 0.0:
            return 0.0
        return float("inf") if self.squared_before == 0.0 else (self.squared / self.squared_before) ** 0.5


def _norms(old: Tensor, new: Tensor) -> tuple[float, float, float]:
    old = old.double()
    change = new.double() - old
    largest = change.abs().max().item() if change.numel() else 0.0
    return change.square().sum().item(), old.square().sum().item(), largest


def _change_lines(changes: Sequence[_Change], shown: int | None) -> Iterator[str]:
    changed = sorted((change for change in changes if change.squared), key=lambda change: -change.relative)
    if not changed:
        yield f"all {len(changes):,} tensors that both have are equal"
        return
    rows = [["tensor", "relative change", "largest change"]]
    rows += [[change.name, f"{change.relative:.3e}", f"{change.largest:.3e}"] for change in changed[:shown]]
    whole = _Change(
        f"all {len(changes):,} together",
        sum(change.squared for change in changes),
        sum(change.squared_before for change in changes),
        max(change.largest for change in changes),
    )
    rows.append([whole.name, f"{whole.relative:.3e}", f"{whole.largest:.3e}"])
    yield text_table(rows)
    if shown is not None and len(changed) > shown:
        yield f"{len(changed) - shown:,} more have changed less (--all shows them)"
    if len(changed) < len(changes):
        yield f"{len(changes) - len(changed):,} are equal"


def average(checkpoints: Sequence[Storage], folder: Storage, name: str) -> None:
    """Write the mean of the weights of checkpoints as a checkpoint of weights alone, one tensor at a time.

    What else it holds (configuration, tokenizer, progress) is the last one's.

    Args:
        checkpoints: two or more of the same model.
        folder: where to write.
        name: the new folder in it, which must not exist.

    Raises:
        CheckpointError: they do not fit together, or the folder exists.
        DamagedError: a file of one of them is not what was written.
    """
    if len(checkpoints) < 2:
        raise CheckpointError("an average needs at least two checkpoints")
    readers = [IndexedReader(checkpoint) for checkpoint in checkpoints]
    weights = [
        {name: tensor for name, tensor in reader.index.tensors.items() if name.startswith(f"{MODEL}.")}
        for reader in readers
    ]
    _check_same_shapes(checkpoints, [{name: t.shape for name, t in of_one.items()} for of_one in weights])
    last = weights[-1]
    boxes = [Box.all_of(name, t.dtype, t.shape) for name, t in last.items()]
    file = arranged_file(file_name(MODEL), boxes)

    def mean(piece: Piece) -> Iterator[Tensor]:
        for rows in piece.rows():
            total = readers[0].tensor(piece.name, rows).double()
            for reader in readers[1:]:
                total += reader.tensor(piece.name, rows)
            yield (total / len(readers)).to(piece.dtype)

    state = {**read_state(checkpoints[-1]), "averaged": [str(checkpoint) for checkpoint in checkpoints]}
    small = {name: checkpoints[-1].read(name) for name in small_sums(checkpoints[-1]) if name != INDEX}
    small[STATE] = json.dumps(state, indent=1).encode("utf-8")
    sources = " ".join(checkpoint.read(MARKER).decode("utf-8") for checkpoint in checkpoints)
    write_checkpoint(folder, name, [file], mean, small=small, description="averaging", resumes=sources)


def _check_same_shapes(checkpoints: Sequence[Storage], shapes: Sequence[Mapping[str, tuple[int, ...]]]) -> None:
    for checkpoint, of_one in zip(checkpoints[1:], shapes[1:], strict=True):
        different = sorted({name for name, _ in shapes[0].items() ^ of_one.items()})
        if different:
            raise CheckpointError(
                f"{checkpoint} is not the model of {checkpoints[0]}: they differ in {len(different):,} tensors, such "
                f"as {_short(different[0])}"
            )


def _short(name: str) -> str:
    return name.removeprefix(f"{MODEL}.")
