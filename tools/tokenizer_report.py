#!/usr/bin/env python3
"""Compare tokenizers on text in many languages: ``tools/tokenizer_report.py --tokenizer llama2=tokenizer.model ...``.

Writes report.html, tokens.tsv (a line for each language and tokenizer) and tokens.json into --output.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.corpus.measure.run import PIVOT, measure_corpora
from megatron.evaluation.report.scores.tiers import read_tiers
from megatron.evaluation.report.tokenizers.write import check_output, write_tokenizer_report
from megatron.tokenizer.measure.measurer import MeasureSettings
from megatron.tokenizer.measure.source import TokenizerSource
from megatron.utils.log import setup_logging
from megatron.utils.tool import paths_of, print_lines


def arguments() -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--tokenizer", action="append", default=[], metavar="NAME=PATH",
        help="once for each: a SentencePiece model, tiktoken ranks, a tokenizer.json or a folder with one of them",
    )  # fmt: skip
    add("--input", nargs="+", default=[], help="corpora: files or folders, with commas or blanks between")
    add(
        "--parallel", nargs="+", default=[], help="the same text in many languages, with commas or blanks between: "
        "folders of corpora whose records have the same numbers, or of pairs xxx_Ssss-yyy_Ssss",
    )  # fmt: skip
    add("--output", required=True, type=Path, help="the folder to write to: new, empty, or an earlier report")
    add("--pivot", "--pivots", default=PIVOT, help="the language to compare with, or its corpus (%(default)s)")
    add("--tiers", type=Path, help="a table with the columns code and tier, or a run's `save` folder or mixture.json")
    add("--context", type=int, default=4096, help="tokens of a context (default %(default)s)")
    add("--round-trip-share", type=float, default=1.0, metavar="SHARE", help="decode this part of the documents (all)")
    add("--jsonl-key", default="text", help="the JSON field that holds the text (default %(default)s)")
    add("--workers", type=int, default=1, help="processes; a file is the unit of work")
    add("--fast", action="store_true", help="encode with gigatoken, and check samples against the tokenizer itself")
    add("--rows", type=int, default=20, help="languages to list in the terminal, 0 for all (default %(default)s)")
    add("--no-progress", action="store_true", help="draw no progress bars")
    return parser.parse_args()


def run(args: argparse.Namespace) -> Iterable[str]:
    """Measure, and write the report; what is wrong with the tiers or the output is told before that."""
    tokenizers = TokenizerSource.parse(args.tokenizer, fast=args.fast)
    tiers = read_tiers(args.tiers) if args.tiers else None
    check_output(args.output)
    measured = measure_corpora(
        tokenizers,
        inputs=paths_of(args.input),
        parallel=paths_of(args.parallel),
        work=args.output,
        settings=MeasureSettings(args.context, args.round_trip_share),
        pivot=args.pivot,
        text_key=args.jsonl_key,
        workers=args.workers,
        show_progress=not args.no_progress,
    )
    return write_tokenizer_report(measured, args.output, tiers=tiers, shown=args.rows)


def main() -> int:
    """Compare; 1 where something is wrong, 2 where the command is."""
    args = arguments()
    setup_logging()
    return print_lines(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
