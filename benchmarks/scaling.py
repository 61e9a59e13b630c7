#!/usr/bin/env python3
"""Tokens per second of every layout on 1, 2, 4 and 8 processes, each with the same work, and what they send (gloo).

A step has as many rows for each process whatever the layout, so one row of the table compares with the same work in as
many processes that do not talk (``no messages``), which share the same cores: the ratio is the efficiency, and above 1
where a layout also divides the optimizer's work. Replicas are compared with ``DistributedDataParallel`` too, ZeRO 3
with plain ``fully_shard``; all sides take turns. Further columns, medians for one step:

- ``in messages``: share of the step that the main thread issues messages or waits for them, mean over processes. Where
  processes share cores most of a wait is another's turn. Measured in steps of its own.
- ``CPU s``, ``peer CPU s``, ``slowest``: CPU seconds of a process, gloo's threads included: mean of both sides, and of
  our busiest process. They hold where other programs use the cores, too.
- ``/ bytes``: ``CPU s`` over that of ``no messages`` and of one sum (all-reduce) of as many bytes. Clearly above 1, or
  rising with the processes, a layout costs more than what it moves. ``/ messages``: the same with as many sums as the
  layout has ``messages``; what is left is not the backend's, but the layout's own work.
- ``messages``, ``MB``: what the process that sends most sends, counted from its collectives with the formulas of rings;
  ``/ simulated``: that over what ``megatron/simulate`` says, where they differ most; ``/ kernel``: over what the kernel
  saw the process write, which is what this backend really sends.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from common import Comparison, parse_arguments, show
from messages import SENT, Messages, kernel_bytes
from scaling_steps import LAYOUTS, MICRO_BATCHES, NARROW, PEERS, WIDE, WIDTH, Step, fits, our_step, peer_step, run_of
from torch.multiprocessing.spawn import start_processes

from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from megatron.parallel.process import World
from megatron.simulate.traffic import traffic_of

ALONE, SUM, SUMS, UNIT = "no messages", "one sum", "as many sums", "tokens/s"
TOLERANCE = 0.02
"""Numbers for logs, which the simulator leaves out, are less than this share of the bytes."""


@dataclasses.dataclass
class Measured:
    """What one process measured of a layout.

    Attributes:
        seconds: of each repetition of a step, by side.
        cpu_seconds: the same, of this process's CPU time.
        in_messages: share of each step in which messages were counted.
        messages: operations that send, in a step.
        bytes: sent in a step, by formula.
        simulated_bytes: what the simulator says.
        kernel_bytes: what the kernel saw, or None.
    """

    seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    cpu_seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    in_messages: list[float] = dataclasses.field(default_factory=list)
    messages: int = 0
    bytes: float = 0.0
    simulated_bytes: float = 0.0
    kernel_bytes: float | None = None

    def take_turns(self, sides: Mapping[str, Step], repetitions: int) -> None:
        """Time a step of every side in turn, all processes together, after one round of warm-up."""
        for repetition in range(-1, repetitions):
            for side, step in sides.items():
                dist.barrier()
                started, cpu_started = time.perf_counter(), time.process_time()
                step()
                if repetition >= 0:
                    self.seconds.setdefault(side, []).append(time.perf_counter() - started)
                    self.cpu_seconds.setdefault(side, []).append(time.process_time() - cpu_started)

    def count(self, step: Step, repetitions: int) -> None:
        """Fill in what a step sends, after one step of warm-up."""
        for repetition in range(-1, repetitions):
            dist.barrier()
            before, started = kernel_bytes(), time.perf_counter()
            with Messages() as messages:
                step()
            if repetition >= 0:
                self.in_messages.append(messages.seconds / (time.perf_counter() - started))
            after = kernel_bytes()
            self.kernel_bytes = None if before is None or after is None else after - before
            self.messages, self.bytes = messages.count, messages.bytes


def plain_sums(messages: int, sent_bytes: float) -> Step:
    """Return as many sums, sending as many bytes together, as the process that sends most; all must call this."""
    most = torch.tensor([messages, sent_bytes], dtype=torch.float64)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    count = round(most[0].item())
    numbers = torch.zeros(max(1, round(most[1].item() / count / SENT["all_reduce"](dist.get_world_size()) / 4)))

    def step() -> None:
        for _ in range(count):
            dist.all_reduce(numbers)

    return step


def work(rank: int, size: int, folder: str, names: Sequence[str], shape: Architecture, repetitions: int) -> None:
    """Be one of ``size`` processes; write what was measured for each name."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store-{size}", rank=rank, world_size=size)
    cpu = torch.device("cpu")
    alone = our_step(Layout(), World(rank=0, size=1, device=cpu), shape)
    results = {ALONE: Measured()}
    results[ALONE].take_turns({ALONE: alone}, repetitions)
    for name in names:
        layout, measured = LAYOUTS[name](size), Measured()
        sent = traffic_of(run_of(layout, shape), position=rank * layout.pipeline // size)
        measured.simulated_bytes = sum(part.bytes for part in vars(sent).values())
        ours = our_step(layout, World(rank=rank, size=size, device=cpu), shape)
        measured.count(ours, repetitions)
        sides = {"ours": ours, ALONE: alone, SUM: plain_sums(1, measured.bytes)}
        sides[SUMS] = plain_sums(measured.messages, measured.bytes)
        if name in PEERS:
            sides["peer"] = peer_step(PEERS[name][1], shape)
        measured.take_turns(sides, repetitions)
        results[name] = measured
    written = {name: dataclasses.asdict(measured) for name, measured in results.items()}
    (Path(folder) / f"{size}-{rank}.json").write_text(json.dumps(written))
    dist.barrier()
    dist.destroy_process_group()


def measured_in(
    size: int, names: Sequence[str], shape: Architecture, repetitions: int
) -> dict[str, list[Measured]]:
    """Start ``size`` processes and return what each of them measured, by name."""
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        arguments = (size, folder, names, shape, repetitions)
        start_processes(work, arguments, nprocs=size, start_method="forkserver")
        ranks = [json.loads((Path(folder) / f"{size}-{rank}.json").read_text()) for rank in range(size)]
    return {name: [Measured(**rank[name]) for rank in ranks] for name in (ALONE, *names)}


def rates(ranks: Sequence[Measured], side: str) -> list[float]:
    """Return tokens per second of every repetition: it takes as long as its slowest process."""
    tokens = len(ranks) * MICRO_BATCHES * WIDTH
    return [tokens / max(seconds) for seconds in zip(*(rank.seconds[side] for rank in ranks), strict=True)]


def cpu_seconds(ranks: Sequence[Measured], side: str) -> float:
    """Return the mean over processes of their medians."""
    return statistics.mean(statistics.median(rank.cpu_seconds[side]) for rank in ranks)


def columns(ranks: Sequence[Measured]) -> dict[str, float | None]:
    """Return the further columns of a layout."""
    most = max(ranks, key=lambda rank: rank.bytes)
    ours, alone = cpu_seconds(ranks, "ours"), cpu_seconds(ranks, ALONE)
    return {
        "CPU s": ours,
        "peer CPU s": alone,
        "slowest": max(cpu_seconds([rank], "ours") for rank in ranks),
        "in messages": statistics.mean(statistics.median(rank.in_messages) for rank in ranks),
        "/ bytes": ours / (alone + cpu_seconds(ranks, SUM)),
        "/ messages": ours / (alone + cpu_seconds(ranks, SUMS)),
        "messages": max(rank.messages for rank in ranks),
        "MB": most.bytes / 1e6,
        "/ simulated": against_simulated(ranks),
        "/ kernel": most.bytes / most.kernel_bytes if most.kernel_bytes else None,
    }


def against_simulated(ranks: Sequence[Measured]) -> float:
    """Return bytes sent over bytes simulated, of the process where they differ most."""
    return max((rank.bytes / rank.simulated_bytes for rank in ranks), key=lambda ratio: abs(ratio - 1))


def disagreement(name: str, ranks: Sequence[Measured]) -> str | None:
    """Return in what a layout and the simulator differ by more than ``TOLERANCE``, or None."""
    ratio = against_simulated(ranks)
    return f"{name} x {len(ranks)}: bytes sent / simulated = {ratio:.3f}" if abs(ratio - 1) > TOLERANCE else None


def without_messages(ranks: Sequence[Measured], one: Sequence[Measured]) -> Comparison:
    """Return how near processes that do not talk come to one process, times the cores that there are for them."""
    cores = min(len(ranks), len(os.sched_getaffinity(0)))
    more = {"CPU s": cpu_seconds(ranks, ALONE), "peer CPU s": cpu_seconds(one, ALONE)}
    ideal = [rate * cores for rate in rates(one, ALONE)]
    return Comparison(f"{ALONE} x {len(ranks)}", rates(ranks, ALONE), ideal, f"1 process x {cores} cores", UNIT, more)


def comparisons(name: str, ranks: Sequence[Measured]) -> list[Comparison]:
    """Return a layout beside processes that do not talk, and beside its peer."""
    ours, case = rates(ranks, "ours"), f"{name} x {len(ranks)}"
    lines = [Comparison(case, ours, rates(ranks, ALONE), ALONE, UNIT, columns(ranks))]
    if name in PEERS:
        peer, more = PEERS[name][0], {"CPU s": cpu_seconds(ranks, "ours"), "peer CPU s": cpu_seconds(ranks, "peer")}
        version = f"{peer}, torch {torch.__version__}"
        lines.append(Comparison(f"{case}, {peer}", ours, rates(ranks, "peer"), version, UNIT, more))
    return lines


def main() -> None:
    """Measure every layout on every number of processes; fail where the simulator says other bytes."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--processes", type=int, nargs="+", choices=(2, 4, 8), help="default 2 4 8; 2 with --quick")
        parser.add_argument("--layouts", nargs="+", choices=list(LAYOUTS), default=list(LAYOUTS), metavar="NAME")
        parser.add_argument("--wide", action="store_true", help="hidden size 1,024 in 4 blocks, not 128 in 16")

    arguments = parse_arguments(__doc__ or "", add)
    repetitions = 2 if arguments.quick else 7
    lines, wrong = [], []
    shape = WIDE if arguments.wide else NARROW
    one = measured_in(1, [], shape, repetitions)[ALONE]
    for size in arguments.processes or ((2,) if arguments.quick else (2, 4, 8)):
        names = [name for name in arguments.layouts if fits(LAYOUTS[name](size), shape)]
        left_out = [f"{name} x {size}" for name in arguments.layouts if name not in names]
        if left_out:
            print(f"{', '.join(left_out)}: the model has too little to divide: NOT MEASURED")
        of_layout = measured_in(size, names, shape, repetitions)
        lines.append(without_messages(of_layout[ALONE], one))
        for name in names:
            lines += comparisons(name, of_layout[name])
            wrong.append(disagreement(name, of_layout[name]))
    print("megatron-core's tensor, pipeline and context parallelism need CUDA: NOT MEASURED")
    show(lines, as_json=arguments.json)
    if told := list(filter(None, wrong)):
        sys.exit("\n".join(told))


if __name__ == "__main__":
    main()
