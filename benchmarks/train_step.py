#!/usr/bin/env python3
"""One training step: this project against transformers' Llama with fused AdamW, and torchtitan where it is installed.

Same shape, batch, precision, recomputation and random data; forward, backward, clipping at 1.0 and the update. Each
side has a process of its own; small shapes take turns step by step, others follow one another. Operations are counted
as megatron/monitor/throughput.py says (recomputed ones are not), and set against the fastest matrix product of the same
run and, if it is known, the datasheet.

On an 80 GB or larger GPU: ``--shape llama2-7b --micro-batches 4``, ``--shape llama3-8b --length 8192 --recompute
selective``, and the same with ``--fp8 rowwise``.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import torch
from common import Comparison, parse_arguments, show, small_llama
from train_step_sides import SIDES, Measured, Task, matmul_rate, measure

from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from megatron.config.recomputation import Recomputation, modes_text
from megatron.monitor.throughput import training_flops_per_token
from megatron.simulate.budget import modes_within
from megatron.simulate.run import Run

SMALL_BATCH, SMALL_LENGTH = 4, 512
DATASHEET = {"H200": 989, "H100": 989, "A100": 312, "B200": 2_250, "L40S": 362, "MI300X": 1_307, "MI250X": 383}
"""TFLOP/s in bfloat16 without sparsity, by what a device's name holds; of MI250X both of its parts."""


def llama(
    hidden: int, width: int, layers: int, heads: int, key_heads: int, vocabulary: int, theta: float
) -> Architecture:
    """Return a Llama with heads of ``hidden / heads``."""
    return Architecture(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=width, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=key_heads, head_dim=hidden // heads,
        max_position_embeddings=8_192, rope_theta=theta,
    )  # fmt: skip


SHAPES = {
    "small": small_llama(vocab_size=32_000, positions=SMALL_LENGTH),
    "1b": llama(2_048, 8_192, 16, 32, 8, 128_256, 5e5),
    "llama2-7b": llama(4_096, 11_008, 32, 32, 32, 32_000, 1e4),
    "llama3-8b": llama(4_096, 14_336, 32, 32, 8, 128_256, 5e5),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """Sides that do the same.

    Attributes:
        name: of the case.
        task: what they do.
        peers: names of the peers' lines, each with its side and what it does otherwise.
    """

    name: str
    task: Task
    peers: Mapping[str, tuple[str, Task]]


def cases(arguments: argparse.Namespace, cuda: bool) -> Iterator[Case]:
    """Return what is measured: by default, on a CPU, the small shape in all ways, then with a large vocabulary."""
    large = arguments.shape != "small"
    task = Task(
        dataclasses.replace(SHAPES[arguments.shape], max_position_embeddings=arguments.length),
        batch=arguments.batch, length=arguments.length, micro_batches=arguments.micro_batches,
        recompute=arguments.recompute, threads=arguments.threads, cuda=cuda,
    )  # fmt: skip
    precisions = ["bf16"] if large else ["fp32", "bf16"]
    for precision in arguments.precision or precisions:
        for compiled in (True,) if large else (False, True):
            way = "compiled" if compiled else "eager"
            both = dataclasses.replace(task, precision=precision, compiled=compiled)
            mine = dataclasses.replace(both, fp8=arguments.fp8)
            if arguments.activation_gib is not None:
                mine = dataclasses.replace(mine, recompute=within(arguments.activation_gib, mine))
            yield Case(f"{precision}, {way}", mine, peers(both))
    if not large and not arguments.precision:
        wide = dataclasses.replace(task, shape=dataclasses.replace(task.shape, vocab_size=128_256))
        for precision in precisions:
            both = dataclasses.replace(wide, precision=precision)
            yield Case(f"{precision}, 128,256 entries", both, {"transformers": ("transformers", both)})


def within(gib: float, task: Task) -> Recomputation:
    """Return what blocks recompute so that they keep no more than this; told on the console."""
    element = 2 if task.precision == "bf16" else 4
    run = Run(task.shape, Layout(), task.length, task.batch, task.micro_batches, 1, element_bytes=element)
    modes = modes_within(run, budget_gib=gib)
    print(f"within {gib:g} GiB: {modes_text(modes)}", flush=True)
    return modes


def peers(task: Task) -> dict[str, tuple[str, Task]]:
    """Return the peers of a task; they know full recomputation only."""
    known = dataclasses.replace(task, recompute="full" if task.recompute else None)
    found = {"transformers": ("transformers", known), "torchtitan": ("torchtitan", known)}
    if task.precision == "bf16":
        found["transformers, bf16 weights"] = ("transformers", dataclasses.replace(known, bf16_weights=True))
    return found


def lines(case: Case, measured: Mapping[str, Measured], ceiling: float, datasheet: float | None) -> list[Comparison]:
    """Return a line for each peer that was measured, or one without a peer."""
    mine, task = measured["ours"], case.task
    operations = training_flops_per_token(task.shape, seq_length=task.length) * task.tokens

    def line(peer: str | None) -> Comparison:
        theirs = None if peer is None else measured[peer]
        more: dict[str, float | None] = {
            "TFLOP/s": operations / mine.median / 1e12,
            "of products": operations / mine.median / ceiling,
            "first s": mine.first_seconds,
            "peer first s": None if theirs is None else theirs.first_seconds,
            "MB": mine.peak_bytes / 1e6,
            "peer MB": None if theirs is None else theirs.peak_bytes / 1e6,
            "memory": None if theirs is None else mine.peak_bytes / theirs.peak_bytes,
        }
        if datasheet is not None:
            more["MFU"] = operations / mine.median / datasheet
        rates = [task.tokens / seconds for seconds in mine.seconds]
        against = [] if theirs is None else [task.tokens / seconds for seconds in theirs.seconds]
        name = case.name if peer in (None, "transformers") else f"{case.name}; {peer}"
        return Comparison(name, rates, against, peer or "any peer", "tokens/s", more)

    return [line(peer) for peer in case.peers if peer in measured] or [line(None)]


def datasheet_of(device: torch.device, given: float | None) -> float | None:
    """Return the datasheet's FLOP/s in bfloat16, if they are given or known."""
    if given is not None:
        return given * 1e12
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((tflops * 1e12 for part, tflops in DATASHEET.items() if part in name), None)


def _arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--shape", choices=SHAPES, default="small", help="of the model (default small)")
        parser.add_argument("--precision", action="append", choices=["fp32", "bf16"], help="only this one")
        parser.add_argument("--batch", type=int, help="rows of a micro-batch (default: small 4, others 1)")
        parser.add_argument("--length", type=int, help="tokens of a row (default: small 512, others 4,096)")
        parser.add_argument("--micro-batches", type=int, default=1, help="of a step (default 1)")
        parser.add_argument("--recompute", choices=["full", "selective"], help="peers have `full` for both")
        parser.add_argument("--activation-gib", type=float, help="ours: recompute as little as keeps within this")
        parser.add_argument("--fp8", help="ours: recipe of 8-bit products (needs torchao and an H100 or newer)")
        parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="which (default all)")
        parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
        parser.add_argument("--datasheet", type=float, help="TFLOP/s of the device in bfloat16, if it is not known")
        parser.add_argument("--profile", action="store_true", help="also print where the time of a step goes")
        parser.add_argument("--cpu", action="store_true", help="although there is a GPU")

    arguments = parse_arguments(__doc__ or "", add, argv)
    small = arguments.shape == "small"
    arguments.batch = arguments.batch or (SMALL_BATCH if small else 1)
    arguments.length = arguments.length or (SMALL_LENGTH if small else 4_096)
    return arguments


def main() -> None:
    """Measure case after case; the ceiling is measured before each of them, and the best counts."""
    arguments = _arguments()
    device = torch.device("cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu")
    torch.set_num_threads(arguments.threads)
    datasheet = datasheet_of(device, arguments.datasheet)
    found: list[tuple[Case, dict[str, Measured]]] = []
    ceilings: dict[str, list[float]] = {}
    for case in cases(arguments, cuda=device.type == "cuda"):
        dtype = torch.bfloat16 if case.task.precision == "bf16" else torch.float32
        ceilings.setdefault(case.task.precision, []).append(matmul_rate(dtype, device))
        sides = {name: side for name, side in case.peers.items() if side[0] in arguments.sides}
        if "ours" in arguments.sides:
            sides = {"ours": ("ours", case.task), **sides}
        repetitions = 3 if arguments.quick else 11
        together = device.type == "cpu" or arguments.shape == "small"
        measured = dict(
            measure(sides, repetitions=repetitions, together=together, profiled=arguments.profile)
        )
        for name, side in measured.items():
            print(f"{side.profile}{case.name}: {name}: {case.task.tokens / side.median:,.0f} tokens/s", flush=True)
        found.append((case, measured))
    print()
    result = [
        Comparison(f"products, {precision}", [rate / 1e9 for rate in rates], [], "", "GFLOP/s")
        for precision, rates in ceilings.items()
    ]
    for case, measured in found:
        if "ours" in measured:
            result += lines(case, measured, max(ceilings[case.task.precision]), datasheet)
    show(result, as_json=arguments.json)


if __name__ == "__main__":
    main()
