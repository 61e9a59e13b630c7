#!/usr/bin/env python3
"""Give a model rows for the new tokens of an extended tokenizer, and compare its bits per byte before and after."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.checkpoint.extend.rows import METHODS
from megatron.checkpoint.extend.run import Surgery
from megatron.evaluation.extend.run import PIVOTS, Trial, extend_model
from megatron.utils.log import setup_logging
from megatron.utils.tool import print_lines

_OF_TRIAL = ("languages", "text_bytes", "pivots", "max_pivot_change", "tiers", "batch_tokens")


def arguments() -> argparse.Namespace:
    """Return what is asked for; what is not is not there."""
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    add = parser.add_argument
    add("--model", required=True, help="Hugging Face folder, checkpoint or save folder; a checkpoint also s3://...")
    add("--tokenizer", type=Path, required=True, help="folder that tools/extend_tokenizer.py has written")
    add("--output", type=Path, required=True, help="Hugging Face folder to write, which must not exist")
    add("--init", choices=METHODS, default=METHODS[0], help="how new rows are made (default %(default)s)")
    add("--init-output", choices=METHODS, default=None, help="the same for the output matrix (default: --init)")
    add("--seed", type=int, default=0, help="of random rows (default 0)")
    add("--vocab-divisible-by", type=int, default=1, metavar="N", help="pad the rows to a multiple (default 1)")
    add("--texts", type=Path, default=None, help="folder of corpora, or prepared texts: scored before and after")
    add("--languages", nargs="+", help="swh_Latn, or swh with all its scripts; default all, and always the pivots")
    add("--text-bytes", type=int, help=f"most text of a language (default {Trial.text_bytes})")
    pivots = f"(default {' '.join(PIVOTS)}; --pivots alone: none)"
    add("--pivots", nargs="*", help=f"codes of the languages that must not get worse {pivots}")
    most = f"by more than this (default {Trial.max_pivot_change})"
    add("--max-pivot-change", type=float, metavar="PERCENT", help=most)
    add("--tiers", type=Path, help="a table with the columns code and tier, or a run's `save` folder or mixture.json")
    add("--batch-tokens", type=int, help=f"most tokens in one forward pass (default {Trial.batch_tokens})")
    args = parser.parse_args()
    idle = [f"--{name.replace('_', '-')}" for name in _OF_TRIAL if name in args]
    if args.texts is None and idle:
        parser.error(f"{', '.join(idle)}: nothing is scored without --texts")
    return args


def main() -> int:
    """Write the model and print the tables; 1 where something is wrong or a language has lost too much."""
    args = arguments()
    setup_logging()
    surgery = Surgery(
        model=args.model,
        tokenizer=args.tokenizer,
        output=args.output,
        init=args.init,
        init_output=args.init_output,
        vocab_divisible_by=args.vocab_divisible_by,
        seed=args.seed,
    )
    options = {name: getattr(args, name) for name in _OF_TRIAL if name in args}
    trial = None if args.texts is None else Trial(args.texts, **options)
    return print_lines(lambda: extend_model(surgery, trial))


if __name__ == "__main__":
    sys.exit(main())
