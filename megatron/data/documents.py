"""Where documents begin and end inside training samples, found from the id that ends every document."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def document_lengths(inputs: NDArray[np.int64], eod_id: int) -> NDArray[np.int32]:
    """Return the lengths of the pieces that the borders of documents cut a batch into, row after row.

    A piece ends after each ``eod_id`` and at the end of each row.

    Args:
        inputs: ids ``[rows, seq_length]``.
        eod_id: the id that ends every document.

    Returns:
        int32 ``[pieces]``; they add up to ``rows * seq_length``.
    """
    ends = inputs == eod_id
    ends[:, -1:] = True
    return np.diff(np.flatnonzero(ends), prepend=-1).astype(np.int32)


def positions(lengths: NDArray[np.int32], rows: int, seq_length: int) -> NDArray[np.int64]:
    """Return each token's place in its piece of a document, counted from 0.

    Args:
        lengths: from :func:`document_lengths`, ``[pieces]``.
        rows: rows of the batch.
        seq_length: tokens in a row.

    Returns:
        int64 ``[rows, seq_length]``.

    Raises:
        ValueError: the lengths do not add up to the batch.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    if (total := int(ends[-1]) if len(ends) else 0) != rows * seq_length:
        raise ValueError(f"the lengths add up to {total}, but the batch has {rows} x {seq_length} tokens")
    return (np.arange(total) - np.repeat(ends - lengths, lengths)).reshape(rows, seq_length)


def mask_targets(targets: NDArray[np.int64], inputs: NDArray[np.int64], eod_id: int, ignore: int) -> NDArray[np.int64]:
    """Return a copy of ``targets`` with ``ignore`` where the end of a document would predict the next one's beginning.

    Args:
        targets: ids ``[rows, seq_length]``; may share memory with ``inputs``.
        inputs: ids of the same shape; ``inputs[r, i]`` predicts ``targets[r, i]``.
        eod_id: the id that ends every document.
        ignore: the target that the loss leaves out.
    """
    return np.where(inputs == eod_id, np.int64(ignore), targets)
