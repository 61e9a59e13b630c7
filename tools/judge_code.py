#!/usr/bin/env python3
"""Run programs that a model wrote for HumanEval or MultiPL-E against their tests, and print pass@k; needs no GPU.

judge_code.py --problems HumanEval.jsonl --samples samples.jsonl --allow-code-execution
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.evaluation.code.judge import judge, read_samples
from megatron.evaluation.code.problems import read_problems
from megatron.evaluation.code.sandbox import Limits
from megatron.utils.tool import print_lines


def main() -> int:
    """Judge and print the metrics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=Path, required=True, metavar="FILE", help="HumanEval's or MultiPL-E's")
    parser.add_argument("--samples", type=Path, required=True, metavar="FILE", help="`task_id` and `completion` a line")
    parser.add_argument("--allow-code-execution", action="store_true", help="programs may be run on this machine")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a program (default 10)")
    parser.add_argument("--memory-gb", type=float, default=2.0, help="of a process (default 2)")
    parser.add_argument("--workers", type=int, help="programs at a time (default: half of the processors)")
    arguments = parser.parse_args()

    def answer() -> Iterator[str]:
        judged = judge(
            read_problems(arguments.problems).problems,
            read_samples(arguments.samples),
            allow_code_execution=arguments.allow_code_execution,
            limits=Limits(seconds=arguments.seconds, memory_bytes=int(arguments.memory_gb * (1 << 30))),
            workers=arguments.workers,
        )
        yield from (f"{name:12} {value:.4f}" for name, value in judged.metrics.items() if name.startswith("pass@"))
        yield from (f"{name:12} {value:.0f}" for name, value in judged.metrics.items() if not name.startswith("pass@"))
        missing = [name for name in ("network", "files", "processes") if not judged.isolation[name]]
        if missing:
            yield f"the kernel did not keep programs from: {', '.join(missing)}"

    return print_lines(answer)


if __name__ == "__main__":
    sys.exit(main())
