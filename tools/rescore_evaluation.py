#!/usr/bin/env python3
"""Make scores again of the answers in a folder of results, by other metrics, without the model that gave them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.evaluation.benchmarks.rescore import rescore_folder
from megatron.evaluation.metrics.registry import MetricSettings
from megatron.utils.log import setup_logging
from megatron.utils.tool import print_lines


def arguments() -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("results", type=Path, help="folder of the results of a model; a trial's is `limit-N` in it")
    add(
        "--definitions", nargs="+", metavar="NAME",
        help="benchmarks, suites or files of definitions (default: all in the folder that come with the project)",
    )  # fmt: skip
    add(
        "--metrics", nargs="+", default=[], metavar="METRIC",
        help="of what the model has written, besides the metrics that the definitions name",
    )  # fmt: skip
    add("--spbleu-model", type=Path, help="sentencepiece model of FLORES-200, for spBLEU")
    add("--bertscore-model", type=Path, help="folder of an encoder, for BERTScore")
    add("--seed", type=int, default=0, help="of the evaluation (default 0)")
    return parser.parse_args()


def run(args: argparse.Namespace) -> Iterator[str]:
    """Make the scores again; yield what was done."""
    settings = MetricSettings(spbleu_model=args.spbleu_model, bertscore_model=args.bertscore_model, seed=args.seed)
    found = rescore_folder(args.results, definitions=args.definitions, metrics=args.metrics, settings=settings)
    yield from found.lines()
    if found.problems:
        raise ValueError("\n".join([f"{len(found.problems)} scores were left as they are:", *found.problems]))


def main() -> int:
    """Print what was done; 1 where scores could not be made again."""
    args = arguments()
    setup_logging()
    return print_lines(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
