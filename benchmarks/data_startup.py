#!/usr/bin/env python3
"""Seconds and memory until the first micro-batch of an EMMA-sized run, beside megatron-core.

546 corpora of MaLA's real sizes and 12,000 steps of 4,096 samples; then 3,053 corpora, MaLA's languages and pairs, of
which one sample each is read while open files are counted. The shards are sparse: real indices over empty space, with
few documents, which is of no use to us and saves the peer work.

The peer is megatron-core's ``BlendedDataset`` over ``GPTDataset``: "blend" is the first start of a run, which builds
its index files; "blend again" a later start of the same run, which finds them; "table" only the first of those files
(``build_blending_indices``). Each start is a process of its own; its imports are told apart and not counted. Exits with
1 when 1,024 or more files are open.
"""

from __future__ import annotations

import argparse
import bisect
import csv
import dataclasses
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import Comparison, parse_arguments, show
from gptdata import FLAGS, build_blend, has_peer, peer_name

if TYPE_CHECKING:
    from megatron.data.loader import Loader
    from megatron.data.manifest import ShardInfo

STEPS, BATCH, LENGTH, ROWS = 12_000, 4096, 4096, 8
VOCABULARY, EOD = 32_000, 2
TOKENS_PER_WORD = 2
DOCUMENT_TOKENS = 1 << 24
MALA = Path(__file__).resolve().parents[2] / "shared" / "data" / "mala"
MOST_FILES = 1024


@dataclasses.dataclass(frozen=True)
class Start:
    """What one process found.

    Attributes:
        import_seconds: until everything was imported.
        seconds: from there to the first micro-batch.
        extra_bytes: peak of memory until then, above what was in use after the imports.
        stages: seconds of each stage.
        open_files: most open files while one sample of every corpus was read; 0 where that was not done.
        every_seconds: how long that took.
        every_bytes: peak of memory until the end of that.
    """

    import_seconds: float
    seconds: float
    extra_bytes: int
    stages: dict[str, float]
    open_files: int = 0
    every_seconds: float = 0.0
    every_bytes: int = 0


def languages() -> list[tuple[str, int]]:
    """Return the codes and words of MaLA's 546 languages that are large enough; sizes by Zipf without the table."""
    path = MALA / "languages.tsv"
    if not path.is_file():
        return [(f"{three_letters(rank)}_Latn", int(3e9 / rank**1.5)) for rank in range(1, 547)]
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t")
        return [(row["code"], int(row["tokens"])) for row in rows if row["tier"] != "unseen"]


def pairs() -> list[tuple[str, int]]:
    """Return the codes and words of MaLA's 2,507 pairs; sizes by Zipf without the table."""
    path = MALA / "pairs.tsv"
    if not path.is_file():
        return [(f"eng_Latn-{three_letters(rank)}_Latn", max(15, int(3e10 / rank**2.5))) for rank in range(1, 2508)]
    with path.open(encoding="utf-8", newline="") as lines:
        return [(row["pair"], int(row["total_tokens"])) for row in csv.DictReader(lines, delimiter="\t")]


def three_letters(number: int) -> str:
    """Return a made-up language code."""
    return "".join(chr(ord("a") + number // 26**place % 26) for place in (2, 1, 0))


def write_corpora(folder: Path, corpora: list[tuple[str, int]]) -> int:
    """Write sparse shards and their manifest, with a held-out entry for each corpus; return the bytes on disk."""
    from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo, save_manifest

    shards = []
    for code, words in corpora:
        ids, scripts = zip(*(part.split("_") for part in code.split("-")), strict=True)
        tokens = words * TOKENS_PER_WORD
        shard = ShardInfo(
            name=code,
            path=f"{code}_train_text_document",
            split="train",
            source="bilingual" if "-" in code else "monolingual",
            language="-".join(ids),
            script="-".join(scripts),
            documents=-(-tokens // DOCUMENT_TOKENS),
            words=words,
            tokens=tokens,
            bytes=words * 6,
            unk_tokens=0,
            dtype="uint16",
            content_hash="0123456789abcdef0123456789abcdef",
        )
        write_sparse(folder, shard)
        # Held-out entries make the manifest as long as a real one; nothing reads their files here.
        held_out = dataclasses.replace(shard, path=f"{code}_valid_text_document", split="valid")
        shards += [shard, held_out]
    save_manifest(Manifest(TokenizerInfo("none", "", VOCABULARY, EOD), tuple(shards)), folder)
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def write_sparse(folder: Path, shard: ShardInfo) -> None:
    """Write a shard whose tokens are all 0 and take no space."""
    import numpy as np

    from megatron.data.index_format import write_index
    from megatron.data.indexed import bin_path, idx_path

    prefix = folder / shard.path
    with bin_path(prefix).open("wb") as file:
        file.truncate(shard.tokens * 2)
    lengths = np.full(shard.documents, DOCUMENT_TOKENS, dtype="<i4")
    lengths[-1] = shard.tokens - DOCUMENT_TOKENS * (shard.documents - 1)
    with idx_path(prefix).open("wb") as file:
        write_index(file.write, np.dtype("<u2"), shard.documents, lambda: [lengths])


class Clock:
    """Times the stages of a start, and its peak of memory from here on."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        self._before = memory("VmRSS")
        self.started = self._last = time.perf_counter()

    def stage(self, name: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self.stages[name], self._last = now - self._last, now

    def extra_bytes(self) -> int:
        """Return the peak so far, above the start; a page at least."""
        return max(4096, memory("VmHWM") - self._before)


def memory(name: str) -> int:
    """Return ``VmRSS`` (now) or ``VmHWM`` (peak) of this process in bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def start_ours(folder: Path, steps: int, *, every: bool) -> Start:
    """Start as a training run does, up to its first micro-batch; then read one sample of every corpus, if asked to."""
    began = time.perf_counter()
    from megatron.config.mixture_schema import MixtureConfig, TierConfig
    from megatron.data.loader import Loader
    from megatron.data.manifest import load_manifest
    from megatron.data.mixture import RunSize, plan_mixture

    # With pairs, whose smallest have 15 words, no corpus is too small, and the largest do not drown them.
    section = MixtureConfig(tiers={"all": TierConfig(above=0.0, rate=1.0)}, alpha=0.5) if every else MixtureConfig()
    clock = Clock()
    manifest = load_manifest(folder)
    clock.stage("manifest")
    mixture = plan_mixture(manifest, section, run=RunSize(LENGTH, BATCH, steps))
    clock.stage("mixture")
    order = mixture.order(seed=1234, seq_length=LENGTH)
    clock.stage("order")
    loader = Loader(order=order, manifest=manifest, shards=[corpus.shard for corpus in mixture.trained])
    assert loader.batch(range(ROWS)).shape == (ROWS, LENGTH + 1)
    clock.stage("first batch")
    seconds = time.perf_counter() - clock.started
    start = Start(clock.started - began, seconds, clock.extra_bytes(), clock.stages)
    if not every:
        return start
    firsts = [first_sample(order.interleaving.count, corpus) for corpus in range(len(mixture.trained))]
    return read_every(loader, firsts, start, clock)


def read_every(loader: Loader, numbers: list[int], start: Start, clock: Clock) -> Start:
    """Read these samples and count open files."""
    seconds, most = 0.0, 0
    for number in numbers:
        began = time.perf_counter()
        loader.sample(number)
        seconds += time.perf_counter() - began
        most = max(most, len(list(Path("/proc/self/fd").iterdir())))
    return dataclasses.replace(start, open_files=most, every_seconds=seconds, every_bytes=clock.extra_bytes())


def first_sample(count: Callable[[int, int], int], corpus: int) -> int:
    """Return the number of a corpus's first sample."""
    return bisect.bisect_left(range(1 << 62), 1, key=lambda sample: count(corpus, sample + 1))


def shares_of(folder: Path) -> tuple[list[Path], list[float]]:
    """Return the shards of a manifest and their shares by size, for the peer."""
    from megatron.data.manifest import load_manifest

    manifest = load_manifest(folder)
    shards = manifest.split("train")
    total = sum(shard.tokens for shard in shards)
    return [manifest.prefix(shard) for shard in shards], [shard.tokens / total for shard in shards]


def start_blend(folder: Path, steps: int) -> Start:
    """Build megatron-core's datasets and read a micro-batch."""
    prefixes, shares = shares_of(folder)
    began = time.perf_counter()
    from megatron.core.datasets import (  # noqa: F401
        blended_megatron_dataset_builder,
        gpt_dataset,
        helpers_cpp,
    )

    clock = Clock()
    dataset: Any = build_blend(
        prefixes,
        shares,
        samples=steps * BATCH,
        seq_length=LENGTH,
        vocab_size=VOCABULARY,
        eod_id=EOD,
        cache=folder / "cache",
    )
    clock.stage("datasets")
    assert [len(dataset[number]["tokens"]) for number in range(ROWS)] == [LENGTH] * ROWS
    clock.stage("first batch")
    return Start(clock.started - began, time.perf_counter() - clock.started, clock.extra_bytes(), clock.stages)


def start_table(folder: Path, steps: int) -> Start:
    """Build only megatron-core's table of which sample is of which corpus."""
    _, shares = shares_of(folder)
    began = time.perf_counter()
    import numpy as np
    from megatron.core.datasets import helpers_cpp

    samples = steps * BATCH
    clock = Clock()
    corpora, ordinals = np.zeros(samples, dtype=np.int16), np.zeros(samples, dtype=np.int64)
    helpers_cpp.build_blending_indices(corpora, ordinals, np.array(shares), len(shares), samples, False)
    clock.stage("table")
    return Start(clock.started - began, time.perf_counter() - clock.started, clock.extra_bytes(), clock.stages)


SIDES: dict[str, Callable[[Path, int], Start]] = {
    "ours": lambda folder, steps: start_ours(folder, steps, every=False),
    "ours, every corpus": lambda folder, steps: start_ours(folder, steps, every=True),
    "blend": start_blend,
    "blend again": start_blend,
    "table": start_table,
}


def run_apart(side: str, folder: Path, steps: int) -> Start:
    """Start one side in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--side", side, "--folder", str(folder), "--steps", str(steps)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return Start(**json.loads(output.splitlines()[-1]))


def show_starts(title: str, starts: dict[str, list[Start]]) -> None:
    """Print seconds, memory and stages of every side."""
    print(f"{title}\n{'side':<34}{'seconds (range)':>24}{'extra memory':>14}{'imports':>9}  stages")
    for name, of_side in starts.items():
        seconds = [start.seconds for start in of_side]
        took = f"{statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"
        extra = f"{statistics.median(start.extra_bytes for start in of_side) / 1e6:,.1f} MB"
        imports = f"{statistics.median(start.import_seconds for start in of_side):.1f} s"
        stages = ", ".join(
            f"{stage} {statistics.median(start.stages[stage] for start in of_side):.2f}" for stage in of_side[0].stages
        )
        print(f"{name:<34}{took:>24}{extra:>14}{imports:>9}  {stages}")
    print()


def comparisons(case: str, ours: list[Start], peers: list[Start], name: str) -> list[Comparison]:
    """Return the lines of the house table: starts that fit into an hour, and into a gigabyte."""
    values: list[tuple[str, str, Callable[[Start], float]]] = [
        (case, "starts/hour", lambda start: 3600 / start.seconds),
        (f"{case}, memory", "starts/GB", lambda start: 1e9 / start.extra_bytes),
    ]
    return [
        Comparison(label, [value(start) for start in ours], [value(start) for start in peers], name, unit)
        for label, unit, value in values
    ]


def measure_languages(steps: int, repetitions: int, peer_repetitions: int) -> list[Comparison]:
    """Measure the 546 corpora, the sides taking turns."""
    with tempfile.TemporaryDirectory(prefix="data-startup-") as name:
        corpora = languages()
        disk = write_corpora(Path(name), corpora)
        sides = ["ours", *(("blend", "blend again", "table") if has_peer() else ())]
        starts: dict[str, list[Start]] = {side: [] for side in sides}
        for repetition in range(repetitions):
            shutil.rmtree(Path(name) / "cache", ignore_errors=True)
            for side in sides if repetition < peer_repetitions else sides[:1]:
                starts[side].append(run_apart(side, Path(name), steps))
    words = sum(words for _, words in corpora)
    show_starts(
        f"{len(corpora)} corpora, {words * TOKENS_PER_WORD:,} tokens ({disk / 1e6:.0f} MB on disk), {steps * BATCH:,} "
        "samples",
        {"this project": starts["ours"]} | {f"{peer_name()}, {side}": starts[side] for side in sides[1:]},
    )
    lines = comparisons(f"start, {len(corpora)} corpora", starts["ours"], starts.get("blend", []), peer_name())
    if has_peer():
        lines += comparisons("start again", starts["ours"], starts["blend again"], f"{peer_name()}, with its files")
        lines += comparisons("start, beside its table", starts["ours"], starts["table"], f"{peer_name()}, table alone")
    return lines


def measure_all(steps: int, repetitions: int, *, with_table: bool) -> tuple[list[Comparison], int]:
    """Measure the 3,053 corpora, and return the largest number of open files too."""
    with tempfile.TemporaryDirectory(prefix="data-startup-") as name:
        corpora = languages() + pairs()
        disk = write_corpora(Path(name), corpora)
        ours = [run_apart("ours, every corpus", Path(name), steps) for _ in range(repetitions)]
        table = [run_apart("table", Path(name), steps)] if with_table and has_peer() else []
    words = sum(words for _, words in corpora)
    show_starts(
        f"{len(corpora)} corpora, {words * TOKENS_PER_WORD:,} tokens ({disk / 1e6:.0f} MB on disk), {steps * BATCH:,} "
        "samples",
        {"this project": ours} | ({f"{peer_name()}, table": table} if table else {}),
    )
    most = max(start.open_files for start in ours)
    every = statistics.median(start.every_seconds for start in ours)
    extra = statistics.median(start.every_bytes for start in ours)
    print(f"one sample of each of the {len(corpora)} corpora: {every:.2f} s, {extra / 1e6:.1f} MB extra in all")
    print(f"most open files: {most} (must be below {MOST_FILES})\n")
    name = f"{peer_name()}, table alone"
    return comparisons(f"start, {len(corpora)} corpora", ours, table, name) if table else [], most


def main() -> None:
    """Compare all sides, or be one of the processes that do the work."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
        parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
        parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)

    arguments = parse_arguments(__doc__ or "", add)
    if arguments.side:
        print(json.dumps(dataclasses.asdict(SIDES[arguments.side](arguments.folder, arguments.steps))))
        return
    if not MALA.is_dir():
        print(f"WARNING: {MALA} IS NOT HERE. These are NOT the sizes of MaLA's corpora but sizes by Zipf.\n")
    steps, repetitions, peer_repetitions = (1_000, 3, 1) if arguments.quick else (STEPS, 5, 3)
    lines = measure_languages(steps, repetitions, peer_repetitions)
    more, most = measure_all(steps, repetitions, with_table=not arguments.quick)
    print(f"blend: BlendedDataset over GPTDataset with {FLAGS}; table: build_blending_indices\n")
    show(lines + more, as_json=arguments.json)
    if most >= MOST_FILES:
        sys.exit(f"{most} files were open")


if __name__ == "__main__":
    main()
