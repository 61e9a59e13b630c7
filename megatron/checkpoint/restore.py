"""Fills a model and its optimizer from a checkpoint, whatever the layouts of the two."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as load_tensors

from megatron.checkpoint.blocks import DamagedError
from megatron.checkpoint.plan import IndexedReader, tensors_of
from megatron.checkpoint.seal import MARKER
from megatron.checkpoint.storage import Storage
from megatron.checkpoint.store import CheckpointError
from megatron.parallel.process import Peers


def load(
    checkpoint: Storage, *, model: nn.Module, optimizer: torch.optim.Optimizer | None, peers: Peers | None = None
) -> None:
    """Fill ``model``, and ``optimizer`` if given, from a checkpoint. Every process must call this.

    A process reads what it holds and nothing else, one tensor at a time.

    Args:
        checkpoint: where it lies.
        model: its parameters are filled in place, whatever their layout; cast to their dtype.
        optimizer: its moments are filled, or None to take the weights alone.
        peers: all processes of the run; this one alone by default.

    Raises:
        DamagedError: the checkpoint's files are not what was written.
        CheckpointError: the checkpoint's tensors are not those of this model.
        OSError: it cannot be read now.
    """
    peers, reader = peers or Peers(), IndexedReader(checkpoint)
    _agree_on_the_index(reader, checkpoint, peers)
    weights, moments = get_state_dict(model, [] if optimizer is None else [optimizer])
    target = tensors_of(weights, moments)
    try:
        with _quiet_alone():
            load_tensors(target, storage_reader=reader, process_group=peers.group, no_dist=peers.size == 1)
    except (Exception, CheckpointException) as error:  # PyTorch raises many kinds for a foreign checkpoint
        reason = _innermost(error)
        if isinstance(reason, DamagedError):
            raise DamagedError(str(reason)) from error
        if isinstance(reason, OSError):
            raise OSError(f"{checkpoint} cannot be read now: {reason}") from error
        if optimizer is not None and "optimizer.state" in str(reason) and "Missing key" in str(reason):
            raise CheckpointError(f"{checkpoint} holds weights only: set `finetune: true`") from error
        told = f"{type(reason).__name__} {reason}".strip()
        raise CheckpointError(f"{checkpoint} cannot be loaded into this model: {told}") from error
    # Learning rate, decay and betas are the configuration's, not the checkpoint's: only moments are restored.
    set_state_dict(
        model,
        [] if optimizer is None else [optimizer],
        model_state_dict=target["model"],
        optim_state_dict={**moments, **target.get("optimizer", {})},
    )


def _agree_on_the_index(reader: IndexedReader, checkpoint: Storage, peers: Peers) -> None:
    """Let every process read the index, and fail in all when one cannot, or sees another checkpoint than the others."""
    found: bytes | Exception
    try:
        found = checkpoint.read(MARKER) if reader.index else b""
    except (DamagedError, OSError) as error:
        found = error
    everyone = peers.gather(found)

    def check() -> None:
        assert everyone is not None
        for rank, of_one in enumerate(everyone):
            if isinstance(of_one, DamagedError):
                raise of_one
            if isinstance(of_one, Exception):
                raise OSError(f"{checkpoint} cannot be read now: process {rank}: {of_one}")
        if len(set(everyone)) > 1:
            raise OSError(f"{checkpoint} is not the same for all processes: is it being written anew?")

    peers.from_main(check)


def _innermost(error: BaseException) -> BaseException:
    """Return the error itself: a collective one wraps those of the processes with their traces."""
    if isinstance(error, CheckpointException) and error.failures:
        failures = [failure for failure, _ in error.failures.values()]
        return next((failure for failure in failures if isinstance(failure, DamagedError)), failures[0])
    return error


@contextmanager
def _quiet_alone() -> Iterator[None]:
    """Hide PyTorch's warning that one process loads alone; that is what is wanted."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
