#!/usr/bin/env python3
"""MB/s of checkpoints, written, waited for, and read, beside PyTorch's own files, in one process.

Both sides have the same state of one model and its optimizer (fp32 weights and Adam's moments), planned by
``torch.distributed.checkpoint``, and write until it is on disk; then the one before is deleted. ``waits`` is how long a
step stands still: bytes over the time that ``save`` takes, and over what the next update of the weights waits after a
forward and backward pass. ``waits and slows`` also counts by how much that pass takes longer than without a save. Their
peers are the same save without ``async_checkpoint``, and ``async_save`` as it comes. Ours writes checksums and compares
them when it reads; PyTorch's files have those of the zip format.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from common import Comparison, alternate, parse_arguments, show
from torch.distributed.checkpoint.state_dict import get_state_dict

from megatron.checkpoint.restore import load
from megatron.checkpoint.storage import LocalStorage
from megatron.checkpoint.store import CheckpointStore, Saved
from megatron.config.architecture import Architecture
from megatron.model.llama import Llama
from megatron.optim.adamw import build_adamw

SHAPE = Architecture(
    vocab_size=32_000, hidden_size=1_024, intermediate_size=2_816, num_hidden_layers=8, num_attention_heads=8,
    num_key_value_heads=8, head_dim=128, max_position_embeddings=4_096,
)  # fmt: skip


def trained() -> tuple[Llama, torch.optim.Optimizer]:
    """Return a model, and its optimizer after one step on made-up gradients."""
    model = Llama(SHAPE)
    model.init_weights(seed=1)
    optimizer = build_adamw(model, learning_rate=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def rates(waits: list[float], amount: float) -> list[float]:
    """Return MB/s of the repetitions, without the warm-up."""
    return [amount / seconds for seconds in waits[1:]]


def main() -> None:
    """Write, wait and read, each side in turn."""
    arguments = parse_arguments(__doc__ or "")
    repetitions = 2 if arguments.quick else 5
    model, optimizer = trained()
    amount = 12 * SHAPE.num_parameters() / 1e6
    name = f"torch {torch.__version__}"
    warnings.filterwarnings("ignore", message=".*torch.distributed is disabled.*")
    with tempfile.TemporaryDirectory() as folder:
        stores = {
            kind: CheckpointStore(LocalStorage(Path(folder) / str(kind)), in_background=kind, keep_last=1)
            for kind in (False, True)
        }
        theirs = Path(folder) / "theirs"
        waited: dict[str, list[float]] = {"ours": [], "update": [], "blocking": [], "async_save": []}
        slowed: list[float] = []
        tokens = torch.randint(SHAPE.vocab_size, (1, 257), generator=torch.Generator().manual_seed(1))

        def work() -> None:
            model(tokens[:, :-1], targets=tokens[:, 1:]).backward()
            optimizer.zero_grad()

        def work_seconds() -> float:
            started = time.perf_counter()
            work()
            return time.perf_counter() - started

        def state() -> dict[str, object]:
            weights, moments = get_state_dict(model, optimizer)
            return {"model": weights, "optimizer": {"state": moments["state"]}}

        def timed(side: str, begin: Callable[[], object]) -> None:
            started = time.perf_counter()
            begin()
            waited[side].append(time.perf_counter() - started)

        def save(kind: bool, step: int) -> Saved:
            store = stores[kind]
            timed(
                "ours" if kind else "blocking",
                lambda: store.save(step=step, model=model, optimizer=optimizer, state={}),
            )
            if kind:
                started = time.perf_counter()
                work()
                slowed.append(time.perf_counter() - started)
                timed("update", store.wait_copied)
            saved = store.wait()
            assert saved is not None
            return saved

        def peer_save(step: int) -> None:
            dcp.save(state(), checkpoint_id=theirs / str(step), no_dist=True)
            shutil.rmtree(theirs / str(step - 1), ignore_errors=True)

        def peer_async(step: int) -> None:
            futures = []
            timed(
                "async_save",
                lambda: futures.append(dcp.async_save(state(), checkpoint_id=theirs / str(step), no_dist=True)),
            )
            futures[0].result()
            shutil.rmtree(theirs / str(step - 1), ignore_errors=True)

        def peer_load(_: int) -> None:
            dcp.load(state(), checkpoint_id=theirs / str(repetitions - 1), no_dist=True)

        def our_load(_: int) -> None:
            newest = stores[False].newest()
            assert newest is not None
            load(newest, model=model, optimizer=optimizer)

        written = alternate(lambda i: save(False, i + 2), peer_save, repetitions=repetitions, amount=amount)
        alternate(lambda i: save(True, i + 2), peer_async, repetitions=repetitions, amount=amount)
        read = alternate(our_load, peer_load, repetitions=repetitions, amount=amount)
        alone = statistics.median(work_seconds() for _ in range(repetitions + 2))
    waits = [call + update for call, update in zip(waited["ours"], waited["update"], strict=True)]
    slows = [wait + max(0.0, with_save - alone) for wait, with_save in zip(waits, slowed, strict=True)]
    ours, blocking = rates(waits, amount), rates(waited["blocking"], amount)
    show(
        [
            Comparison("written", *written, f"{name}, dcp.save", "MB/s"),
            Comparison("waits, in background", ours, blocking, "the same, blocking", "MB/s"),
            Comparison("waits and slows", rates(slows, amount), blocking, "the same, blocking", "MB/s"),
            Comparison("waits, beside async_save", ours, rates(waited["async_save"], amount), name, "MB/s"),
            Comparison("read", *read, f"{name}, dcp.load", "MB/s"),
        ],
        as_json=arguments.json,
    )


if __name__ == "__main__":
    main()
