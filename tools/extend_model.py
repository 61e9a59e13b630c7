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


def arguments() -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", required=True, help="Hugging Face folder, checkpoint or save folder; a checkpoint also s3://...")
    add("--tokenizer", type=Path, required=True, help="folder that tools/extend_tokenizer.py has written")
    add("--output", type=Path, required=True, help="Hugging Face folder to write, which must not exist")
    add("--init", choices=METHODS, default=METHODS[0], help="how new rows are made (default %(default)s)")
    add("--init-output", choices=METHODS, help="the same for the output matrix (default: --init)")
    add("--seed", type=int, default=0, help="of random rows (default 0)")
    add("--vocab-divisible-by", type=int, default=1, metavar="N", help="pad the rows to a multiple (default 1)")
    add("--texts", type=Path, help="folder of corpora, or prepared texts: scored before and after")
    add("--languages", nargs="+", help="codes such as swh_Latn, or languages such as swh; by default all")
    add("--text-bytes", type=int, default=100_000, help="most text of a language (default 100000)")
    add("--pivots", nargs="*", default=list(PIVOTS), help="languages that must not get worse (default eng_Latn)")
    add("--max-pivot-change", type=float, default=1.0, metavar="PERCENT", help="by more than this (default 1.0)")
    add("--tiers", type=Path, help="a table with the columns code and tier, or a run's `save` folder or mixture.json")
    add("--batch-tokens", type=int, default=8192, help="most tokens in one forward pass (default 8192)")
    return parser.parse_args()


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
    trial = None
    if args.texts is not None:
        trial = Trial(
            texts=args.texts,
            languages=args.languages,
            text_bytes=args.text_bytes,
            pivots=args.pivots,
            max_pivot_change=args.max_pivot_change,
            tiers=args.tiers,
            batch_tokens=args.batch_tokens,
        )
    return print_lines(lambda: extend_model(surgery, trial))


if __name__ == "__main__":
    sys.exit(main())
