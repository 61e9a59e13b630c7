"""What all benchmarks share: alternate two sides on the same work, take medians, print a table and one JSON line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from megatron.config.architecture import Architecture

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One line of a benchmark's table.

    Attributes:
        case: what was measured.
        ours: rates of this project, one for each repetition, in ``unit``; higher is better.
        peer: rates of the peer on the same work; empty when the peer is not installed.
        peer_name: the peer and its version; empty where there is none.
        unit: what is counted per second.
        more: further columns of this project, by heading.
        missing: why there are no rates of the peer.
    """

    case: str
    ours: list[float]
    peer: list[float]
    peer_name: str
    unit: str
    more: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    missing: str = "is NOT INSTALLED"

    @property
    def ratio(self) -> float | None:
        """Median of ours over median of the peer; above 1 ours is better."""
        return statistics.median(self.ours) / statistics.median(self.peer) if self.peer else None


def small_llama(*, vocab_size: int, positions: int) -> Architecture:
    """Return the small shape of the benchmarks: hidden size 288, 6 layers."""
    return Architecture(
        vocab_size=vocab_size,
        hidden_size=288,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        head_dim=48,
        max_position_embeddings=positions,
    )


def parse_arguments(
    description: str,
    add: Callable[[argparse.ArgumentParser], None] | None = None,
    argv: Sequence[str] | None = None,
) -> argparse.Namespace:
    """Read ``--quick`` and ``--json``, and what ``add`` adds, from the command line or ``argv``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", action="store_true", help="make the last line one JSON object")
    if add is not None:
        add(parser)
    return parser.parse_args(argv)


def torch_arguments(description: str, *, precision: bool = False) -> tuple[argparse.Namespace, torch.device]:
    """Read ``--threads``, which is set, and the others; return them, and the GPU or else the CPU.

    Args:
        description: of the benchmark.
        precision: also read ``--precision``, by default ``fp32`` on a CPU and ``bfloat16`` on a GPU.
    """
    import torch  # other benchmarks do not wait for it

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
        if precision:
            default = "fp32" if device.type == "cpu" else "bfloat16"
            parser.add_argument("--precision", default=default, help="fp32 or bfloat16 (default: fp32 on a CPU)")

    arguments = parse_arguments(description, add)
    torch.set_num_threads(arguments.threads)
    return arguments, device


def alternate(
    ours: Callable[[int], object], peer: Callable[[int], object] | None, *, repetitions: int, amount: float
) -> tuple[list[float], list[float]]:
    """Run both sides in turn, after one warm-up each, and return their rates.

    Args:
        ours: does the work of repetition ``i``.
        peer: does the same work, or None where it is missing.
        repetitions: timed runs of each side.
        amount: units of work in one run.
    """
    rates: tuple[list[float], list[float]] = ([], [])
    for repetition in range(-1, repetitions):
        for side, run in enumerate((ours, peer)):
            if run is None:
                continue
            started = time.perf_counter()
            run(repetition)
            if repetition >= 0:
                rates[side].append(amount / (time.perf_counter() - started))
    return rates


def show(comparisons: Sequence[Comparison], *, as_json: bool) -> None:
    """Print the table, and the JSON line when it is asked for."""
    columns = list(dict.fromkeys(name for line in comparisons for name in line.more))
    headings = "".join(f"{name:>{_width(name)}}" for name in columns)
    print(f"{'case':<32}{'ours (range)':>28}{'peer (range)':>28}{'ratio':>8}{headings}  unit, peer")
    for line in comparisons:
        ratio = "-" if line.ratio is None else f"{line.ratio:.2f}"
        more = "".join(f"{_number(line.more.get(name)):>{_width(name)}}" for name in columns)
        missing = "" if line.peer or not line.peer_name else f" {line.missing}"
        peer = f"{line.unit}, {line.peer_name}{missing}" if line.peer_name else line.unit
        print(f"{line.case:<32}{_range(line.ours):>28}{_range(line.peer):>28}{ratio:>8}{more}  {peer}")
    if as_json:
        print(
            json.dumps(
                {
                    line.case: {
                        "ours": statistics.median(line.ours),
                        "peer": statistics.median(line.peer) if line.peer else None,
                        "ratio": line.ratio,
                        "unit": line.unit,
                        **line.more,
                    }
                    for line in comparisons
                }
            )
        )


def _width(heading: str) -> int:
    return max(9, len(heading) + 2)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _range(rates: Sequence[float]) -> str:
    if not rates:
        return "-"
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"
