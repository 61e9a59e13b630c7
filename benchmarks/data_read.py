#!/usr/bin/env python3
"""Tokens per second of one process that reads samples, beside megatron-core's ``GPTDataset.__getitem__``.

Eight corpora of random uint16 tokens in files that lie in the page cache; samples of 4,096 tokens in each side's own
random order. Both sides end with inputs and targets as int64: ours, as the trainer has them, two views of a micro-batch
of eight rows; theirs eight dicts of copies, which its ``DataLoader`` would still have to stack. Corpora of one document
each are the peer's best case, for it looks up and copies every document of a sample by itself. The last row but one is
ours against reading the same files from start to end.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Comparison, alternate, parse_arguments, show
from gptdata import FLAGS, build_blend, has_peer, peer_name

from megatron.data.indexed import ShardWriter, bin_path
from megatron.data.loader import Loader
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo
from megatron.data.mixture import RunSize, plan_mixture
from megatron.data.order import SampleOrder
from megatron.data.prefetch import Prefetcher

CORPORA_MB = (16, 20, 24, 28, 32, 40, 48, 64)
"""Unequal on purpose: what it takes to find a sample depends on how far a corpus is from a power of four windows."""

LENGTH, ROWS = 4096, 8
VOCABULARY, EOD = 32_000, 2
MEAN_DOCUMENT_TOKENS = 700
Side = Callable[[int], object]


def write_corpora(folder: Path, *, one_document: bool) -> Manifest:
    """Write the shards: documents of random length, about 700 tokens, or one document for each corpus."""
    random = np.random.default_rng(0)
    shards = []
    for number, megabytes in enumerate(CORPORA_MB):
        tokens = megabytes * 500_000
        prefix = folder / f"corpus{number}"
        ends = np.array([], dtype=np.int64)
        if not one_document:
            ends = np.flatnonzero(random.random(tokens - 1) < 1 / MEAN_DOCUMENT_TOKENS) + 1
        lengths = np.diff(ends, prepend=0, append=tokens)
        ids = random.integers(3, VOCABULARY, tokens, dtype=np.uint16)
        ids[np.cumsum(lengths) - 1] = EOD
        with ShardWriter(prefix, dtype=np.uint16) as writer:
            writer.add_documents(ids, lengths)
        shards.append(
            ShardInfo(
                name=prefix.name,
                path=prefix.name,
                split="train",
                source="monolingual",
                language="und",
                script="Zyyy",
                documents=len(lengths),
                words=tokens,
                tokens=tokens,
                bytes=tokens,
                unk_tokens=0,
                dtype="uint16",
                content_hash=writer.content_hash,
            )
        )
    return Manifest(TokenizerInfo("none", "", VOCABULARY, EOD), tuple(shards), folder)


def our_loader(manifest: Manifest, *, samples: int) -> Loader:
    """Return the loader of a run over the corpora."""
    mixture = plan_mixture(manifest, None, run=RunSize(LENGTH, ROWS, samples // ROWS))
    order: SampleOrder = mixture.order(seed=0, seq_length=LENGTH)
    return Loader(order=order, manifest=manifest, shards=[corpus.shard for corpus in mixture.trained])


def samples_of(repetition: int, samples: int) -> range:
    """Return the samples of a repetition, which are numbered from -1, the warm-up."""
    return range((repetition + 1) * samples, (repetition + 2) * samples)


def micro_batches(numbers: range) -> Iterator[range]:
    """Cut sample numbers into micro-batches."""
    return (numbers[start : start + ROWS] for start in range(0, len(numbers), ROWS))


def our_batches(loader: Loader, numbers: range) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Read samples as micro-batches of inputs and targets."""
    for micro_batch in micro_batches(numbers):
        tokens = loader.batch(micro_batch)
        yield torch.from_numpy(tokens[:, :-1]), torch.from_numpy(tokens[:, 1:])


def drain(items: Iterator[Any]) -> None:
    """Take every item and forget it."""
    for _ in items:
        pass


def read_plainly(manifest: Manifest, samples: int) -> Callable[[int], None]:
    """Return a function that reads as many bytes, one after the other, into one small buffer.

    It goes through all files, which are larger than the processor's caches, before it begins again.
    """
    buffer = np.empty((ROWS, LENGTH), dtype=np.uint16)

    def pieces() -> Iterator[None]:
        while True:
            for shard in manifest.shards:
                with bin_path(manifest.prefix(shard)).open("rb", buffering=0) as file:
                    while file.readinto(buffer) == buffer.nbytes:
                        yield

    endless = pieces()
    return lambda _: drain(itertools.islice(endless, samples // ROWS))


def worker_batches(dataset: Any) -> Iterator[Any]:
    """Read all samples through one worker process of torch's ``DataLoader``, which is started before it is timed."""
    return iter(torch.utils.data.DataLoader(dataset, batch_size=ROWS, num_workers=1, prefetch_factor=4))


def peer_sides(manifest: Manifest, samples: int, total: int) -> tuple[Side | None, Side | None]:
    """Return the peer's two ways to read a repetition: by itself, and through a worker; None where it is missing."""
    if not has_peer():
        return None, None
    dataset = build_blend(
        [manifest.prefix(shard) for shard in manifest.shards],
        list(map(float, CORPORA_MB)),
        samples=total,
        seq_length=LENGTH,
        vocab_size=VOCABULARY,
        eod_id=EOD,
        cache=manifest.root / "cache",
    )
    batches = worker_batches(dataset)

    def direct(repetition: int) -> None:
        for number in samples_of(repetition, samples):
            dataset[number]

    return direct, lambda _: drain(itertools.islice(batches, samples // ROWS))


def our_sides(manifest: Manifest, samples: int, total: int) -> tuple[Side, Side]:
    """Return our ways to read a repetition: in line, and by a thread that reads ahead."""
    loader = our_loader(manifest, samples=total)

    def ahead(repetition: int) -> None:
        with Prefetcher(our_batches(loader, samples_of(repetition, samples)), 4) as batches:
            drain(batches)

    return lambda repetition: drain(our_batches(loader, samples_of(repetition, samples))), ahead


def compare(folder: Path, *, one_document: bool, repetitions: int, samples: int) -> list[Comparison]:
    """Measure all cases on one kind of corpora."""
    manifest = write_corpora(folder, one_document=one_document)
    total = samples * (repetitions + 1)
    direct, ahead = our_sides(manifest, samples, total)
    peer_direct, peer_worker = peer_sides(manifest, samples, total)
    unit, worker_name = "million tokens/s", f"{peer_name()} in one DataLoader worker"
    kind = "one document" if one_document else f"documents of {MEAN_DOCUMENT_TOKENS}"
    cases: list[tuple[str, Side, Side | None, str]] = [(f"read, {kind}", direct, peer_direct, peer_name())]
    if not one_document:
        cases += [
            ("read ahead", ahead, peer_worker, worker_name),
            ("share of plain reads", direct, read_plainly(manifest, samples), "sequential readinto of the same files"),
        ]
    return [
        Comparison(case, *alternate(ours, peer, repetitions=repetitions, amount=samples * LENGTH / 1e6), name, unit)
        for case, ours, peer, name in cases
    ]


def main() -> None:
    """Measure both kinds of corpora."""
    arguments = parse_arguments(__doc__ or "")
    torch.set_num_threads(1)
    repetitions, samples = (15, 1024) if arguments.quick else (61, 1024)
    lines = []
    for one_document in (False, True):
        with tempfile.TemporaryDirectory(prefix="data-read-") as folder:
            lines += compare(Path(folder), one_document=one_document, repetitions=repetitions, samples=samples)
    sizes = f"{len(CORPORA_MB)} corpora of {min(CORPORA_MB)} to {max(CORPORA_MB)} MB"
    print(f"{sizes}, {samples:,} samples of {LENGTH:,} tokens in each repetition")
    print(f"megatron-core's GPTDataset with {FLAGS}\n")
    show(lines, as_json=arguments.json)


if __name__ == "__main__":
    main()
