#!/usr/bin/env python3
"""One training step: this project against transformers' Llama with fused AdamW, and torchtitan where it is installed.

Same shape, batch, precision, recomputation and random data; forward, backward, clipping at 1.0 and the update. Each
side has a process of its own; small shapes take turns step by step, others follow one another. Operations are counted
as megatron/monitor/throughput.py says (recomputed ones are not), and set against the fastest matrix product of the same
run and, if it is known, the datasheet.

Commands for a GPU are in docs/performance.md. With ``--fp8 rowwise`` our own step without it is one of the peers.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import torch
from common import Comparison, parse_arguments, show, small_llama
from train_step_sides import NOT_INSTALLED, SIDES, Failed, Measured, Task, fastest_product, measure

from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from megatron.config.recomputation import Recomputation, modes_text
from megatron.monitor.throughput import training_flops_per_token
from megatron.simulate.budget import modes_within
from megatron.simulate.hardware import GPUS
from megatron.simulate.run import Run

SMALL_BATCH, SMALL_LENGTH = 4, 512


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
        task: what ours does.
        peers: names of the peers, each with its side and what it does.
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
            if arguments.activation_gib is not None:
                both = dataclasses.replace(both, recompute=within(arguments.activation_gib, both))
            mine = dataclasses.replace(both, fp8=arguments.fp8)
            yield Case(f"{precision}, {way}", mine, peers(both, fp8=arguments.fp8))
    if not large and not arguments.precision:
        wide = dataclasses.replace(task, shape=dataclasses.replace(task.shape, vocab_size=128_256))
        for precision in precisions:
            both = dataclasses.replace(wide, precision=precision)
            plain = dataclasses.replace(both, keeps_memory=False)
            yield Case(f"{precision}, 128,256 entries", both, {"transformers": ("transformers", plain)})


def within(gib: float, task: Task) -> Recomputation:
    """Return what blocks recompute so that they keep no more than this; told on the console."""
    element = 2 if task.precision == "bf16" else 4
    run = Run(task.shape, Layout(), task.length, task.batch, task.micro_batches, 1, element_bytes=element)
    modes = modes_within(run, budget_gib=gib)
    print(f"within {gib:g} GiB: {modes_text(modes)}", flush=True)
    return modes


def peers(task: Task, *, fp8: str | None) -> dict[str, tuple[str, Task]]:
    """Return who does the same. With 8-bit products of ours, ours without them is one of them.

    Peers are as they come; on a CPU transformers is there once more with the freed memory kept, as ours has it.
    """
    plain = dataclasses.replace(task, keeps_memory=False)
    found = {"transformers": ("transformers", plain)}
    if not task.cuda:
        found["transformers, memory kept"] = ("transformers", task)
    if task.precision == "bf16":
        found["transformers, bf16 weights"] = ("transformers", dataclasses.replace(plain, bf16_weights=True))
    found["torchtitan"] = ("torchtitan", plain)
    if fp8 is not None:
        found["ours, bf16"] = ("ours", task)
    return found


def lines(
    case: Case, measured: Mapping[str, Measured | Failed], ceiling: float, datasheet: float | None
) -> list[Comparison]:
    """Return a line for each peer; those that are not there, or have failed, are named."""
    mine, task = measured["ours"], case.task
    if isinstance(mine, Failed):
        raise ValueError(f"{case.name}: ours {mine.reason}")
    operations = training_flops_per_token(task.shape, seq_length=task.length) * task.tokens

    def line(peer: str, theirs: Measured | Failed) -> Comparison:
        more: dict[str, float | None] = {
            "TFLOP/s": operations / mine.median / 1e12,
            "of products": operations / mine.median / ceiling,
            "first s": mine.first_seconds,
            "peer first s": None,
            "MB": mine.peak_bytes / 1e6,
            "peer MB": None,
            "memory": None,
        }
        if datasheet is not None:
            more["MFU"] = operations / mine.median / datasheet
        rates, against, missing = [task.tokens / seconds for seconds in mine.seconds], [], NOT_INSTALLED
        if isinstance(theirs, Failed):
            missing = theirs.reason
        else:
            against = [task.tokens / seconds for seconds in theirs.seconds]
            more["peer first s"], more["peer MB"] = theirs.first_seconds, theirs.peak_bytes / 1e6
            more["memory"] = mine.peak_bytes / theirs.peak_bytes
        return Comparison(f"{case.name}; {peer}", rates, against, peer, "tokens/s", more, missing)

    return [line(peer, theirs) for peer, theirs in measured.items() if peer != "ours"]


def datasheet_of(device: torch.device, given: float | None) -> float | None:
    """Return the datasheet's FLOP/s in bfloat16, if they are given or known."""
    if given is not None:
        return given * 1e12
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((gpu.peak_flops for gpu in GPUS if gpu.name.partition("-")[0] in name), None)


def _arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--shape", choices=SHAPES, default="small", help="of the model (default small)")
        parser.add_argument("--precision", action="append", choices=["fp32", "bf16"], help="only this one")
        parser.add_argument("--batch", type=int, help="rows of a micro-batch (default: small 4, others 1)")
        parser.add_argument("--length", type=int, help="tokens of a row (default: small 512, others 4,096)")
        parser.add_argument("--micro-batches", type=int, default=1, help="of a step (default 1)")
        parser.add_argument("--recompute", choices=["full", "selective"], help="of all sides")
        parser.add_argument("--activation-gib", type=float, help="all sides: recompute as little as keeps within this")
        parser.add_argument("--fp8", help="ours: recipe of 8-bit products (needs torchao and an H100 or newer)")
        parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="beside ours (default all)")
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
    cuda = torch.cuda.is_available() and not arguments.cpu
    datasheet = datasheet_of(torch.device("cuda" if cuda else "cpu"), arguments.datasheet)
    found: list[tuple[Case, dict[str, Measured | Failed]]] = []
    ceilings: dict[str, list[float]] = {}
    for case in cases(arguments, cuda=cuda):
        precision = case.task.precision
        rate = fastest_product(precision, cuda=cuda, threads=arguments.threads)
        ceilings.setdefault(precision, []).append(rate)
        sides = {name: side for name, side in case.peers.items() if side[0] in arguments.sides}
        measured: dict[str, Measured | Failed] = {}
        for name, side in measure(
            {"ours": ("ours", case.task), **sides},
            repetitions=3 if arguments.quick else 11,
            together=not cuda or arguments.shape == "small",
            profiled=arguments.profile,
        ):
            measured[name] = side
            told = f"{side.profile}{case.task.tokens / side.median:,.0f} tokens/s" if isinstance(side, Measured) else ""
            print(f"{case.name}: {name}: {told or side.reason}", flush=True)  # type: ignore[union-attr]
        found.append((case, measured))
    print()
    result = [
        Comparison(f"products, {precision}", [rate / 1e9 for rate in rates], [], "", "GFLOP/s")
        for precision, rates in ceilings.items()
    ]
    for case, sides_of_case in found:
        result += lines(case, sides_of_case, max(ceilings[case.task.precision]), datasheet)
    show(result, as_json=arguments.json)


if __name__ == "__main__":
    main()
