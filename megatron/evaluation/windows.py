"""Texts cut into pieces that a model can read, and how likely each is: what training and evaluation alike score with.

Every window begins with the id that begins texts in training, every id is scored exactly once, and sums are float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from megatron.evaluation.rows import Batch, Row, Window, shared_rows
from megatron.model.loss import IGNORE
from megatron.parallel.engine import Engine
from megatron.utils.log import progress


def cut(ids: NDArray[np.int64], *, group: int, first_id: int, length: int, start: int = 0) -> Iterator[Window]:
    """Cut a text into windows that overlap by half, so that all but the first ids are predicted from many others.

    Args:
        ids: of the whole text, without the one that begins it, ``[tokens]``.
        group: of all windows.
        first_id: the id that begins a text.
        length: most ids of a window.
        start: ids before this one are only read.
    """
    stride = max(1, length // 2)
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
    share: bool = False,
    after_batch: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """Score every window once, the work divided over the processes.

    Args:
        engine: scores; all of its processes call this with the same windows, and return the same.
        windows: the longest first, which keeps padding small and lets memory run out at once or never.
        num_groups: one more than the largest group.
        batch_tokens: most tokens, padding included, in one forward pass.
        description: of the progress bar.
        share: whether what windows have in common is read once (:func:`megatron.evaluation.rows.shared_rows`); for
            windows of questions, not for those of held-out text, which begin alike by chance only.
        after_batch: called after each of them.

    Returns:
        Of every group the nats, the number of ids, and how many of them are the model's likeliest,
        float64 ``[groups, 3]``. One message between the processes, however many groups there are.
    """
    mesh, world = engine.mesh, engine.mesh.world
    table = torch.zeros(num_groups, 3, dtype=torch.float64, device=world.device)
    rows = shared_rows(windows, batch_tokens=batch_tokens) if share else [Row.of(window) for window in windows]
    batches = _batches(rows, batch_tokens)
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


def _batches(rows: Sequence[Row], batch_tokens: int) -> list[Sequence[Row]]:
    batches = []
    start = 0
    while start < len(rows):
        count = max(1, batch_tokens // rows[start].num_tokens)
        batches.append(rows[start : start + count])
        start += count
    return batches


def _score_batch(engine: Engine, rows: Sequence[Row], table: torch.Tensor) -> None:
    multiple = engine.mesh.tensor.size if engine.mesh.layout.sequence else 1
    batch = Batch.of(rows, multiple=multiple, device=table.device)
    scores = engine.score(batch.inputs, batch.targets, positions=batch.positions, pattern=batch.mask)
    if scores is None:
        return  # another stage of the pipeline knows
    nats, least = scores.flatten(0, 1)[batch.places].unbind(-1)
    sums = torch.stack((nats.double(), torch.ones_like(nats).double(), (nats <= least).double()), dim=1)
    table.index_add_(0, batch.groups, sums)
