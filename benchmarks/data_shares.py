#!/usr/bin/env python3
"""Draws every sample of a full EMMA-500 run, and counts how far each language ends from its planned share.

12,000 steps of 4,096 samples over the 546 languages of MaLA that are large enough, with a rate for each tier; the peer
is the table of megatron-core (``build_blending_indices``) over the same weights, which says for every sample also the
how-manieth of its language it is; this project works that out when the sample is read. Each run is a process of its
own, so that its peak of memory is its own; the two sides take turns. Exits with 1 when a language is more than one
sample away from its plan, or when what is drawn in bulk is not what a training run would draw.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import importlib.metadata
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import Comparison, parse_arguments, show
from numpy.typing import NDArray

from megatron.data.interleaving import Interleaving
from megatron.data.phased_interleaving import OrderPhase, PhasedInterleaving

RATES = {"high": 0.5, "medium-high": 1.0, "medium": 2.0, "medium-low": 5.0, "low": 10.0}
BOUNDS = {"high": 1e9, "medium-high": 1e8, "medium": 1e7, "medium-low": 1e6, "low": 1e5}
STEPS, BATCH = 12_000, 4096
CHUNK = 1 << 20
LOCATED = 100_000
LANGUAGES = Path(__file__).resolve().parents[2] / "shared" / "data" / "mala" / "languages.tsv"


@dataclasses.dataclass(frozen=True)
class Language:
    """One corpus: its code, tier, and share of the run."""

    code: str
    tier: str
    share: float


@dataclasses.dataclass(frozen=True)
class Run:
    """What one process found.

    Attributes:
        seconds: to draw all samples, without starting Python.
        extra_bytes: peak of memory while drawing, above what was in use before.
        counts: samples of each language.
        wrong: samples out of ``LOCATED`` random ones that the scalar path places elsewhere (the peer has none).
    """

    seconds: float
    extra_bytes: int
    counts: list[int]
    wrong: int


def languages() -> list[Language]:
    """Return MaLA's languages with a tier, or as many of Zipf's where the table is not at hand."""
    if LANGUAGES.is_file():
        with LANGUAGES.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t"))
        sizes = [(row["code"], row["tier"], int(row["tokens"])) for row in rows if row["tier"] in RATES]
    else:
        zipf = {f"zipf{rank:03}": int(3e9 / rank**1.5) for rank in range(1, 547)}
        sizes = [(code, next(t for t, above in BOUNDS.items() if size > above), size) for code, size in zipf.items()]
    weights = [size * RATES[tier] for _, tier, size in sizes]
    return [Language(code, tier, weight / sum(weights)) for (code, tier, _), weight in zip(sizes, weights, strict=True)]


def draw_ours(shares: list[float], samples: int) -> Callable[[], NDArray[np.int64]]:
    """Return a function that draws every sample and counts, one chunk at a time."""

    def draw() -> NDArray[np.int64]:
        order = PhasedInterleaving([OrderPhase(0, 0, tuple(shares))])
        counts = np.zeros(len(shares), dtype=np.int64)
        for start in range(0, samples, CHUNK):
            counts += np.bincount(order.assign(start, min(start + CHUNK, samples)), minlength=len(shares))
        return counts

    return draw


def draw_peer(shares: list[float], samples: int) -> Callable[[], NDArray[np.int64]]:
    """Return a function that makes the peer's table and counts: its ``BlendedDataset`` needs both arrays at once."""
    from megatron.core.datasets import helpers_cpp

    def draw() -> NDArray[np.int64]:
        corpora, ordinals = np.zeros(samples, dtype=np.int16), np.zeros(samples, dtype=np.int64)
        helpers_cpp.build_blending_indices(corpora, ordinals, np.array(shares), len(shares), samples, False)
        counts = np.zeros(len(shares), dtype=np.int64)
        for start in range(0, samples, CHUNK):
            counts += np.bincount(corpora[start : start + CHUNK], minlength=len(shares))
        return counts

    return draw


def memory(name: str) -> int:
    """Return ``VmRSS`` (now) or ``VmHWM`` (peak) of this process in bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def misplaced(shares: list[float], samples: int) -> int:
    """Return how many of some random samples are located, one by one, in another corpus than assigned in bulk."""
    order = PhasedInterleaving([OrderPhase(0, 0, tuple(shares))])
    numbers = np.sort(np.array(random.Random(0).choices(range(samples), k=LOCATED)))
    wrong = 0
    for start in range(0, samples, CHUNK):
        corpora = order.assign(start, min(start + CHUNK, samples))
        mine = numbers[np.searchsorted(numbers, start) : np.searchsorted(numbers, start + CHUNK)]
        wrong += sum(order.locate(int(n))[0] != int(corpora[n - start]) for n in mine)
    return wrong


def measure(side: str, samples: int) -> Run:
    """Do the work of one side in this process, after a warm-up."""
    shares = [language.share for language in languages()]
    make = {"ours": draw_ours, "peer": draw_peer}[side]
    make(shares, 10_000)()
    draw = make(shares, samples)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before, started = memory("VmRSS"), time.perf_counter()
    counts = draw()
    seconds = time.perf_counter() - started
    extra = memory("VmHWM") - before
    return Run(seconds, extra, counts.tolist(), misplaced(shares, samples) if side == "ours" else 0)


def run_apart(side: str, samples: int) -> Run:
    """Do the work of one side in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--side", side, "--samples", str(samples)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Run(**json.loads(output.splitlines()[-1]))


def peer_version() -> str | None:
    """Return megatron-core's version, or None where it, or its compiled part, is not installed."""
    command = [sys.executable, "-W", "ignore", "-c", "from megatron.core.datasets import helpers_cpp"]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        return None
    return importlib.metadata.version("megatron-core")


def deviation(plan: list[Language], counts: list[int]) -> float:
    """Return the largest ``abs(drawn - share * samples)``."""
    return max(abs(n - language.share * sum(counts)) for language, n in zip(plan, counts, strict=True))


def off_by(plan: list[Language], counts: list[int]) -> int:
    """Return the largest ``abs(drawn - rounded plan)``."""
    return max(abs(n - round(language.share * sum(counts))) for language, n in zip(plan, counts, strict=True))


def show_tiers(plan: list[Language], counts: list[int]) -> None:
    """Print, for each tier, what was planned and what was drawn."""
    samples = sum(counts)
    print(f"{'tier':<14}{'languages':>10}{'planned share':>15}{'plan, samples':>18}{'drawn':>14}{'difference':>12}")
    for tier in RATES:
        members = [(language, n) for language, n in zip(plan, counts, strict=True) if language.tier == tier]
        share, drawn = sum(language.share for language, _ in members), sum(n for _, n in members)
        wanted = share * samples
        print(f"{tier:<14}{len(members):>10}{share:>15.4%}{wanted:>18,.2f}{drawn:>14,}{drawn - wanted:>+12.2f}")
    print(f"{'all':<14}{len(plan):>10}{1:>15.4%}{samples:>18,.2f}{samples:>14,}{0:>+12.2f}\n")


def show_runs(plan: list[Language], runs: dict[str, list[Run]]) -> None:
    """Print seconds, memory and deviation of both sides."""
    print(
        f"{'side':<22}{'seconds (range)':>24}{'extra memory':>14}{'largest |drawn - plan|':>24}{'to rounded plan':>17}"
    )
    for name, of_side in runs.items():
        seconds = [run.seconds for run in of_side]
        took = f"{statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"
        extra = f"{statistics.median(run.extra_bytes for run in of_side) / 1e6:,.0f} MB"
        counts = of_side[0].counts
        print(f"{name:<22}{took:>24}{extra:>14}{deviation(plan, counts):>24.3f}{off_by(plan, counts):>17}")
    print()


def compare(arguments: argparse.Namespace) -> bool:
    """Measure both sides in turn, print everything, and return whether our counts are right."""
    samples = (1_000 if arguments.quick else STEPS) * BATCH
    plan, version = languages(), peer_version()
    if not LANGUAGES.is_file():
        print(f"WARNING: {LANGUAGES} IS NOT HERE. These are NOT the languages of MaLA but {len(plan)} sizes by Zipf.\n")
    ours, peers = [], []
    for _ in range(3 if arguments.quick else 5):
        ours.append(run_apart("ours", samples))
        if version:
            peers.append(run_apart("peer", samples))
    peer_name = f"megatron-core {version}" if version else "megatron-core"
    print(f"{samples:,} samples over {len(plan)} languages, {'1,000' if arguments.quick else f'{STEPS:,}'} steps\n")
    show_tiers(plan, ours[0].counts)
    show_runs(plan, {"this project": ours} | ({peer_name: peers} if peers else {}))
    # Fractions are kept to 2**-32; see Interleaving.bounds.
    bound = Interleaving([language.share for language in plan]).bound() + samples / 2**30
    worst, wrong = max(off_by(plan, run.counts) for run in ours), sum(run.wrong for run in ours)
    print(f"in every prefix, no language is further from its share than {bound:.3f} samples")
    print(f"largest |drawn - rounded plan| of a language: {worst} (must be 0 or 1)")
    print(f"of {LOCATED:,} random samples, located elsewhere one by one than in bulk: {wrong} (must be 0)\n")
    cases: list[tuple[str, str, Callable[[Run], float]]] = [
        ("draw a run's samples", "1000 samples/s", lambda run: samples / run.seconds / 1e3),
        ("draw a run's samples, memory", "1000 samples/MB", lambda run: samples / run.extra_bytes * 1e3),
    ]
    lines = [
        Comparison(case, [value(run) for run in ours], [value(run) for run in peers], peer_name, unit)
        for case, unit, value in cases
    ]
    show(lines, as_json=arguments.json)
    return worst <= 1 and wrong == 0


def main() -> None:
    """Compare both sides, or be one of the processes that do the work."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--side", choices=("ours", "peer"), help=argparse.SUPPRESS)
        parser.add_argument("--samples", type=int, help=argparse.SUPPRESS)

    arguments = parse_arguments(__doc__ or "", add)
    if arguments.side:
        print(json.dumps(dataclasses.asdict(measure(arguments.side, arguments.samples))))
    elif not compare(arguments):
        sys.exit("the samples drawn are not those planned")


if __name__ == "__main__":
    main()
