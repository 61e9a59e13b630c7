"""Writes a checkpoint of ours as a Hugging Face folder, one tensor at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from megatron.checkpoint.folder import stored_architecture, stored_tokenizer
from megatron.checkpoint.hf import save_model
from megatron.checkpoint.plan import IndexedReader
from megatron.checkpoint.shards import MODEL
from megatron.checkpoint.storage import Storage, open_storage
from megatron.checkpoint.store import CheckpointError, find_checkpoint, read_state

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def native_to_hf(source: str | Path, target: Path, *, dtype: torch.dtype) -> Storage:
    """Write weights, configuration and tokenizer, ready for ``AutoModelForCausalLM`` and ``AutoTokenizer``.

    The folder appears when it is complete. No more than one tensor is in memory.

    Args:
        source: a ``global_step<N>`` folder, or a run's ``save`` folder, whose newest complete checkpoint is taken; also
            of an object store.
        target: folder to write, which must not exist.
        dtype: dtype of the stored weights.

    Returns:
        The checkpoint that was taken.

    Raises:
        ValueError: there is no usable checkpoint, or something of the target's name.
    """
    if target.exists():
        raise CheckpointError(f"{target} exists; give another name, or delete it")
    checkpoint = find_checkpoint(open_storage(source))
    state = read_state(checkpoint)
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    with stored_tokenizer(checkpoint, state) as tokenizer:
        save_model(
            _StoredWeights(checkpoint),
            stored_architecture(state),
            temporary,
            dtype=dtype,
            bos_id=tokenizer.bos_id,
            eos_id=state["tokenizer"]["eod_id"],
        )
        tokenizer.save(temporary, prepend_bos=bool(state["tokenizer"]["prepend_bos"]))
    temporary.rename(target)
    return checkpoint


class _StoredWeights(Mapping[str, Tensor]):
    """The weights of a checkpoint, read when they are asked for."""

    def __init__(self, checkpoint: Storage) -> None:
        self._reader = IndexedReader(checkpoint)

    def __getitem__(self, name: str) -> Tensor:
        return self._reader.tensor(f"{MODEL}.{name}")

    def __iter__(self) -> Iterator[str]:
        prefix = f"{MODEL}."
        return (name.removeprefix(prefix) for name in self._reader.index.tensors if name.startswith(prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)
