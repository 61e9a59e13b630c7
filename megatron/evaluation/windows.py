"""Texts cut into pieces that a model can read, and how likely each is: what training and evaluation alike score with.

Every window begins with the id that begins texts in training, every id is scored exactly once, and sums are float64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from megatron.model.loss import IGNORE
from megatron.parallel.engine import Engine
from megatron.utils.log import progress


@dataclasses.dataclass(frozen=True)
class Window:
    """A piece of a text: ``inputs[i]`` predicts ``targets[i]``.

    Attributes:
        group: what its sums are added to, such as the number of a document or of a corpus.
        inputs: int64 ids; the first one begins a text.
        targets: int64 ids, as long as ``inputs``; ``IGNORE`` where another window scores them.
    """

    group: int
    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]


def cut(
    ids: NDArray[np.int64], *, group: int, first_id: int, length: int, stride: int | None = None, start: int = 0
) -> Iterator[Window]:
    """Cut a text into windows that overlap, so that all but the first ids are predicted from many others.

    Args:
        ids: of the whole text, without the one that begins it, ``[tokens]``.
        group: of all windows.
        first_id: the id that begins a text.
        length: most ids of a window.
        stride: most ids that a window after the first scores; half of ``length`` by default.
        start: ids before this one are only read.
    """
    stride = max(1, length // 2) if stride is None else stride
    scored = start
    while scored < len(ids):
        end = min(len(ids), max(scored + stride, length))
        begin = max(0, end - length)
        targets = ids[begin:end].copy()
        targets[: scored - begin] = IGNORE
        yield Window(group, np.concatenate(([first_id], ids[begin : end - 1])), targets)
        scored = end


def score_windows(
    engine: Engine,
    windows: Sequence[Window],
    *,
    num_groups: int,
    batch_tokens: int,
    description: str,
    after_batch: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """Score every window once, the work divided over the processes.

    Args:
        engine: scores; all of its processes call this with the same windows, and return the same.
        windows: the longest first, which keeps padding small and lets memory run out at once or never.
        num_groups: one more than the largest group.
        batch_tokens: most tokens, padding included, in one forward pass.
        description: of the progress bar.
        after_batch: called after each of them.

    Returns:
        Of every group the nats, the number of ids, and how many of them are the model's likeliest,
        float64 ``[groups, 3]``. One message between the processes, however many groups there are.
    """
    mesh, world = engine.mesh, engine.mesh.world
    table = torch.zeros(num_groups, 3, dtype=torch.float64, device=world.device)
    batches = _batches(windows, batch_tokens)
    mine = batches[mesh.scorers.rank :: mesh.scorers.size]
    bar = progress(
        mine, description=description, unit="batch", disable=not world.is_main, only_on_a_terminal=True
    )
    for batch in bar:
        _score_batch(engine, batch, table)
        after_batch()
    if mesh.layout.stage and len(mine) * mesh.scorers.size < len(batches):
        # Processes that divide a model gather it together: as many passes in each, the last one for nothing.
        _score_batch(engine, batches[-1], torch.zeros_like(table))
    engine.release()
    sums: NDArray[np.float64] = (world.sum(table) / mesh.layout.tensor).cpu().numpy()
    return sums


def longest_first(windows: Iterator[Window]) -> list[Window]:
    """Return windows as :func:`score_windows` wants them, the same order whatever order they come in by group."""
    return sorted(windows, key=lambda window: (-len(window.inputs), window.group))


def _batches(windows: Sequence[Window], batch_tokens: int) -> list[Sequence[Window]]:
    batches = []
    start = 0
    while start < len(windows):
        rows = max(1, batch_tokens // len(windows[start].inputs))
        batches.append(windows[start : start + rows])
        start += rows
    return batches


def _score_batch(engine: Engine, batch: Sequence[Window], table: torch.Tensor) -> None:
    multiple = engine.mesh.tensor.size if engine.mesh.layout.sequence else 1
    shape = (len(batch), -(-len(batch[0].inputs) // multiple) * multiple)
    inputs, targets = np.zeros(shape, dtype=np.int64), np.full(shape, IGNORE, dtype=np.int64)
    for row, window in enumerate(batch):
        inputs[row, : len(window.inputs)] = window.inputs
        targets[row, : len(window.targets)] = window.targets
    wanted = torch.from_numpy(targets).to(table.device)
    scores = engine.score(torch.from_numpy(inputs).to(table.device), wanted)
    if scores is None:
        return  # another stage of the pipeline knows
    nats, least = scores.unbind(-1)
    known = wanted != IGNORE
    rows = torch.stack((nats.double().sum(1), known.double().sum(1), (known & (nats <= least)).double().sum(1)), dim=1)
    groups = torch.tensor([window.group for window in batch], device=table.device)
    table.index_add_(0, groups, rows)
